"""`edgecxr eval` on the command line. Parse, call, print, exit code; what it needs is loaded within it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from edgecxr import cli_lab, outputs
from edgecxr.cli_common import (
    DeviceOption,
    EngineOption,
    JsonOption,
    PrecisionOption,
    ThreadsOption,
    consoles,
    print_json,
)
from edgecxr.errors import UsageError

if TYPE_CHECKING:
    from edgecxr.evaluation.score import Scored

SUFFIXES = (".json", ".html")
PLOTS = ("confusion.png", "roc.png", "reliability.png")
# What tells a RUN, and the folder of a cross-validation's runs, from a bundle.
RUN_FILE, FOLDS_FILE = "run.json", "folds.json"


def evaluate(
    model: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="Bundle, or a RUN of edgecxr train; - is the embedded bundle.")
    ],
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="A folder per class, or a folder with a manifest.csv (of a RUN, by default: where it was then).",
        ),
    ] = None,
    split: Annotated[
        Literal["train", "dev", "test", "all"] | None,
        typer.Option(help="Default: test where there are splits, else all. A RUN has dev and test."),
    ] = None,
    where: Annotated[list[str] | None, typer.Option(help="Only pictures with COLUMN=VALUE in the manifest.")] = None,
    ignore_label: Annotated[list[str] | None, typer.Option(help="Leave out a label; may be repeated.")] = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    workers: Annotated[int | None, typer.Option("-j", "--workers", help="Batches in hand at a time.")] = None,
    threads: ThreadsOption = None,
    output: Annotated[
        list[Path] | None,
        typer.Option("-o", "--output", help="Write the report: .json, or .html for a page; may be repeated."),
    ] = None,
    plots: Annotated[Path | None, typer.Option(metavar="DIR", help=f"Write {', '.join(PLOTS)} there.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare a model's answers with labels, by class, origin and age, with intervals and calibration (extra: eval).

    A bundle scores the pictures on this device; of a RUN, or of a cross-validation's folder of them, the logits that
    training stored are taken.

    Exit codes: 0 all scored, 1 some rejected, 2 usage, 3 bundle refused, 4 device, engine or extra unavailable,
    70 a report can't be written on a full disk.
    """
    from edgecxr import terminal

    targets = output or []
    outputs.check_reports(targets, SUFFIXES, overwrite=overwrite)
    if plots is not None:
        _check_plots(plots, overwrite)
    reports = cli_lab.load_lab("edgecxr.evaluation.report", "eval")
    # A page or plots that can't be made shouldn't be noticed after the scoring.
    drawing = cli_lab.load_lab("edgecxr.evaluation.page", "eval") if targets or plots else None
    conditions = cli_lab.conditions(where)
    ignored = ignore_label or []
    out, err = consoles()
    of_runs = {RUN_FILE: _of_run, FOLDS_FILE: _of_folds}
    stored = next((of for file, of in of_runs.items() if (model / file).is_file()), None)
    if stored is not None:
        asked = {"--device": device, "--engine": engine, "--precision": precision, "-j": workers, "--threads": threads}
        _refuse_for_a_run(asked)
        scored, found = stored(model, data, split, conditions, ignored)
    elif data is None:
        raise UsageError(f"a bundle needs labelled pictures, give DATA: edgecxr eval {model} DATA")
    else:
        options = {
            "device": device,
            "engine": engine,
            "precision": precision,
            "workers": workers,
            "threads": threads,
        }
        scored, found = _of_bundle(model, data, split, conditions, ignored, options, err)
    bar = terminal.progress(err, "resampling")
    with bar:
        task = bar.add_task("", total=None)
        figures = reports.evaluate_logits(
            found["labels"],
            scored.examples,
            scored.logits,
            found["temperature"],
            operating_points=found["operating_points"],
            seed=seed,
            advance=lambda done, total: bar.update(task, completed=done, total=total),
        )
    report = {
        "data": found["data"],
        "split": found["split"],
        "where": conditions,
        "ignored_labels": ignored,
        **figures,
        "rejected": scored.rejected_json(),
        **found["provenance"],
    }
    try:
        if as_json:
            print_json(report)
        else:
            for table in terminal.evaluation_tables(report):
                out.print(table)
                out.print()
            for file, reason in scored.rejected:
                err.print(terminal.printable(f"rejected: {file}: {reason}"))
    finally:  # even where nobody reads the terminal any more
        _write(targets, plots, report, drawing)
    raise typer.Exit(1 if scored.rejected else 0)


