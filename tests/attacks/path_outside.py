"""A file of the bundle that lies outside it: `../secret`, with the right hash."""

import hashlib
from pathlib import Path

from attacks import forge

REFUSED = "isn't a plain relative one"


def make(folder: Path) -> Path:
    secret = b"outside"
    (folder.parent / "secret.onnx").write_bytes(secret)
    row = {"file": "../secret.onnx", "sha256": hashlib.sha256(secret).hexdigest(), "bytes": len(secret)}
    return forge.bundle(folder, lambda manifest: manifest["artifacts"][1].update(row))
