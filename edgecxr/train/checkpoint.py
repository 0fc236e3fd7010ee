"""Everything that a fit needs to go on to the same bit: weights, optimizer, seeds, metrics, place and history.

Keras's own saving isn't enough: `save_weights` leaves out the states of seed generators, and a freshly compiled model
skips the optimizer's variables with a warning only.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from edgecxr.errors import UsageError
from edgecxr.train import storage

FILE = "checkpoint.npz"
SCHEMA = 1
Arrays = list[npt.NDArray[Any]]


@dataclass
class Variables:
    """Values of a model's variables (seed generators among them), its optimizer's and its metrics'."""

    model: Arrays
    optimizer: Arrays
    metrics: Arrays

    @classmethod
    def read(cls, whole: Any, trained: Any) -> Variables:
        """Of the whole model, and of the optimizer and metrics of what is trained: it, or its head."""
        return cls(_values(whole.variables), _values(trained.optimizer.variables), _values(_metrics_variables(trained)))

    def assign_model(self, model: Any) -> None:
        _assign(model.variables, self.model)

    def assign_optimizer(self, trained: Any) -> None:
        """Put the optimizer's values back; it must be built."""
        _assign(trained.optimizer.variables, self.optimizer)

    def assign_metrics(self, trained: Any) -> None:
        """Put the metrics back, once the epoch's beginning has reset them."""
        _assign(_metrics_variables(trained), self.metrics)


@dataclass
class Checkpoint:
    """Where a fit stands: `epoch` epochs are done in all, and `step` steps of the next one."""

    identity: dict[str, Any]  # what the fit was called with; another call must not go on from here
    epoch: int
    step: int
    history: list[dict[str, Any]]
    variables: Variables
    seconds: float = 0.0  # spent on training so far

    def save(self, folder: Path) -> None:
        """Write the checkpoint, replacing the last one only when it is whole. Raises StorageError."""
        about = {
            "schema": SCHEMA,
            "identity": self.identity,
            "epoch": self.epoch,
            "step": self.step,
            "history": self.history,
            "seconds": self.seconds,
        }
        arrays: dict[str, Any] = {"about": np.array(json.dumps(about))}
        for part in ("model", "optimizer", "metrics"):
            for index, value in enumerate(getattr(self.variables, part)):
                arrays[f"{part}/{index:04d}"] = value
        storage.save_arrays(folder / FILE, arrays)


def load(folder: Path) -> Checkpoint | None:
    """The checkpoint in `folder`, or None where there is none; raises UsageError for one that can't be used."""
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            if about["schema"] != SCHEMA:
                raise UsageError(f"the checkpoint's schema is {about['schema']}, this version reads {SCHEMA}: {file}")
            parts = {
                part: [arrays[name] for name in sorted(arrays.files) if name.startswith(f"{part}/")]
                for part in ("model", "optimizer", "metrics")
            }
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f"the checkpoint can't be read ({type(error).__name__}): {file}") from None
    return Checkpoint(
        about["identity"], about["epoch"], about["step"], about["history"], Variables(**parts), about["seconds"]
    )


def check_identity(checkpoint: Checkpoint, identity: dict[str, Any]) -> None:
    """Raise UsageError where a checkpoint is of another fit, and say what differs."""
    now = json.loads(json.dumps(identity))  # as it reads back: tuples are lists
    differing = sorted(key for key in now | checkpoint.identity if now.get(key) != checkpoint.identity.get(key))
    if differing:
        raise UsageError(
            f"--resume goes on with the same call only; what differs from the run's: {', '.join(differing)}"
        )


def _metrics_variables(model: Any) -> list[Any]:
    return [variable for metric in model.metrics for variable in metric.variables]


def _values(variables: Sequence[Any]) -> Arrays:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _assign(variables: Sequence[Any], values: Arrays) -> None:
    if [tuple(v.shape) for v in variables] != [value.shape for value in values]:
        raise UsageError("the checkpoint doesn't fit the model that this call builds")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
