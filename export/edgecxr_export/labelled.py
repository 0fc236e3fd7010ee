"""The labelled pictures of a RUN as export meets them: decoded, in the run's own splits, with the run's own logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.errors import DataError, UsageError
from edgecxr.lab.dataset import Dataset
from edgecxr.lab.run import Logits, Run
from edgecxr.lab.selection import Selection
from edgecxr.lab.sources import read_datasets
from edgecxr.lab.train.pictures import Corpus


@dataclass(frozen=True)
class Labelled:
    """The run's labelled pictures, decoded."""

    dataset: Dataset
    pictures: npt.NDArray[np.uint8]  # (N, H, W), in the order of dataset.examples

    def rows(self, split: str) -> list[int]:
        return [row for row, example in enumerate(self.dataset.examples) if example.split == split]

    def groups(self, split: str) -> list[str]:
        return [example.group for example in self.dataset.split(split)]


def load(
    run: Run, data: Sequence[Path], cache: Path, advance: Callable[[int, int], Any] = lambda done, total: None
) -> Labelled:
    """The pictures that the run was fitted on, in the run's splits; raises UsageError or DataError for others."""
    described = run.description["data"]
    folders = data or run.data_folders
    if not folders:
        raise UsageError("the run doesn't say where its pictures are; give --data DIR")
    dataset = run_splits(read_datasets(folders), run)
    place = ", ".join(map(str, folders))
    if dataset.labels != run.labels:
        raise DataError(
            f"the pictures must have the run's labels {', '.join(run.labels)}, got {', '.join(dataset.labels)}: {place}"
        )
    corpus, total = Corpus(dataset.examples), len(dataset.examples)
    inputs = corpus.inputs(run.contract, cache, lambda done: advance(done, total))
    if corpus.fingerprint(dataset.examples) != described["fingerprint"]:
        raise DataError(f"the pictures aren't those the run was fitted on, their fingerprint is another: {place}")
    return Labelled(dataset, inputs)


def run_splits(dataset: Dataset, run: Run) -> Dataset:
    """The data as the run was fitted on them: its films, in its splits."""
    return Selection.from_json(run.description["data"]).of(dataset, run.description["seed"])


def ordered(stored: Logits, data: Labelled, split: str) -> Logits:
    """`stored` in the order of the data; raises UsageError where it isn't of the same pictures."""
    files = tuple(data.dataset.examples[row].file for row in data.rows(split))
    place = {file: index for index, file in enumerate(stored.files)}
    if set(files) != set(place) or len(stored.logits) != len(files):
        raise UsageError(f"the run's logits must be of the {len(files)} pictures of {split}, got {len(stored.files)}")
    order = [place[file] for file in files]
    return replace(stored, files=files, classes=stored.classes[order], logits=stored.logits[order])
