"""A name that clears the terminal on which it is shown."""

from pathlib import Path

from attacks import forge

REFUSED = "the name isn't a plain one"


def make(folder: Path) -> Path:
    return forge.bundle(folder, lambda manifest: manifest.update(name="\x1b[2J"))
