"""How the verbs of the command line print."""

# No `from __future__ import annotations`: typer reads these at run time.
import json
import sys
from typing import TYPE_CHECKING

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
    return Console(highlight=False, width=out), Console(stderr=True, highlight=False, width=err)


def print_json(data: object) -> None:
    print(json.dumps(data, indent=2))


def log_to_stderr(level: str = "DEBUG") -> None:
    """edgecxr's own log, which names no picture, on stderr; other packages' logs may quote what they read."""
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(name)s: %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("edgecxr")
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