def _of_bundle(
    path: Path,
    data: Path,
    split: str | None,
    conditions: dict[str, str],
    ignored: list[str],
    options: dict[str, Any],
    err: Console,
) -> tuple["Scored", dict[str, Any]]:
    """Logits of the pictures through the bundle's pipeline, and what else the report needs to know."""
    from edgecxr import pipeline, terminal
    from edgecxr.bundle import load
    from edgecxr.dataset import read_dataset
    from edgecxr.evaluation.score import check_ignored, default_split, score, select

    opened = load(None if str(path) == "-" else path)
    dataset = read_dataset(data)
    check_ignored(ignored, dataset.labels, opened.labels)
    chosen = split or default_split(dataset)
    examples = select(dataset.where(conditions), opened.labels, chosen, ignored)
    session = pipeline.open_session(opened, **options)
    bar = terminal.progress(err, "scoring")
    with bar:
        task = bar.add_task("", total=len(examples))
        scored = score(session, examples, lambda _: bar.advance(task))
    return scored, {
        "data": data.resolve().name,
        "labels": opened.labels,
        "split": chosen,
        "temperature": opened.temperature,
        "operating_points": opened.operating_points,
        "provenance": session.provenance.__dict__,
    }


def _of_run(
    path: Path, data: Path | None, split: str | None, conditions: dict[str, str], ignored: list[str]
) -> tuple["Scored", dict[str, Any]]:
    """The logits that the run stored; temperature and operating points are fitted on those of dev, as an export's."""
    from edgecxr.dataset import read_dataset
    from edgecxr.evaluation.operating import fit_operating_points
    from edgecxr.evaluation.score import check_ignored, narrowed, run_split, stored
    from edgecxr.evaluation.temperature import fit_temperature
    from edgecxr.postprocess import probabilities

    chosen = run_split(split)
    run = _read_run(path)
    dev, part = _logits(run, "dev"), _logits(run, chosen)
    dataset = read_dataset(data or _folder_of(run))
    check_ignored(ignored, dataset.labels, run.labels)
    scored = stored(dataset, run.labels, part.files, part.classes, part.logits)
    temperature = fit_temperature(dev.logits, dev.classes).temperature
    calibrated = probabilities(dev.logits, temperature)
    return narrowed(scored, dataset.where(conditions), ignored), {
        "data": dataset.folder.resolve().name,
        "labels": run.labels,
        "split": chosen,
        "temperature": temperature,
        "operating_points": fit_operating_points(run.labels, dev.classes, calibrated, split="dev"),
        "provenance": _provenance_of(path),
    }


