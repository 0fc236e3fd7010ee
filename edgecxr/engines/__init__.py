"""Inference engines behind one small protocol; each module is imported on demand, none is a base dependency."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

# What importing an installed and broken engine was seen to raise: a library that is missing or of another system, files
# of two versions over each other, and what its own start-up code finds wrong.
LOAD_ERRORS = (ImportError, OSError, AttributeError, RuntimeError)

# What a network's outputs may be called; `ood` is there or not.
OUTPUTS = ("logits", "evidence", "ood")


def known_outputs(names: Sequence[str]) -> bool:
    """Whether a network with outputs of these names, in whatever order, is one of ours."""
    return sorted(names) in (sorted(OUTPUTS[:2]), sorted(OUTPUTS))


@dataclass(frozen=True, eq=False)
class Outputs:
    """What one run of the network gave: float32, N pictures along the first axis, or without it for one picture."""

    logits: npt.NDArray[np.float32]  # (N, K)
    # Each location's share of each class's logit: logits = evidence.sum((1, 2)) + bias.
    evidence: npt.NDArray[np.float32]  # (N, h, w, K)
    ood: npt.NDArray[np.float32] | None = None  # (N, 1), of networks that have such an output

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, pictures: int | slice) -> Outputs:
        ood = None if self.ood is None else self.ood[pictures]
        return Outputs(self.logits[pictures], self.evidence[pictures], ood)

    @staticmethod
    def joined(parts: Iterable[Outputs]) -> Outputs:
        """The pictures of several runs of one network, one after the other."""
        every = list(parts)
        logits, evidence = (np.concatenate([getattr(part, name) for part in every]) for name in ("logits", "evidence"))
        oods = [part.ood for part in every if part.ood is not None]
        return Outputs(logits, evidence, np.concatenate(oods) if oods else None)


class Engine(Protocol):
    """A network that is loaded and ready. `run` may be called from several threads at once."""

    name: str  # "onnxruntime", "openvino" or "litert"
    provider: str  # what executes, in the engine's own words: "CPUExecutionProvider"
    device: str  # "cpu" or "cuda"
    precision: str  # what is computed: bf16 is computed from an fp32 artifact
    threads: int  # that one call of `run` uses
    input_shape: tuple[int, ...]  # (H, W, 1)
    classes: int

    def run(self, images: npt.NDArray[np.uint8]) -> Outputs:
        """The network's outputs for network inputs uint8 (N, H, W, 1), all of one run."""
        ...


class EngineModule(Protocol):
    """What a module of this folder offers for its row in `select.TABLE`; importing it imports no engine."""

    def available_devices(self) -> tuple[str, ...]:
        """Devices that the engine can use here; raises UnavailableError where it isn't installed or broken."""
        ...

    def on_cpu(self) -> tuple[str, ...]:
        """Precisions that it computes on this machine's CPU."""
        ...

    def load(self, model: bytes, device: str, precision: str, threads: int, workers: int) -> Engine:
        """A model for `workers` calls at a time of `threads` threads.

        Raises UnavailableError for a device or precision that isn't there, BundleError for the model.
        """
        ...
