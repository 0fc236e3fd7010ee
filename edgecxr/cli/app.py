"""The command line: parse, call, print, exit code; no logic."""

# Parameters of a typer command stay out of `from __future__ import annotations`: it reads them at run time.
import errno
import os
import sys
from typing import Annotated

import typer

import edgecxr
from edgecxr.cli.audit import audit
from edgecxr.cli.bench import bench
from edgecxr.cli.calibrate import calibrate
from edgecxr.cli.console import complain
from edgecxr.cli.data import app as data
from edgecxr.cli.device import doctor, info, verify
from edgecxr.cli.eval import evaluate
from edgecxr.cli.export import export
from edgecxr.cli.infer import infer
from edgecxr.cli.listen import listen
from edgecxr.cli.report import report
from edgecxr.cli.train import train
from edgecxr.cli.tune import tune
from edgecxr.cli.verb import Verb
from edgecxr.errors import EdgecxrError, ReaderLeft, UsageError

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
    try:
        app(prog_name="edgecxr")
    except ReaderLeft as left:
        sys.exit(left.exit_code)
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


# The panels of --help, and within them the order in which the verbs are met.
DEVICE, CLINIC, LAB = "Device", "Clinic (extras)", "Lab (extras)"
app.command(cls=Verb, rich_help_panel=DEVICE)(infer)
app.command(cls=Verb, rich_help_panel=DEVICE)(verify)
app.command(cls=Verb, rich_help_panel=DEVICE)(info)
app.command(cls=Verb, rich_help_panel=DEVICE)(doctor)
app.command(cls=Verb, rich_help_panel=DEVICE)(bench)
app.command(cls=Verb, rich_help_panel=DEVICE)(tune)
app.command(cls=Verb, rich_help_panel=DEVICE)(report)
app.command(cls=Verb, rich_help_panel=CLINIC)(listen)
app.add_typer(data, name="data", rich_help_panel=LAB)
app.command(cls=Verb, rich_help_panel=LAB)(audit)
app.command(cls=Verb, rich_help_panel=LAB)(train)
app.command(name="eval", cls=Verb, rich_help_panel=LAB)(evaluate)
app.command(cls=Verb, rich_help_panel=LAB)(export)
app.command(cls=Verb, rich_help_panel=LAB)(calibrate)
