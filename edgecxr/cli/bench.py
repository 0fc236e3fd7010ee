"""`edgecxr bench` on the command line. Parse, call, print, exit code; what it needs is loaded within it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgecxr.cli import extras
from edgecxr.cli.console import consoles, print_json
from edgecxr.cli.options import DeviceOption, EngineOption, JsonOption, PrecisionOption
from edgecxr.errors import UsageError
from edgecxr.system import storage
from edgecxr.system.signals import StopOnSignal

if TYPE_CHECKING:
    from edgecxr.bundle import Bundle
    from edgecxr.engines.select import Asked

SUFFIXES = (".json", ".csv", ".html")
Advance = Callable[[str, int, int], Any]


def bench(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH…]", help="Pictures to measure on (default: the golden inputs)."),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "-m",
            "--model",
            metavar="edge|full|PATH",
            help="An embedded model, a bundle, or its .onnx (default: edge). Repeated: all in one table, in turn.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    batch_size: Annotated[
        list[int] | None,
        typer.Option("-b", "--batch-size", min=1, max=4096, help="Batch sizes, model only; may be repeated."),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=1, max=86_400, help="About how long to measure (default: 40; with --mlperf: 600)."),
    ] = None,
    mlperf: Annotated[
        Literal["single", "multi", "offline"] | None,
        typer.Option(help="One artifact by MLPerf Inference's rules, driven by LoadGen (extra: loadgen)."),
    ] = None,
    sustained: Annotated[
        float | None,
        typer.Option(metavar="MINUTES", min=0.05, max=1440, help="Throughput over time, for devices that heat up."),
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(metavar="REPORT.json", help="Say what changed since an earlier report, beyond the spread."),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            help="Write the report: .json, .csv in timm's columns, or .html for a page with plots; may be repeated.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a bundle on this machine: latency, throughput, stages, cold start and memory; quick, with the spread.

    Exit codes: 0 measured, 2 usage, 3 bundle refused, 4 device, engine or extra unavailable,
    70 a report can't be written on a full disk.
    """
    from edgecxr.bench import golden_files, report, sample_files
    from edgecxr.bench.compare import compare as compare_reports
    from edgecxr.bundle import load
    from edgecxr.engines.select import Asked

    targets = output or []
    chosen: list[Path | None] = [*model] if model else [None]
    _check(targets, overwrite=overwrite, mlperf=mlperf, sustained=sustained, compare=compare, batch_size=batch_size)
    if len(chosen) > 1 and (mlperf is not None or sustained is not None):
        raise UsageError("--mlperf and --sustained measure one model; give -m once")
    if sustained is not None and seconds is not None:
        raise UsageError("--sustained has its own duration, in minutes; leave --seconds out")
    # What can't be done should be noticed before the measurement: an unreadable report, a page without its extra.
    earlier = report.read(compare) if compare is not None else None
    if earlier is not None:
        compare_reports(earlier, earlier)
    page: Any = extras.load_lab("edgecxr.bench.page", "eval") if _wants(targets, ".html") else None
    opened, *beside = [load(each) for each in chosen]
    asked = Asked(engine, device, precision)
    stopped = StopOnSignal()
    bar = _Bar()
    with TemporaryDirectory() as scratch, bar:
        files = sample_files(paths) if paths else golden_files(opened, Path(scratch))
        if mlperf is not None:
            found = _mlperf(opened, files, mlperf, seconds, asked, bar.advance)
        elif sustained is not None:
            with stopped:
                found = _sustained(opened, files, sustained, asked, stopped, bar.advance)
        else:
            found = _quick([opened, *beside], files, seconds, batch_size, asked, bar.advance)
    found["golden_inputs"] = not paths  # and not pictures of the user's own
    if earlier is not None:
        found["comparison"] = compare_reports(earlier, found)
    try:
        _show(found, as_json=as_json)  # first: a file that can't be written loses nothing then
    finally:
        _write(targets, found, page)  # even where nobody reads the terminal any more
    if stopped.signal is not None:
        raise typer.Exit(128 + stopped.signal)


def _check(targets: list[Path], *, overwrite: bool, **asked: Any) -> None:
    storage.check_reports(targets, SUFFIXES, overwrite=overwrite)
    if asked["mlperf"] is not None and asked["sustained"] is not None:
        raise UsageError("--mlperf and --sustained are two measurements; give one of them")
    if asked["mlperf"] is None and asked["sustained"] is None:
        return
    which = "--mlperf" if asked["mlperf"] is not None else "--sustained"
    if asked["compare"] is not None:
        raise UsageError(f"--compare is for the default measurement; leave {which} out")
    if asked["batch_size"]:
        raise UsageError(f"-b is for the default measurement; leave it or {which} out")
    if _wants(targets, ".csv"):
        raise UsageError(f"timm's columns are for the default measurement; with {which} write .json or .html")


def _wants(targets: list[Path], suffix: str) -> bool:
    return any(path.suffix.lower() == suffix for path in targets)


def _quick(
    bundles: "Sequence[Bundle]",
    files: tuple[Path, ...],
    seconds: float | None,
    batch_sizes: list[int] | None,
    asked: "Asked",
    advance: Advance,
) -> dict[str, Any]:
    from edgecxr.bench import quick

    sizes = sorted(set(batch_sizes)) if batch_sizes else None
    first, *beside = bundles
    seconds = seconds or quick.SECONDS
    return quick.bench(first, files, asked, beside=beside, batch_sizes=sizes, seconds=seconds, advance=advance)


def _mlperf(
    bundle: "Bundle",
    files: tuple[Path, ...],
    scenario: str,
    seconds: float | None,
    asked: "Asked",
    advance: Advance,
) -> dict[str, Any]:
    from edgecxr.bench import mlperf

    mlperf.load_loadgen()
    session = mlperf.session_for(bundle, scenario, asked)
    return mlperf.mlperf(session, files, scenario, seconds=seconds or mlperf.SECONDS, advance=advance)


def _sustained(
    bundle: "Bundle",
    files: tuple[Path, ...],
    minutes: float,
    asked: "Asked",
    stopped: StopOnSignal,
    advance: Advance,
) -> dict[str, Any]:
    from edgecxr.bench.sustained import sustained
    from edgecxr.scoring.session import open_session

    session = open_session(bundle, asked)
    return sustained(session, files, minutes, stop=lambda: stopped.signal is not None, advance=advance)


def _write(targets: Sequence[Path], report: dict[str, Any], page: Any) -> None:
    from edgecxr.bench import timm

    text_of: dict[str, Callable[[dict[str, Any]], str]] = {".json": storage.json_text, ".csv": timm.table}
    if page is not None:
        text_of[".html"] = page.page
    storage.write_reports((path, text_of[path.suffix.lower()](report)) for path in targets)


def _show(report: dict[str, Any], *, as_json: bool) -> None:
    from edgecxr.bench import table as terminal_bench

    if as_json:
        print_json(report)
        return
    out, err = consoles()
    for part in terminal_bench.shown(report):
        out.print(part)
    for sentence in terminal_bench.remarks(report):
        err.print(sentence, markup=False)


class _Bar:
    """The progress bar of a measurement, which says what is being done."""

    def __enter__(self) -> "_Bar":
        from edgecxr.views import terminal

        self._bar = terminal.progress(consoles()[1], "{task.description}")
        self._task = self._bar.add_task("loading", total=None)
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, what: str, done: int, total: int) -> None:
        self._bar.update(self._task, description=what, completed=done, total=total)
