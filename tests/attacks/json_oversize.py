"""A manifest of 100 MB, all of it white space."""

from pathlib import Path

from attacks import forge

REFUSED = "longer than it should be"


def make(folder: Path) -> Path:
    forge.bundle(folder)
    with (folder / "bundle.json").open("ab") as file:
        file.write(b" " * 100_000_000)
    return folder
