"""Golden inputs whose header promises 4 PB: numpy would take the memory before it reads."""

import io
from pathlib import Path

import numpy as np

from attacks import forge

REFUSED = "golden inputs are"
VERB = "verify"


def make(folder: Path) -> Path:
    stored = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 64, 64, 1)}
    np.lib.format.write_array_header_1_0(stored, shape)
    return forge.with_file(folder, "golden/inputs.npy", stored.getvalue() + bytes(1000))
