"""`edgecxr export` on the command line."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from edgecxr.cli.extras import load_lab
from edgecxr.errors import UsageError

# What each target takes beside the others' options: with another, these would be passed over.
TRITON_ONLY = {"device"}
TRITON_TAKES = TRITON_ONLY | {"source", "output", "to", "name", "precisions"}
TOLD = {"note", "twins", "other_source", "left_out", "audit"}  # in the card, of a RUN as of a bundle
CARD_TAKES = TOLD | {"source", "output", "to", "overwrite"}


def export(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|BUNDLE",
            help="What edgecxr train wrote; or a bundle, for Triton or to add reports and notes to its card.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The bundle, a folder NAME.edgecxr, or the model repository.")
    ],
    to: Annotated[
        Literal["bundle", "triton"],
        typer.Option(help="A bundle of a RUN, or of a bundle a model repository for Triton Inference Server."),
    ] = "bundle",
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="DATA", help="The data of the run (default: where it was then); may be repeated."),
    ] = None,
    formats: Annotated[str, typer.Option(help="Files to put into the bundle: of onnx, tflite.")] = "onnx",
    precisions: Annotated[
        str | None,
        typer.Option(
            help="And in which precisions: of fp32, fp16, int8, int8-symmetric (default: fp32,int8; for triton one, as "
            "infer takes it)."
        ),
    ] = None,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="What Triton runs the model on.")] = "cpu",
    name: Annotated[
        str | None, typer.Option(help="Name of the model (default: xception-cxr; for triton, the bundle's).")
    ] = None,
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
    max_logits: Annotated[
        float, typer.Option(min=0, help="Percent of their spread that its logits may be off by (99th percentile).")
    ] = 10,
    twins: Annotated[Path | None, typer.Option(help="Report of benchmarks/twins.py, for the card.")] = None,
    other_source: Annotated[
        list[Path] | None, typer.Option(help="Report of edgecxr eval on another source, for the card.")
    ] = None,
    left_out: Annotated[
        list[Path] | None,
        typer.Option(help="Report of edgecxr eval on a RUN that a source was left out of, for the card."),
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

    Of a bundle, write it anew with more in its card (--other-source, --left-out, --audit, --twins, --note): all else
    stays to the byte. With --to triton, make a model repository of it; that needs no extra. Exit code 3 if it is
    refused.
    """
    of_bundle = _check_call(context, source, to)
    if to == "triton":
        from edgecxr_export.triton import repository

        models = repository.write(source, output, precision=precisions or "auto", device=device, name=name)
        typer.echo(f"model repository written to {output}: {', '.join(models)}", err=True)
        return
    console = Console(stderr=True, highlight=False, markup=False)
    told: dict[str, Any] = {
        "notes": note or [],
        "twins": _report(twins) if twins else None,
        "other_sources": [_report(path) for path in other_source or []],
        "left_out": [_report(path) for path in left_out or []],
        "audits": [_report(path) for path in audit or []],
    }
    if of_bundle:
        opened = load_lab("edgecxr_export.bundle.told", "export").tell(source, output, overwrite=overwrite, **told)
        console.print(f"bundle written to {output}, digest {opened.digest[:16]}")
        return
    stage = load_lab("edgecxr_export.stage", "export")
    options = stage.Options(
        formats=_listed(formats),
        precisions=_listed(precisions if precisions is not None else "fp32,int8"),
        opset=opset,
        calibration_pictures=calibration_pictures,
        full_range=full_range,
        gates=stage.Gates(max_drop=max_drop / 100, max_flips=max_flips / 100, int8_p99_logits=max_logits / 100),
    )
    stage.export(
        source,
        output,
        data or (),
        options=options,
        name=name if name is not None else "xception-cxr",
        version=model_version,
        parity_on=parity_on or [],
        outliers=outliers,
        cache=cache,
        overwrite=overwrite,
        console=console,
        **told,
    )


def _check_call(context: typer.Context, source: Path, to: str) -> bool:
    """Whether a bundle's card is to tell more; raises UsageError for what doesn't go together.

    That is an option of another target, or a source of the other kind, known by its content.
    """
    # typer's own class, which it took over from click: compared by name.
    given = {
        name for name in context.params if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }
    from edgecxr.bundle.reader import NAMED

    folder = NAMED.get(str(source), source)
    is_bundle, is_run = ((folder / name).is_file() for name in ("bundle.json", "run.json"))
    told = to == "bundle" and is_bundle and not is_run
    wrong = given - TRITON_TAKES if to == "triton" else given - CARD_TAKES if told else given & TRITON_ONLY
    if wrong:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(wrong))
        what = "of a bundle" if told else f"with --to {to}"
        raise UsageError(f"{what} there is nothing for these options to do: {options}")
    if told and not given & TOLD:
        raise UsageError(
            "expected a RUN, or with a bundle --to triton, or what its card is to tell: --other-source, "
            f"--left-out, --audit, --twins or --note; got a bundle: {source}"
        )
    if to == "triton" and is_run and not is_bundle:
        raise UsageError(f"--to triton takes a bundle (edgecxr export makes one of a RUN), got a RUN: {source}")
    return told


def _listed(text: str) -> tuple[str, ...]:
    """The different parts of a comma-separated list, in its order."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _report(path: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"the report can't be read ({type(error).__name__}): {path}") from None
    return report
