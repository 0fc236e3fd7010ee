"""What the verbs of the command line share: options, and how they print."""

# No `from __future__ import annotations`: typer reads these at run time.
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

Device = Literal["auto", "cpu", "cuda", "tensorrt"]
Engine = Literal["auto", "onnxruntime", "openvino", "litert"]
Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16", "int8"]

ModelOption = Annotated[
    Path | None,
    typer.Option(
        "-m", "--model", help="Bundle, a folder NAME.edgecxr, or its .onnx alone (default: the embedded one)."
    ),
]
DeviceOption = Annotated[Device, typer.Option(help="A device asked for by name is used or the run fails.")]
EngineOption = Annotated[Engine, typer.Option(help="An engine asked for by name is used or the run fails.")]
PrecisionOption = Annotated[
    Precision, typer.Option(help="What is computed; bf16: the fp32 artifact on openvino; tf32: on a GPU.")
]
ThreadsOption = Annotated[
    int | None, typer.Option(help="Threads of a call; with onnxruntime, of the pool that the workers share.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Print results and errors only.")]
VerboseOption = Annotated[bool, typer.Option("-v", "--verbose", help="Say on stderr what is done, with times.")]


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
