"""Weights as a pickle, which runs code where it is loaded (here: writes `owned`)."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

from attacks import forge

REFUSED = "doesn't know an artifact of pickle"


class _Code:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


def payload(folder: Path) -> bytes:
    return pickle.dumps(_Code(folder.parent / "owned"))


def make(folder: Path) -> Path:
    data = payload(folder)

    def change(manifest: dict[str, Any]) -> None:
        row = {"file": "model.pickle", "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        manifest["artifacts"] = [{**manifest["artifacts"][1], **row, "format": "pickle"}]

    forge.bundle(folder, change)
    (folder / "model.pickle").write_bytes(data)
    return folder
