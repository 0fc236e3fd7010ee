"""A symlink in the network's place, to a file of the right content that may change at any time."""

from pathlib import Path

from attacks import forge

REFUSED = "is a symlink"


def make(folder: Path) -> Path:
    forge.bundle(folder)
    target = folder.parent / "elsewhere.onnx"
    (folder / forge.MODEL).rename(target)
    (folder / forge.MODEL).symlink_to(target)
    return folder
