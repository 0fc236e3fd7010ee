"""The command line: parse, call, print, exit code; no logic."""

# Parameters of a typer command stay out of `from __future__ import annotations`: it reads them at run time.
import io
import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

import edgecxr
from edgecxr import cli_audit, cli_data, cli_eval, cli_lab, outputs
from edgecxr.errors import EdgecxrError, UsageError
from edgecxr.signals import StopOnSignal

if TYPE_CHECKING:
    from rich.console import Console

# Everything that needs numpy, pillow or an engine is imported inside its command: --help stays quick.

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Chest X-ray classifier for edge devices: score, verify and measure; train and export in the lab. "
    "For research use; not a medical device.",
)

Device = Literal["auto", "cpu", "cuda"]
Engine = Literal["auto", "onnxruntime", "openvino", "litert"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]

ModelOption = Annotated[
    Path | None, typer.Option("-m", "--model", help="Bundle, a folder NAME.edgecxr (default: the embedded one).")
]
DeviceOption = Annotated[Device, typer.Option(help="A device asked for by name is used or the run fails.")]
EngineOption = Annotated[Engine, typer.Option(help="An engine asked for by name is used or the run fails.")]
PrecisionOption = Annotated[Precision, typer.Option(help="What is computed; bf16: the fp32 artifact on openvino.")]
ThreadsOption = Annotated[
    int | None, typer.Option(help="Threads of a call; with onnxruntime, of the pool that the workers share.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Print results and errors only.")]


def main() -> None:
    """Entry point: turns errors into one sentence and their exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal or pipe of another encoding gets a substitute for what it can't show, and not a crash.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="edgecxr")
    except EdgecxrError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except Exception as error:
        if os.environ.get("EDGECXR_TRACEBACK"):
            raise
        _complain(f"unexpected {type(error).__name__}: {error} (EDGECXR_TRACEBACK=1 shows where)")
        sys.exit(EdgecxrError.exit_code)


def _complain(message: str) -> None:
    line = " ".join(message.split())
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)
    print(f"edgecxr: {safe}", file=sys.stderr)


def _consoles() -> tuple["Console", "Console"]:
    """(stdout for results, stderr for everything else)"""
    from rich.console import Console

    # Without a terminal rich assumes 80 columns and folds every path.
    out, err = (None if stream.isatty() else 200 for stream in (sys.stdout, sys.stderr))
    return Console(highlight=False, width=out), Console(stderr=True, highlight=False, width=err)


def _print_json(data: object) -> None:
    print(json.dumps(data, indent=2))


def _version(wanted: bool) -> None:
    if wanted:
        print(f"edgecxr {edgecxr.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def infer(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Pictures and folders of pictures.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write records to a .jsonl or .csv file; - is JSON lines on stdout."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output file that exists.")] = False,
    recursive: Annotated[bool, typer.Option(help="Walk into folders of folders.")] = True,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first rejected picture.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Score at most this many pictures.")] = None,
    name_by: Annotated[
        Literal["path", "hash"],
        typer.Option("--id", help="What stands in a record's path: the file's name, or the hash of what it holds."),
    ] = "path",
    model: ModelOption = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    batch_size: Annotated[int | None, typer.Option("-b", "--batch-size", help="Pictures a batch.")] = None,
    workers: Annotated[int | None, typer.Option("-j", "--workers", help="Batches in hand at a time.")] = None,
    threads: ThreadsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the run's summary as JSON on stdout.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Score pictures and folders; one record for each file, whatever happens to the others.

    Exit codes: 0 all scored, 1 some rejected, 2 usage, 3 bundle refused, 4 device or engine unavailable.
    """
    from edgecxr import images, pipeline, records, terminal
    from edgecxr.bundle import load

    if as_json and str(output) == "-":
        raise UsageError("--json and -o - both want stdout; write the records to a file")
    if output is not None:
        records.check_output(output, overwrite=overwrite)
    found = images.find(paths, recursive=recursive)
    session = pipeline.open_session(
        load(model),
        device=device,
        engine=engine,
        precision=precision,
        workers=workers,
        threads=threads,
        batch_size=batch_size,
    )
    out, err = _consoles()
    # The output of an earlier run may lie among the pictures; it is no input of this one.
    own = None if output is None or str(output) == "-" else output.resolve()
    chosen = [p for p in found.paths if own is None or p.name != own.name or p.resolve() != own][:limit]
    statuses: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    shown: list[records.Prediction] = []  # the first ones
    rejected: list[records.Prediction] = []  # and the first that were rejected after them
    stopped = StopOnSignal()
    begin = time.perf_counter()
    bar = terminal.progress(err, "scoring")
    writer = None if output is None else records.open_writer(output, session.bundle.labels, overwrite=overwrite)
    with stopped, bar:
        bar.disable = bar.disable or quiet
        task = bar.add_task("", total=len(chosen))
        with writer or _Nowhere() as sink:
            for position, answer in enumerate(pipeline.stream(session, chosen, lambda: stopped.signal is not None), 1):
                prediction = answer if name_by == "path" else answer.without_name(position)
                try:
                    sink.write(prediction)
                except BrokenPipeError:
                    _reader_left()
                statuses[prediction.status] += 1
                if prediction.label is not None:
                    labels[prediction.label] += 1
                if len(shown) < terminal.MAX_ROWS:
                    shown.append(prediction)
                elif prediction.label is None and len(rejected) < terminal.MAX_ROWS:
                    rejected.append(prediction)
                bar.advance(task)
                if fail_fast and prediction.status == "rejected":
                    break
    seconds = time.perf_counter() - begin
    summary = {
        "records": sum(statuses.values()),
        "statuses": dict(statuses),
        "labels": dict(labels),
        "skipped": found.skipped,
        "seconds": seconds,
        "pictures_per_second": sum(statuses.values()) / seconds,
        **session.provenance.__dict__,
        **session.plan.__dict__,
        "interrupted": stopped.signal is not None,
    }
    if as_json:
        _print_json(summary)
    elif output is None:
        out.print(terminal.predictions_table([*shown, *rejected], session.bundle.labels, sum(statuses.values())))
    if not quiet:
        err.print(terminal.run_summary(summary), markup=False)
        if output is not None:  # else they stand in the table
            _say_rejected(err, [p for p in [*shown, *rejected] if p.status == "rejected"], statuses["rejected"])
    if stopped.signal is not None:
        raise typer.Exit(128 + stopped.signal)
    raise typer.Exit(1 if statuses["rejected"] else 0)


