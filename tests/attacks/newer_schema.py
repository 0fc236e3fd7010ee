"""A bundle of a schema that this version doesn't know, and could only guess at."""

from pathlib import Path

from attacks import forge
from edgecxr.bundle import SCHEMA

REFUSED = f"schema is {SCHEMA + 1}"


def make(folder: Path) -> Path:
    return forge.bundle(folder, lambda manifest: manifest.update(schema=SCHEMA + 1))
