"""Golden inputs of dtype object: numpy would unpickle them where it may."""

import io
from pathlib import Path

import numpy as np

from attacks import forge, pickle_weights

REFUSED = "golden inputs are object"
VERB = "verify"


def make(folder: Path) -> Path:
    stored = io.BytesIO()
    np.save(stored, np.zeros((8, 64, 64, 1), dtype=np.uint8).astype(object))
    header = stored.getvalue()[:128]
    return forge.with_file(folder, "golden/inputs.npy", header + pickle_weights.payload(folder))
