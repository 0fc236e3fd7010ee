"""A manifest nested 900 levels deep, which a parser takes and what walks the result may not."""

from pathlib import Path
from typing import Any

from attacks import forge

REFUSED = "more than 16 levels"


def make(folder: Path) -> Path:
    nested: Any = []
    for _ in range(900):
        nested = [nested]
    return forge.bundle(folder, lambda manifest: manifest["provenance"].update(nested=nested))
