"""Everything that a fit needs to go on to the same bit: weights, optimizer, seeds, metrics, place and history.

Keras's own saving isn't enough: `save_weights` leaves out the states of seed generators, and a freshly compiled model
skips the optimizer's variables with a warning only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from edgecxr.errors import UsageError
from edgecxr.lab.train import storage
from edgecxr.lab.train.recipes import Recipe
from edgecxr.pictures.preprocess import Contract

FILE = "checkpoint.npz"
SCHEMA = 1
PARTS = ("model", "optimizer", "metrics")  # fields of Variables
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

    def finite(self) -> bool:
        """Whether every value of the model and the optimizer is a finite number."""
        return all(np.isfinite(value).all() for value in (*self.model, *self.optimizer))

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
    seconds: float = 0.0  # spent on those steps

    def save(self, folder: Path) -> None:
        """Write the checkpoint, replacing the last one only when it is whole. Raises StorageError."""
        about = {
            "schema": SCHEMA,
            "identity": self.identity,
            "epoch": self.epoch,
            "step": self.step,
            "history": self.history,
            "seconds": self.seconds,
            "arrays": {part: len(getattr(self.variables, part)) for part in PARTS},
        }
        arrays: dict[str, Any] = {"about": np.array(json.dumps(about))}
        for part in PARTS:
            for index, value in enumerate(getattr(self.variables, part)):
                arrays[f"{part}/{index:04d}"] = value
        storage.save_arrays(folder / FILE, arrays)


def load(folder: Path) -> Checkpoint | None:
    """The checkpoint in `folder`, or None where the folder is absent or empty.

    Raises UsageError for a checkpoint that can't be used, and for a folder that holds other things and none.
    """
    file = folder / FILE
    if not file.is_file():
        if folder.is_dir() and any(entry.name != f"{FILE}{storage.PARTIAL}" for entry in folder.iterdir()):
            raise UsageError(f"there is no checkpoint to go on from, and the folder isn't empty: {folder}")
        return None
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            if about["schema"] != SCHEMA:
                raise UsageError(f"the checkpoint's schema is {about['schema']}, this version reads {SCHEMA}: {file}")
            parts = {part: [arrays[f"{part}/{index:04d}"] for index in range(about["arrays"][part])] for part in PARTS}
    except UsageError:
        raise
    except Exception as error:  # a damaged archive fails in a dozen ways: EOFError, zlib.error, NotImplementedError …
        raise UsageError(f"the checkpoint can't be read ({type(error).__name__}): {file}") from None
    return Checkpoint(
        about["identity"], about["epoch"], about["step"], about["history"], Variables(**parts), about["seconds"]
    )


def check_identity(then: dict[str, Any], identity: dict[str, Any]) -> None:
    """Raise UsageError where `then`, read back from a run, is of another call than `identity`, and say what differs."""
    found = differing(then, identity)
    if found:
        raise UsageError(f"--resume goes on with the same call only; what differs from the run's: {', '.join(found)}")


def differing(then: dict[str, Any], identity: dict[str, Any]) -> list[str]:
    """The keys whose values differ between `then`, read back from a run, and `identity`, sorted."""
    now = json.loads(json.dumps(identity))  # as it reads back: tuples are lists
    if "recipe" in then:  # of before a field was there
        then = {**then, "recipe": json.loads(json.dumps(Recipe.from_json(then["recipe"]).to_json()))}
    if "preprocessing" in then:  # an earlier version's contract, which lacks what doesn't concern these pictures
        then = {**then, "preprocessing": Contract.from_json(then["preprocessing"]).upgraded().to_json()}
    return sorted(key for key in now | then if now.get(key) != then.get(key))


def _metrics_variables(model: Any) -> list[Any]:
    return [variable for metric in model.metrics for variable in metric.variables]


def _values(variables: Sequence[Any]) -> Arrays:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _assign(variables: Sequence[Any], values: Arrays) -> None:
    if [tuple(v.shape) for v in variables] != [value.shape for value in values]:
        raise UsageError("the checkpoint doesn't fit the model that this call builds")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
