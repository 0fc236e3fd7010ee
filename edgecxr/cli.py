"""The command line: parse, call, print, exit code; no logic."""

# Parameters of a typer command stay out of `from __future__ import annotations`: it reads them at run time.
import errno
import io
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

import edgecxr
from edgecxr import cli_audit, cli_bench, cli_data, cli_eval, cli_infer, cli_lab, cli_tune
from edgecxr.cli_common import (
    DeviceOption,
    EngineOption,
    JsonOption,
    PrecisionOption,
    complain,
    consoles,
    print_json,
)
from edgecxr.errors import EdgecxrError, UsageError

# Everything that needs numpy, pillow or an engine is imported inside its command: --help stays quick.

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Chest X-ray classifier for edge devices: score, verify and measure; train and export in the lab. "
    "For research use; not a medical device.",
)


def main() -> None:
    """Entry point: turns errors into one sentence and their exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal or pipe of another encoding gets a substitute for what it can't show, and not a crash.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    stdout = sys.stdout
    try:
        app(prog_name="edgecxr")
    except SystemExit as left:
        # typer replaces a stdout whose reader has left, and ends with 1, which here says that pictures were rejected.
        if left.code == 1 and sys.stdout is not stdout:
            sys.exit(128 + signal.SIGPIPE)
        raise
    except EdgecxrError as error:
        complain(str(error))
        sys.exit(error.exit_code)
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            complain(f"the name is too long: {error.filename}")
            sys.exit(UsageError.exit_code)
        if os.environ.get("EDGECXR_TRACEBACK"):
            raise
        complain(f"unexpected {type(error).__name__}: {error} (EDGECXR_TRACEBACK=1 shows where)")
        sys.exit(EdgecxrError.exit_code)


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


app.command()(cli_infer.infer)


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
        print_json({**asdict(result), "passed": result.passed})
    else:
        out, _ = consoles()
        out.print(f"{result.files} files, {result.bytes / 1e6:.1f} MB: every hash is right")
        out.print(terminal.verification_table(result))
        for reason in result.not_run:
            out.print(f"not run: {reason}", markup=False)
        for note in result.notes:
            out.print(note, markup=False)
    if not result.passed:
        complain(f"golden vectors are outside their tolerance: {result.diagnosis}")
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
        print_json(dict(opened.manifest))
    else:
        consoles()[0].print(terminal.bundle_table(opened))


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Show what this machine has, what is wrong with it, and how to repair that. Exit code 4 if scoring can't work."""
    from dataclasses import asdict

    from edgecxr import terminal
    from edgecxr.doctor import diagnose

    diagnosis = diagnose()
    if as_json:
        print_json({**asdict(diagnosis), "healthy": diagnosis.healthy})
    else:
        consoles()[0].print(terminal.diagnosis_table(diagnosis))
    if not diagnosis.healthy:
        raise typer.Exit(4)


app.command()(cli_bench.bench)
app.command()(cli_tune.tune)
app.command(name="eval")(cli_eval.evaluate)
app.add_typer(cli_data.app, name="data")
app.command()(cli_audit.audit)
app.command()(cli_lab.train)
app.command()(cli_lab.export)
