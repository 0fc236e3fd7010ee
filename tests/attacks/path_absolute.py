"""A file of the bundle by an absolute path."""

from pathlib import Path

from attacks import forge

REFUSED = "isn't a plain relative one"


def make(folder: Path) -> Path:
    return forge.bundle(folder, lambda manifest: manifest["files"][0].update(file="/etc/passwd"))
