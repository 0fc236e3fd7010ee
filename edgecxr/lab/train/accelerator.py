"""What the arithmetic runs on: chosen by name, never by accident."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import keras

from edgecxr.errors import UnavailableError
from edgecxr.lab.train.batches import BATCH
from edgecxr.system.machine import cpu_flags

# Processors without these emulate bfloat16, which is slower than float32.
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
# CUDA C++ Programming Guide, "Compute Capabilities": arithmetic on bfloat16 begins with 8.0 (Ampere).
BFLOAT16_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Accelerator:
    """Devices of one kind: `kind` is cpu or gpu, `names` what Keras calls them, e.g. cpu:0."""

    backend: str
    kind: str
    names: tuple[str, ...]

    @property
    def bfloat16(self) -> bool:
        """Whether bfloat16 arithmetic is done in hardware; not where a GPU doesn't say what it can do."""
        if self.kind == "gpu":
            return all(_capability(self.backend, name) >= BFLOAT16_CAPABILITY for name in self.names)
        return bool(BFLOAT16_FLAGS & cpu_flags())

    def __str__(self) -> str:
        count = f"{len(self.names)} x {self.kind}" if len(self.names) > 1 else self.kind
        return f"{count} ({self.backend})"


def choose(device: str = "auto", batch_size: int = BATCH) -> Accelerator:
    """The devices to train on: `cpu`, `gpu`, or `auto`, which takes a GPU where the backend sees one.

    Several devices share each batch on JAX, as many as divide it evenly; other backends use the first. Raises
    UnavailableError.
    """
    backend = keras.backend.backend()
    gpus = _listed("gpu")
    if device == "gpu" and not gpus:
        raise UnavailableError(
            f"--device gpu was asked for and Keras's backend {backend} sees none; "
            "GPUs are used through JAX: pip install 'edgecxr[train-gpu]' in an environment of its own"
        )
    kind, names = ("gpu", gpus) if gpus and device != "cpu" else ("cpu", _listed("cpu"))
    even = math.gcd(batch_size, BATCH)
    count = max(n for n in range(1, len(names) + 1) if even % n == 0) if backend == "jax" else 1
    return Accelerator(backend, kind, names[:count])


def _capability(backend: str, name: str) -> tuple[int, int]:
    """CUDA compute capability of a GPU by the name that Keras gives it (gpu:0); (0, 0) where it can't be told."""
    number = int(name.rpartition(":")[2])
    found: Any = None
    try:
        if backend == "jax":
            found = import_module("jax").devices("gpu")[number].compute_capability  # "8.0"; another maker's is a name
        elif backend == "tensorflow":
            config = import_module("tensorflow").config
            details = config.experimental.get_device_details(config.list_physical_devices("GPU")[number])
            found = ".".join(map(str, details["compute_capability"]))
        major, minor = str(found).split(".")
        return int(major), int(minor)
    except (RuntimeError, AttributeError, IndexError, KeyError, ValueError):
        return (0, 0)


def _listed(kind: str) -> tuple[str, ...]:
    try:
        return tuple(keras.distribution.list_devices(kind))
    except (RuntimeError, ValueError, NotImplementedError):  # JAX raises where it has no such platform
        return ()


def share_batches(accelerator: Accelerator) -> Any:
    """Let the devices share each batch from now on; returns what `keras.distribution.set_distribution` undoes it with.

    Each device holds all weights and a part of the batch (data parallelism).
    """
    before = keras.distribution.distribution()
    if len(accelerator.names) > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=list(accelerator.names)))
    return before
