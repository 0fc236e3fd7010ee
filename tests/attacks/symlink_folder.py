"""A symlink in the place of a folder of the bundle."""

from pathlib import Path

from attacks import forge

REFUSED = "is a symlink"
VERB = "verify"


def make(folder: Path) -> Path:
    forge.bundle(folder)
    target = folder.parent / "elsewhere"
    (folder / "golden").rename(target)
    (folder / "golden").symlink_to(target)
    return folder
