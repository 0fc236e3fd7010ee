"""Where things are, and pictures to test with; a module of its own, since every folder of tests has a conftest."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
# Real pictures are never part of the project: they lie beside the checkout, or where this variable says.
REAL = Path(os.environ.get("EDGECXR_DATA", ROOT.parent / "shared" / "data"))


def noisy(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """(H, W) uint8 of a (width, height): a gradient with noise, so that every picture differs and none is blank."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 155, size[0])[None, :]
    return (ramp + rng.integers(0, 100, (size[1], size[0]))).astype(np.uint8)
