"""`edgecxr eval` on the command line. Parse, call, print, exit code; what it needs is loaded within it."""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from edgecxr.cli import extras
from edgecxr.cli.console import consoles, print_json
from edgecxr.cli.options import DeviceOption, EngineOption, JsonOption, PrecisionOption, ThreadsOption
from edgecxr.errors import GateError, UsageError
from edgecxr.system import storage

SUFFIXES = (".json", ".html")
OPTIONS = {"workers": "-j"}  # by the name that a message gives them, where it isn't --NAME
PLOTS = ("confusion.png", "roc.png", "reliability.png", "risk.png")  # the last one of a model that abstains


def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="BUNDLE", help="Bundle, full, edge, or a RUN of edgecxr train; - is the default bundle."
        ),
    ],
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DATA…",
            help="A folder per class, or a folder with a manifest.csv (of a RUN, by default: where it was then).",
        ),
    ] = None,
    split: Annotated[
        Literal["train", "dev", "test", "all"] | None,
        typer.Option(help="Default: test where there are splits, else all. A RUN has dev and test."),
    ] = None,
    where: Annotated[list[str] | None, typer.Option(help="Only pictures with COLUMN=VALUE in the manifest.")] = None,
    ignore_label: Annotated[list[str] | None, typer.Option(help="Leave out a label; may be repeated.")] = None,
    leave_out: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE.csv", help="Films that don't count, in a column file; may be repeated."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="OTHER", help="Another bundle or RUN on the same pictures: a paired test, by class too."),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIGURE>=X",
            help="An acceptance test, e.g. 'sensitivity(covid)>=0.9': the interval's lower bound decides (ece<=X: the "
            "upper); exit 5 where it fails. Also accuracy, balanced_accuracy, specificity(L), ppv(L), auroc(L); may be "
            "repeated.",
        ),
    ] = None,
    outliers: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Pictures that are no chest films, a folder per kind or with a manifest.csv (file, kind, near, use): "
            "how many are turned away, and how many films are kept, int8 beside fp32.",
        ),
    ] = None,
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
    5 a requirement isn't met or can't be decided, 70 a report can't be written on a full disk.
    """
    from edgecxr.bundle import load
    from edgecxr.engines.select import Asked
    from edgecxr.views import terminal

    targets = output or []
    storage.check_reports(targets, SUFFIXES, overwrite=overwrite)
    if plots is not None:
        _check_plots(plots, overwrite)
    reports = extras.load_lab("edgecxr.lab.evaluation.report", "eval")
    stored = extras.load_lab("edgecxr.lab.evaluation.stored", "eval")
    tables = extras.load_lab("edgecxr.lab.evaluation.table", "eval")
    # A page or plots that can't be made shouldn't be noticed after the scoring.
    drawing = extras.load_lab("edgecxr.lab.evaluation.page", "eval") if targets or plots else None
    acceptance = extras.load_lab("edgecxr.lab.evaluation.acceptance", "eval")
    requirements = [acceptance.parse(text) for text in require or []]
    if requirements and stored.reader_of(model) is None:
        acceptance.check_labels(requirements, load(None if str(model) == "-" else model).labels)
    conditions = extras.conditions(where)
    unlike = _read_outliers(outliers, of_run=stored.reader_of(model) is not None)
    if leave_out and not data:
        raise UsageError("--leave-out names films of DATA; give DATA")
    selections: Any = import_module("edgecxr.lab.selection")
    left_out = selections.read_left_out(leave_out or (), data or ())
    films = selections.Selection(conditions, tuple(ignore_label or ()), left_out)
    out, err = consoles()
    options = {"device": device, "engine": engine, "precision": precision, "workers": workers, "threads": threads}
    if all(stored.reader_of(each) for each in (model, against) if each is not None):
        _refuse_for_a_run(options)

    def answers_of(asked: Path) -> tuple[Any, dict[str, Any]]:
        reader = stored.reader_of(asked)
        if reader is not None:
            return reader(asked, data or [], split, films)  # type: ignore[no-any-return]
        if not data:
            raise UsageError(f"a bundle needs labelled pictures, give DATA: edgecxr eval {asked} DATA")
        bar = terminal.progress(err, "scoring")
        with bar:
            task = bar.add_task("", total=None)
            return stored.of_bundle(  # type: ignore[no-any-return]
                asked,
                data,
                split,
                films,
                Asked(engine, device, precision),
                {"workers": workers, "threads": threads},
                lambda done, total: bar.update(task, completed=done, total=total),
                unlike if asked == model else (),
            )

    scored, found = answers_of(model)
    acceptance.check_labels(requirements, found["labels"])  # of a RUN, which computes nothing
    extras.account_for(found["account"])
    rival = None
    if against is not None:
        theirs, other = answers_of(against)
        if other["labels"] != found["labels"]:
            raise UsageError(
                f"--against expects a model of the labels {', '.join(found['labels'])}, "
                f"got {', '.join(other['labels'])}"
            )
        paired = extras.load_lab("edgecxr.lab.evaluation.paired", "eval")
        rows = paired.compared(found["labels"], scored, theirs, seed)
        rival = {**other["provenance"], "rows": rows}
    turned_away = None
    if unlike:
        silence = extras.load_lab("edgecxr.lab.evaluation.silence", "eval")
        bar = terminal.progress(err, "outliers")
        with bar:
            task = bar.add_task("", total=None)
            turned_away = silence.silence(
                found["session"],
                unlike,
                found["films"],
                found["statuses"],
                found["data"],
                lambda done, total: bar.update(task, completed=done, total=total),
            )
    bar = terminal.progress(err, "resampling")
    with bar:
        task = bar.add_task("", total=None)
        figures = reports.evaluate_logits(
            found["labels"],
            scored.examples,
            scored.logits,
            found["temperature"],
            operating_points=found["operating_points"],
            ood=scored.ood,
            abstain_at=found["provenance"].get("abstain_at"),
            seed=seed,
            advance=lambda done, total: bar.update(task, completed=done, total=total),
        )
    report = {
        "data": found["data"],
        "split": found["split"],
        "where": conditions,
        "ignored_labels": list(films.ignored_labels),
        "left_out": len(left_out),
        **figures,
        "against": rival,
        "outliers": turned_away,
        "acceptance": _verdict(acceptance, requirements, scored, found, seed) if requirements else None,
        "rejected": scored.rejected_json(),
        **found["provenance"],
    }
    try:
        if as_json:
            print_json(report)
        else:
            for table in tables.evaluation_tables(report):
                out.print(table)
                out.print()
            for file, reason in scored.rejected:
                err.print(terminal.printable(f"rejected: {file}: {reason}"))
    finally:  # even where nobody reads the terminal any more
        _write(targets, plots, report, drawing)
    if report["acceptance"] and not report["acceptance"]["passed"]:
        raise GateError(acceptance.refusal(report["acceptance"]))
    raise typer.Exit(1 if scored.rejected else 0)


def _verdict(
    acceptance: Any, requirements: Sequence[Any], scored: Any, found: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    unread = {file for file, _ in scored.rejected}
    return acceptance.judge(  # type: ignore[no-any-return]
        requirements,
        found["labels"],
        scored,
        found["temperature"],
        abstain_at=found["provenance"].get("abstain_at"),
        rejected=[film for film in found.get("films", ()) if film.file in unread],
        seed=seed,
    )


def _read_outliers(folder: Path | None, *, of_run: bool) -> Sequence[Any]:
    from edgecxr.lab.outliers import read_outliers

    if folder is not None and of_run:
        raise UsageError(f"--outliers needs a bundle, which can be asked; a run's logits are stored: {folder}")
    return () if folder is None else read_outliers(folder)


def _refuse_for_a_run(options: Mapping[str, object]) -> None:
    given = [OPTIONS.get(name, f"--{name}") for name, value in options.items() if value not in ("auto", None)]
    if given:
        raise UsageError(f"a run's logits are stored and nothing is computed; leave out {', '.join(given)}")


def _check_plots(folder: Path, overwrite: bool) -> None:
    """Raise UsageError or StorageError where the plots can't be written, in a folder that is there or is to be made."""
    target = storage.resolve(folder)
    if not target.parent.is_dir() or (target.exists() and not target.is_dir()):
        raise UsageError(f"the plots can't be written there, no such folder or not a folder: {folder}")
    if target.exists():
        storage.check_reports([folder / name for name in PLOTS], (".png",), overwrite=overwrite)
    else:
        storage.check_writable(folder)


def _write(targets: Sequence[Path], plots: Path | None, report: dict[str, Any], drawing: Any) -> None:
    def contents() -> Iterator[tuple[Path, str | bytes]]:
        for path in targets:
            yield path, storage.json_text(report) if path.suffix.lower() == ".json" else drawing.page(report)
        if plots is not None:
            for name, content in drawing.plots(report).items():
                yield plots / name, content

    storage.write_reports(contents())
