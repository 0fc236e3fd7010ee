"""Inference engines behind one small protocol; each module is imported on demand, none is a base dependency."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

# What importing an installed and broken engine was seen to raise: a library that is missing or of another system, files
# of two versions over each other, and what its own start-up code finds wrong.
LOAD_ERRORS = (ImportError, OSError, AttributeError, RuntimeError)


class Engine(Protocol):
    """A network that is loaded and ready. `run` may be called from several threads at once."""

    name: str  # "onnxruntime", "openvino" or "litert"
    provider: str  # what executes, in the engine's own words: "CPUExecutionProvider"
    device: str  # "cpu" or "cuda"
    precision: str  # what is computed: bf16 is computed from an fp32 artifact
    threads: int  # that one call of `run` uses
    input_shape: tuple[int, ...]  # (H, W, 1)
    classes: int

    def run(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits (N, K) of network inputs uint8 (N, H, W, 1)."""
        ...

    def evidence(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Each location's share of each class's logit, (N, h, w, K): logits = evidence.sum((1, 2)) + bias."""
        ...