def _say_rejected(err: "Console", rejected: list[Any], total: int) -> None:
    from edgecxr.terminal import printable

    for prediction in rejected[:10]:
        err.print(printable(f"rejected: {prediction.path}: {prediction.error_message}"))
    if total > 10:
        err.print(f"and {total - 10} more rejected; each has its record")


def _reader_left() -> NoReturn:
    """Whoever read stdout is gone: what is still to be flushed goes nowhere, and the exit code is the shell's."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(128 + signal.SIGPIPE)


class _Nowhere:
    """Stands in for a writer where no output was asked for."""

    def write(self, prediction: object) -> None:
        pass

    def __enter__(self) -> "_Nowhere":
        return self

    def __exit__(self, *_: object) -> None:
        pass


@app.command()
def verify(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle (default: the embedded one).")] = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Threads of the engine.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Check every hash of a bundle and its golden vectors on this device, on every engine that is installed.

    Exit codes: 0 right, 3 a hash is wrong, 4 nothing can run here, 5 an answer is outside its tolerance.
    """
    from dataclasses import asdict

    from edgecxr import terminal
    from edgecxr.bundle import load
    from edgecxr.verify import verify as run

    result = run(load(bundle), device=device, engine=engine, precision=precision, threads=threads)
    if as_json:
        _print_json({**asdict(result), "passed": result.passed})
    else:
        out, _ = _consoles()
        out.print(f"{result.files} files, {result.bytes / 1e6:.1f} MB: every hash is right")
        out.print(terminal.verification_table(result))
        for reason in result.not_run:
            out.print(f"not run: {reason}", markup=False)
        for note in result.notes:
            out.print(note, markup=False)
    if not result.passed:
        _complain("golden vectors are outside their tolerance: this device doesn't give the bundle's answers")
        raise typer.Exit(5)


@app.command()
def info(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle (default: the embedded one).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a bundle holds."""
    from edgecxr import terminal
    from edgecxr.bundle import load

    opened = load(bundle)
    if as_json:
        _print_json(dict(opened.manifest))
    else:
        _consoles()[0].print(terminal.bundle_table(opened))


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Show what this machine has, what is wrong with it, and how to repair that. Exit code 4 if scoring can't work."""
    from dataclasses import asdict

    from edgecxr import terminal
    from edgecxr.doctor import diagnose

    diagnosis = diagnose()
    if as_json:
        _print_json({**asdict(diagnosis), "healthy": diagnosis.healthy})
    else:
        _consoles()[0].print(terminal.diagnosis_table(diagnosis))
    if not diagnosis.healthy:
        raise typer.Exit(4)


@app.command()
def bench(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH…]", help="Pictures to measure on (default: the golden inputs)."),
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    batch_size: Annotated[
        list[int] | None, typer.Option("-b", "--batch-size", min=1, help="Batch sizes, model only; may be repeated.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="About how long to measure.")] = 30.0,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the report to a .json file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output file that exists.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure latency and throughput of a bundle's artifacts on this machine; quick, with the spread."""
    from tempfile import TemporaryDirectory

    from edgecxr import terminal
    from edgecxr.bench import bench as run
    from edgecxr.bench import golden_files, sample_files
    from edgecxr.bundle import load

    if output is not None:
        outputs.check_output(output, outputs.REPORT_SUFFIXES, overwrite=overwrite)
    opened = load(model)
    out, err = _consoles()
    bar = terminal.progress(err, "measuring")
    with TemporaryDirectory() as scratch, bar:
        files = sample_files(paths) if paths else golden_files(opened, Path(scratch))
        task = bar.add_task("", total=None)
        report = run(
            opened,
            files,
            device=device,
            engine=engine,
            precision=precision,
            batch_sizes=batch_size,
            seconds=seconds,
            advance=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if output is not None:
        outputs.write_report(output, report)
    if as_json:
        _print_json(report)
    else:
        out.print(terminal.bench_table(report))
        if not paths:
            err.print(f"measured on the bundle's {len(files)} golden inputs; give PATH for pictures of your own")


app.command(name="eval")(cli_eval.evaluate)
app.add_typer(cli_data.app, name="data")
app.command()(cli_audit.audit)
app.command()(cli_lab.train)
app.command()(cli_lab.export)
