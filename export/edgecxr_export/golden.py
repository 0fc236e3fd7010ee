"""Golden vectors: inputs that go with the bundle, and what each artifact answered to them where it was made.

The inputs are drawn or random, never a patient's. They needn't look like films: a kernel that saturates or a
provider that rounds is found with any picture that reaches the whole range.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.engines import Engine
from edgecxr.preprocess import Contract, preprocess
from edgecxr_export.phantoms import draw

PHANTOM_SEEDS = (1, 2, 3, 4)
SOURCE_SIZE = (640, 560)  # px (height, width) at which a phantom is drawn before the contract's preprocessing

# Largest accepted |difference| of a logit on the same engine, on another device. Measured at 299 px on ONNX Runtime and
# one x86-64 CPU: both precisions move by 1e-6 with threads and batch size, and fp32 so with graph optimization off. Its
# remaining room is for GPUs, which weren't measured. int8 moves by 0.06 with graph optimization off, where the same
# numbers go through float kernels and round elsewhere; other integer kernels get three times that.
TOLERANCES = {"fp32": 1e-2, "int8": 0.2}


def golden_inputs(contract: Contract) -> npt.NDArray[np.uint8]:
    """Eight network inputs, uint8 (8, H, W, 1): four phantoms, a gradient, two kinds of noise and a chequerboard."""
    height, width = contract.height, contract.width
    random = np.random.default_rng(299)
    pictures = [preprocess(draw(SOURCE_SIZE, seed).astype(np.uint8), contract) for seed in PHANTOM_SEEDS]
    down, right = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None, :]
    pictures.append(np.rint(255 * (0.7 * down + 0.3 * right)).astype(np.uint8))
    pictures.append(random.integers(0, 256, (height, width), dtype=np.uint8))
    grains = random.integers(0, 256, (12, 12), dtype=np.uint8)
    pictures.append(preprocess(grains, contract))
    squares = (np.arange(height)[:, None] // 16 + np.arange(width)[None, :] // 16) % 2
    pictures.append((255 * squares).astype(np.uint8))
    return np.stack(pictures)[..., None]


def golden_logits(engine: Engine, inputs: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Logits (G, K) of inputs (G, H, W, 1), one picture at a time, as `verify` and a device run them."""
    return np.concatenate([engine.run(picture[None]) for picture in inputs])


def expected_json(artifact: str, precision: str, engine: str, logits: npt.NDArray[np.float32]) -> Mapping[str, Any]:
    """One row of golden/expected.json."""
    return {"artifact": artifact, "engine": engine, "tolerance": TOLERANCES[precision], "logits": logits.tolist()}
