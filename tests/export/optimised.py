"""What ONNX Runtime runs in place of a file: its own graph after all of its optimizations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort


def optimised(model: bytes, folder: Path) -> Any:
    """The optimised graph (onnx.ModelProto) of the bytes, on this CPU; `folder` takes a file."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3  # it warns that the file is for this machine only
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx")
