"""A RUN: the folder that a fit leaves behind and the export stage reads.

model.weights.h5      Keras weights, float32
run.json              recipe, labels, preprocessing contract, data fingerprint, seed, versions, figures
history.csv           one row an epoch
curves.png            the same, drawn
logits.npz            logits of the float32 model on dev and test, with file names and labels
"""

from __future__ import annotations

import csv
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.errors import BundleError, UsageError
from edgecxr.lab.train.recipes import Recipe
from edgecxr.pictures.preprocess import Contract
from edgecxr.system import locks, storage

WEIGHTS = "model.weights.h5"
DESCRIPTION = "run.json"
HISTORY = "history.csv"
CURVES = "curves.png"
LOGITS = "logits.npz"
FOLDS = "folds.json"  # of a cross-validation, beside its runs
LEFT_OUT = "left-out.json"  # of fits that each leave one value of a column out, beside their runs
SCHEMA = 1


@dataclass(frozen=True)
class Logits:
    """Outputs of the float32 Keras model on one split."""

    files: tuple[str, ...]
    classes: npt.NDArray[np.int64]  # (N,) index into labels
    logits: npt.NDArray[np.float32]  # (N, K)


@dataclass(frozen=True)
class Run:
    """A finished fit, read back from its folder."""

    folder: Path
    recipe: Recipe
    labels: tuple[str, ...]
    contract: Contract
    description: dict[str, Any]

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS

    @property
    def data_folders(self) -> tuple[Path, ...]:
        """Where the labelled pictures were; none where the run doesn't say."""
        data = self.description.get("data")
        found = data.get("folders", [data.get("folder")]) if isinstance(data, dict) else []
        known = isinstance(found, list) and all(isinstance(folder, str) and folder for folder in found)
        return tuple(map(Path, found)) if known else ()

    def logits(self, split: str) -> Logits:
        try:
            with np.load(self.folder / LOGITS, allow_pickle=False) as arrays:
                files = tuple(str(name) for name in arrays[f"{split}_files"])
                return Logits(files, arrays[f"{split}_classes"], arrays[f"{split}_logits"])
        except (OSError, KeyError, ValueError, EOFError, zlib.error, zipfile.BadZipFile):
            raise UsageError(f"the run holds no usable {LOGITS}: {self.folder}") from None


def check_new(folder: Path) -> None:
    """Raise UsageError where `folder` is neither absent nor empty; its lock doesn't count."""
    if folder.exists() and (not folder.is_dir() or any(entry.name != locks.LOCK for entry in folder.iterdir())):
        raise UsageError(f"the output folder exists and isn't empty (--resume goes on with a run): {folder}")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other trainings from `folder` while the block runs; raises UsageError where one of them keeps this from it.

    A training that died keeps nobody. On a file system without locks nobody is kept from anything.
    """
    with ExitStack() as stack:
        try:
            alone = stack.enter_context(locks.folder(folder))
        except OSError as error:
            raise UsageError(f"the folder can't be written to ({error.strerror}): {folder}") from None
        if not alone:
            raise UsageError(f"another training is writing this run; wait for it, or name another folder: {folder}")
        yield


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write beside `path` and rename: a description that stands is whole, and says that the run is.

    ASCII, so that names which aren't UTF-8 (Python's surrogates) come back as they were.
    """
    with storage.replacing_bytes(path, path.with_name(f"{path.name}.partial")) as file:
        file.write(storage.json_text(data).encode("ascii"))


def write_history(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_logits(folder: Path, by_split: dict[str, Logits]) -> None:
    arrays: dict[str, Any] = {}
    for split, part in by_split.items():
        arrays[f"{split}_files"] = np.array(part.files)
        arrays[f"{split}_classes"] = part.classes
        arrays[f"{split}_logits"] = part.logits
    np.savez(folder / LOGITS, **arrays)


def read_run(folder: Path) -> Run:
    """Read a RUN; raises UsageError where it isn't one or lacks its weights."""
    if not folder.is_dir():
        raise UsageError(f"no such run: {folder}")
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if description["schema"] != SCHEMA:
            raise UsageError(f"the run's schema is {description['schema']}, this version reads {SCHEMA}: {folder}")
        recipe = Recipe.from_json(description["recipe"])
        contract = Contract.from_json(description["preprocessing"]).upgraded()  # what it learnt from is read as it was
        labels = tuple(map(str, description["labels"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, BundleError) as error:
        raise UsageError(f"not a run of edgecxr train, {DESCRIPTION} can't be used ({error}): {folder}") from None
    if not (folder / WEIGHTS).is_file():
        raise UsageError(f"the run has no {WEIGHTS}; did the training end? {folder}")
    return Run(folder, recipe, labels, contract, description)
