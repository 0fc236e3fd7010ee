"""A preprocessing contract of another polarity, which would turn every film into its negative."""

from pathlib import Path

from attacks import forge

REFUSED = "preprocessing contract's polarity"


def make(folder: Path) -> Path:
    return forge.bundle(folder, lambda manifest: manifest["preprocessing"].update(polarity="white-is-zero"))
