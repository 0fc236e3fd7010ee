"""`edgecxr export` on the command line."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from edgecxr.cli.extras import load_lab
from edgecxr.errors import UsageError


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="What edgecxr train wrote.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The bundle, a folder NAME.edgecxr.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="DATA", help="The data of the run (default: where it was then); may be repeated."),
    ] = None,
    formats: Annotated[str, typer.Option(help="Files to put into the bundle: of onnx, tflite.")] = "onnx",
    precisions: Annotated[
        str, typer.Option(help="And in which precisions: of fp32, fp16, int8, int8-symmetric.")
    ] = "fp32,int8",
    name: Annotated[str, typer.Option(help="Name of the model.")] = "xception-cxr",
    model_version: Annotated[str, typer.Option(help="Version of the model.")] = "0.1.0",
    opset: Annotated[int, typer.Option(min=17, max=18, help="ONNX operator set.")] = 17,
    calibration_pictures: Annotated[int, typer.Option(min=8, help="Training pictures that set the int8 ranges.")] = 128,
    full_range: Annotated[
        bool, typer.Option("--full-range", help="8-bit int8 weights: they saturate on x86 CPUs without VNNI.")
    ] = False,
    max_drop: Annotated[
        float, typer.Option(min=0, max=100, help="Points of accuracy that int8 may lose (on half of dev).")
    ] = 0.3,
    max_flips: Annotated[
        float, typer.Option(min=0, max=100, help="Percent of pictures whose class int8 may change there.")
    ] = 0.5,
    twins: Annotated[Path | None, typer.Option(help="Report of benchmarks/twins.py, for the card.")] = None,
    other_source: Annotated[
        list[Path] | None, typer.Option(help="Report of edgecxr eval on another source, for the card.")
    ] = None,
    audit: Annotated[
        list[Path] | None, typer.Option(help="Report of edgecxr audit, for what a thumbnail tells.")
    ] = None,
    parity_on: Annotated[
        list[Path] | None,
        typer.Option(metavar="DATA", help="Compare the artifacts with Keras on this labelled data too."),
    ] = None,
    outliers: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Pictures that are no frontal films: abstention learns from them too."),
    ] = None,
    note: Annotated[list[str] | None, typer.Option(help="A sentence for the model card; may be repeated.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for decoded pictures.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that exists.")] = False,
) -> None:
    """Convert a RUN to a bundle: ONNX and TFLite files, each compared with Keras on real pictures (extra: export).

    Exit code 5 if one strays from the Keras model on the half of dev that chose nothing: no bundle is written then, and
    NAME.refused.json says why. Test is reported and decides nothing.
    """
    stage = load_lab("edgecxr_export.stage", "export")
    options = stage.Options(
        formats=_listed(formats),
        precisions=_listed(precisions),
        opset=opset,
        calibration_pictures=calibration_pictures,
        full_range=full_range,
        gates=stage.Gates(max_drop=max_drop / 100, max_flips=max_flips / 100),
    )
    stage.export(
        run,
        output,
        data or (),
        options=options,
        name=name,
        version=model_version,
        notes=note or [],
        twins=_report(twins) if twins else None,
        other_sources=[_report(path) for path in other_source or []],
        audits=[_report(path) for path in audit or []],
        parity_on=parity_on or [],
        outliers=outliers,
        cache=cache,
        overwrite=overwrite,
        console=Console(stderr=True, highlight=False, markup=False),
    )


def _listed(text: str) -> tuple[str, ...]:
    """The different parts of a comma-separated list, in its order."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _report(path: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"the report can't be read ({type(error).__name__}): {path}") from None
    return report
