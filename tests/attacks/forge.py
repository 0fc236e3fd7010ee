"""What the attempts share: a bundle whose every hash and digest is right, and whose content isn't.

An attacker who can write a bundle can also hash it, so that each attempt here gets past the digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny
from edgecxr.bundle import manifest_digest

MODEL = "model.int8.onnx"  # the one that `infer` takes


def bundle(folder: Path, change: Callable[[dict[str, Any]], None] = lambda manifest: None) -> Path:
    """The tiny bundle with a changed manifest, and the digest that belongs to it."""
    tiny.write_bundle(folder)
    manifest = json.loads((folder / "bundle.json").read_text())
    change(manifest)
    manifest["digest"] = manifest_digest(manifest)
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder


def with_file(folder: Path, file: str, data: bytes) -> Path:
    """The tiny bundle in which `file` holds `data`, with the hashes that belong to it."""

    def change(manifest: dict[str, Any]) -> None:
        for row in [*manifest["artifacts"], *manifest["files"]]:
            if row["file"] == file:
                row.update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))

    bundle(folder, change)
    (folder / file).write_bytes(data)
    return folder
