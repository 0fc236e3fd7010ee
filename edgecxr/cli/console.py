"""How the verbs of the command line print."""

# No `from __future__ import annotations`: typer reads these at run time.
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console


def complain(message: str) -> None:
    """One line on stderr, whatever `message` holds."""
    line = " ".join(message.split())
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)
    print(f"edgecxr: {safe}", file=sys.stderr)


def consoles() -> tuple["Console", "Console"]:
    """(stdout for results, stderr for everything else)"""
    from rich.console import Console

    # Without a terminal rich assumes 80 columns and folds every path.
    out, err = (None if stream.isatty() else 200 for stream in (sys.stdout, sys.stderr))
    return results_console(out), Console(stderr=True, highlight=False, width=err)


def results_console(width: int | None) -> "Console":
    """Stdout, `width` columns wide (None: as the terminal is); where its reader left, the command ends with 141."""
    from rich.console import Console

    class Results(Console):
        def on_broken_pipe(self) -> None:  # rich would end with 1, which here says that pictures were rejected
            reader_left()

    return Results(highlight=False, width=width)


def print_json(data: object) -> None:
    print(json.dumps(data, indent=2))


def log_to_stderr() -> None:
    """edgecxr's own log, which names no picture, on stderr; other packages' logs may quote what they read."""
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(name)s: %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("edgecxr")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False


def reader_left() -> NoReturn:
    """Whoever read stdout is gone: what is still to be flushed goes nowhere, and the exit code is the shell's."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(128 + signal.SIGPIPE)
