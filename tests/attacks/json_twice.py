"""The labels twice in one manifest: swapped for who reads the first, in order for who reads the last."""

from pathlib import Path

from attacks import forge

REFUSED = "stands there twice"


def make(folder: Path) -> Path:
    forge.bundle(folder)
    text = (folder / "bundle.json").read_text()
    (folder / "bundle.json").write_text('{"labels": ["normal", "covid", "viral_pneumonia"], ' + text[1:])
    return folder
