"""The labelled pictures of a RUN as export meets them: decoded, in the run's own splits, with the run's own logits."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.errors import DataError, UsageError
from edgecxr.lab.dataset import Dataset, Example, read_dataset
from edgecxr.lab.evaluation.score import default_split
from edgecxr.lab.run import Logits, Run
from edgecxr.lab.selection import Selection
from edgecxr.lab.sources import read_datasets
from edgecxr.lab.train.pictures import Corpus

# The halves of dev: on one everything about int8 is chosen, on the other the gate decides.
CHOOSING, DECIDING = "dev (choosing half)", "dev (deciding half)"


@dataclass(frozen=True)
class Labelled:
    """The run's labelled pictures, decoded."""

    dataset: Dataset
    pictures: npt.NDArray[np.uint8]  # (N, H, W), in the order of dataset.examples

    def rows(self, part: str) -> list[int]:
        """Places among all examples of a split's, or of those of a half of dev."""
        if part in (CHOOSING, DECIDING):
            dev = self.rows("dev")
            return [dev[place] for place in self.halves[part]]
        return [row for row, example in enumerate(self.dataset.examples) if example.split == part]

    def groups(self, part: str) -> list[str]:
        return [self.dataset.examples[row].group for row in self.rows(part)]

    @cached_property
    def halves(self) -> dict[str, list[int]]:
        """Places among dev's pictures of each half's; raises DataError where a half would be empty."""
        return dict(zip((CHOOSING, DECIDING), halves(self.dataset.split("dev")), strict=True))


def halves(examples: Sequence[Example]) -> tuple[list[int], list[int]]:
    """Places of two halves in which every class and origin is alike, and no group is divided.

    The same groups are divided alike whatever their order, by hashes of their names. Raises DataError for one group.
    """
    members: dict[str, list[int]] = {}
    for place, example in enumerate(examples):
        members.setdefault(example.group, []).append(place)

    def order(group: str) -> tuple[tuple[str, str], str]:
        kind = min((examples[place].label, examples[place].origin) for place in members[group])
        return kind, hashlib.sha256(group.encode("utf-8", "surrogateescape")).hexdigest()

    ordered = sorted(members, key=order)
    if len(ordered) < 2:
        raise DataError(
            f"dev must hold two groups of pictures or more, to choose on one half and decide on the other; "
            f"got {len(ordered)}"
        )
    first, second = (sorted(place for group in ordered[begin::2] for place in members[group]) for begin in (0, 1))
    return first, second


def spread_over_origins(examples: Sequence[Example], count: int) -> list[int]:
    """Rows of `count` training pictures (all of them, where there are fewer), spread evenly over (class, origin).

    Every (class, origin) gives the same number as far as it can, taken at even distances in the manifest's order, so
    that neighbours from one patient don't stand for a whole class.
    """
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, example in enumerate(examples):
        if example.split == "train":
            groups[example.label, example.origin].append(row)
    available = sum(len(rows) for rows in groups.values())
    chosen: list[int] = []
    # Smallest group first: what it can't give is shared among the others.
    ordered = sorted(groups.items(), key=lambda item: (len(item[1]), item[0]))
    for position, (_, rows) in enumerate(ordered):
        share = min(len(rows), (min(count, available) - len(chosen)) // (len(ordered) - position))
        chosen.extend(rows[i * len(rows) // share] for i in range(share))
    return sorted(chosen)


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


def elsewhere(
    run: Run, folder: Path, cache: Path, advance: Callable[[int, int], Any] = lambda done, total: None
) -> tuple[Labelled, int]:
    """(labelled pictures that the run wasn't fitted on, how many are left out since the run doesn't know their label).

    Of a folder with splits the test pictures. Raises DataError where there are none, or one can't be decoded.
    """
    dataset = read_dataset(folder)
    chosen = dataset.examples if default_split(dataset) == "all" else dataset.split("test")
    known = tuple(example for example in chosen if example.label in run.labels)
    if not known:
        raise DataError(f"no picture there has one of the run's labels {', '.join(run.labels)}: {folder}")
    decoded = Corpus(known).inputs(run.contract, cache, lambda done: advance(done, len(known)))
    return Labelled(replace(dataset, examples=known, labels=run.labels), decoded), len(chosen) - len(known)
