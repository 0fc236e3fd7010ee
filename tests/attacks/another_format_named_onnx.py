"""An ONNX artifact in a file of another ending, which checks that go by the ending would pass over."""

from pathlib import Path

from attacks import forge

REFUSED = "must end in .onnx"


def make(folder: Path) -> Path:
    forge.bundle(folder, lambda manifest: manifest["artifacts"][1].update(file="model.bin"))
    (folder / forge.MODEL).rename(folder / "model.bin")
    return folder
