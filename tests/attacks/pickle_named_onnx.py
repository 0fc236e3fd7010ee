"""The same pickle under the name of an ONNX file."""

from pathlib import Path

from attacks import forge, pickle_weights

REFUSED = "is no whole onnx file"


def make(folder: Path) -> Path:
    return forge.with_file(folder, forge.MODEL, pickle_weights.payload(folder))
