"""A FIFO in the network's place: to open it would wait for ever."""

import os
from pathlib import Path

from attacks import forge

REFUSED = "is not a regular file"


def make(folder: Path) -> Path:
    forge.bundle(folder)
    (folder / forge.MODEL).unlink()
    os.mkfifo(folder / forge.MODEL)
    return folder
