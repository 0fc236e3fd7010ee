"""Another network in the listed one's place, of the same length."""

from pathlib import Path

import tiny
from attacks import forge

REFUSED = "doesn't have its listed hash"


def make(folder: Path) -> Path:
    forge.bundle(folder)
    model = bytearray(tiny.tiny_model())
    position = model.index(tiny.BIAS.tobytes())
    model[position : position + 12] = tiny.BIAS[::-1].tobytes()
    (folder / forge.MODEL).write_bytes(model)
    return folder
