"""Two labels swapped in the manifest by hand, without the digest that would belong to it."""

from pathlib import Path

from attacks import forge

REFUSED = "doesn't have its own digest"


def make(folder: Path) -> Path:
    forge.bundle(folder)
    path = folder / "bundle.json"
    path.write_text(path.read_text().replace('["covid", "normal"', '["normal", "covid"'))
    return folder