def _of_folds(
    path: Path, data: Path | None, split: str | None, conditions: dict[str, str], ignored: list[str]
) -> tuple["Scored", dict[str, Any]]:
    """The out-of-fold logits of a cross-validation, each with the temperature fitted on its own fold's dev part.

    There are no operating points: each fold would have thresholds of its own, and none is kept for a bundle.
    """
    import numpy as np

    from edgecxr.dataset import read_dataset
    from edgecxr.evaluation.score import check_ignored, narrowed, stored
    from edgecxr.evaluation.temperature import fit_temperature

    if split not in (None, "test"):
        raise UsageError(f"a cross-validation holds each picture's answer as a test picture only, got --split {split}")
    runs = [_read_run(path / f"fold-{number}") for number in range(1, _fold_count(path) + 1)]
    if len({run.labels for run in runs}) > 1:
        raise UsageError(f"not one cross-validation, its folds have different labels: {path}")
    dataset = read_dataset(data or _folder_of(runs[0]))
    check_ignored(ignored, dataset.labels, runs[0].labels)
    parts = [_logits(run, "test") for run in runs]
    files = [file for part in parts for file in part.files]
    classes = np.concatenate([part.classes for part in parts])
    logits = np.concatenate([part.logits for part in parts])
    scored = narrowed(stored(dataset, runs[0].labels, files, classes, logits), dataset.where(conditions), ignored)
    temperature_of: dict[str, float] = {}
    for run, part in zip(runs, parts, strict=True):
        dev = _logits(run, "dev")
        temperature_of |= dict.fromkeys(part.files, fit_temperature(dev.logits, dev.classes).temperature)
    return scored, {
        "data": dataset.folder.resolve().name,
        "labels": runs[0].labels,
        "split": f"test of {len(runs)} folds",
        "temperature": np.array([temperature_of[example.file] for example in scored.examples]),
        "operating_points": (),
        "provenance": _provenance_of(path),
    }


def _fold_count(path: Path) -> int:
    """How many folds a cross-validation has; raises UsageError where its file doesn't say so."""
    try:
        count = json.loads((path / FOLDS_FILE).read_text(encoding="utf-8"))["folds"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"not a cross-validation of edgecxr train ({type(error).__name__}): {path}") from None
    if type(count) is not int or count < 2:
        raise UsageError(f"a cross-validation has 2 folds or more, {FOLDS_FILE} says {str(count)[:40]}: {path}")
    return count


def _read_run(path: Path) -> Any:
    runs: Any = import_module("edgecxr.train.run")  # the runtime knows nothing of the lab; numpy is all this needs
    return runs.read_run(path)


def _logits(run: Any, split: str) -> Any:
    """What the run stored of a split; raises DataError where it can't be used."""
    from edgecxr.evaluation.score import check_logits

    part = run.logits(split)
    check_logits(run.folder, split, len(run.labels), len(part.files), part.classes, part.logits)
    return part


def _folder_of(run: Any) -> Path:
    """Where the run's pictures were; raises UsageError where it doesn't say."""
    data = run.description.get("data")
    folder = data.get("folder") if isinstance(data, dict) else None
    if not (folder and isinstance(folder, str)):
        raise UsageError(f"the run doesn't say where its pictures are; give DATA: {run.folder}")
    return Path(folder)


def _provenance_of(path: Path) -> dict[str, Any]:
    """What a bundle's pipeline would say of itself, for logits that Keras computed."""
    return {
        "model": f"run {path.resolve().name}",
        "bundle_sha256": None,
        "engine": "keras",
        "provider": None,
        "device": None,
        "precision": "fp32",
    }


def _refuse_for_a_run(asked: Mapping[str, object]) -> None:
    given = [option for option, value in asked.items() if value not in ("auto", None)]
    if given:
        raise UsageError(f"a run's logits are stored and nothing is computed; leave out {', '.join(given)}")


def _check_plots(folder: Path, overwrite: bool) -> None:
    """Raise UsageError or StorageError where the plots can't be written, in a folder that is there or is to be made."""
    target = outputs.resolve(folder)
    if not target.parent.is_dir() or (target.exists() and not target.is_dir()):
        raise UsageError(f"the plots can't be written there, no such folder or not a folder: {folder}")
    if target.exists():
        outputs.check_reports([folder / name for name in PLOTS], (".png",), overwrite=overwrite)
    else:
        outputs.check_writable(folder)


def _write(targets: Sequence[Path], plots: Path | None, report: dict[str, Any], drawing: Any) -> None:
    def contents() -> Iterator[tuple[Path, str | bytes]]:
        for path in targets:
            yield path, outputs.json_text(report) if path.suffix.lower() == ".json" else drawing.page(report)
        if plots is not None:
            for name, content in drawing.plots(report).items():
                yield plots / name, content

    outputs.write_reports(contents())
