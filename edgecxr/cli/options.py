"""Options that several verbs share."""

# No `from __future__ import annotations`: typer reads these at run time.

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    pass

Device = Literal["auto", "cpu", "cuda", "tensorrt"]
Engine = Literal["auto", "onnxruntime", "openvino", "litert"]
Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16", "int8", "int8-symmetric"]
ModelOption = Annotated[
    Path | None,
    typer.Option(
        "-m",
        "--model",
        metavar="edge|full|PATH",
        help="An embedded model (full is edge's teacher: slower, and less moved by noise), a bundle (NAME.edgecxr), "
        "or its .onnx alone (default: edge).",
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
