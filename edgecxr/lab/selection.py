"""Which films a fit learns from, watches and tests: as it was asked for, and as run.json keeps it."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgecxr.errors import DataError, UsageError
from edgecxr.lab.dataset import SPLITS, Dataset, check_splits, folds, with_splits, without_value
from edgecxr.lab.sources import check_folders, read_datasets


@dataclass(frozen=True)
class Selection:
    """A choice among the films of a data set. `fold` and `held_out` are two ways to choose the test split."""

    where: Mapping[str, str] = field(default_factory=dict)  # manifest columns that films must have
    ignored_labels: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()  # names of films that are neither learnt from nor watched; they are tested
    fold: tuple[int, int] | None = None  # (number from 1, of how many)
    held_out: tuple[str, str] | None = None  # (column, value): tested, and nothing else is

    def narrowed(self, dataset: Dataset) -> Dataset:
        """The films that are chosen from, without splits of their own; raises UsageError and DataError."""
        for label in self.ignored_labels:
            if label not in dataset.labels:
                raise UsageError(f"--ignore-label expects one of {', '.join(dataset.labels)}, got {label!r}")
        if self.where:
            dataset = dataset.where(self.where)
        examples = tuple(e for e in dataset.examples if e.label not in self.ignored_labels)
        if not examples:
            raise DataError(f"no film is left once {', '.join(self.ignored_labels)} is ignored")
        dataset = replace(dataset, examples=examples, labels=tuple(sorted({e.label for e in examples})))
        check_folders(dataset)
        return dataset

    def wanted(self, dataset: Dataset) -> Dataset:
        """The films with those columns that aren't left out, whatever their label and split: of an evaluation."""
        dataset = dataset.where(self.where)
        dropped = set(self.left_out)
        return replace(dataset, examples=tuple(e for e in dataset.examples if e.file not in dropped))

    def of(self, dataset: Dataset, seed: int) -> Dataset:
        """The films with their splits; raises UsageError, and DataError where a class or a group forbids it."""
        dataset = self.narrowed(dataset)
        if self.fold:
            number, count = self.fold
            dataset = folds(dataset, count, seed)[number - 1]
        elif self.held_out:
            dataset = without_value(dataset, *self.held_out, seed)
        else:
            dataset = with_splits(dataset, seed)
        if self.left_out:
            dropped = set(self.left_out)
            kept = tuple(e for e in dataset.examples if e.split == "test" or e.file not in dropped)
            dataset = replace(dataset, examples=kept)
            check_splits(dataset, SPLITS[:2] if self.held_out else SPLITS)
        return dataset

    def to_json(self) -> dict[str, Any]:
        about: dict[str, Any] = {"where": dict(self.where)}
        if self.ignored_labels:
            about["ignored_labels"] = list(self.ignored_labels)
        if self.left_out:
            about["left_out"] = list(self.left_out)
        if self.fold:
            about |= {"fold": self.fold[0], "folds": self.fold[1]}
        if self.held_out:
            about["held_out"] = {"column": self.held_out[0], "value": self.held_out[1]}
        return about

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Selection:
        """Of a run's description of its data, also of one that calls a held-out origin `hold_out_origin`."""
        held_out = data.get("held_out")
        if data.get("hold_out_origin"):
            held_out = {"column": "origin", "value": data["hold_out_origin"]}
        return cls(
            data.get("where") or {},
            tuple(data.get("ignored_labels", ())),
            tuple(data.get("left_out", ())),
            (int(data["fold"]), int(data["folds"])) if data.get("folds") else None,
            (held_out["column"], held_out["value"]) if held_out else None,
        )


def check_told_apart(dataset: Dataset) -> None:
    """Raise DataError where the test split has films of one class only: nothing is told apart there."""
    labels = sorted({example.label for example in dataset.split("test")})
    if len(labels) < 2:
        raise DataError(f"a test needs films of two classes or more, there are only films of {', '.join(labels)}")


def read_left_out(lists: Sequence[Path], data: Sequence[Path]) -> tuple[str, ...]:
    """The names of the films that CSV files list in their column `file`, sorted.

    A name is relative to the folder of its list, or the film's in the data set of the folders `data`; what isn't there
    needn't be left out. Raises DataError for a list that can't be read, and for one of which no film is there; and what
    `read_datasets` raises.
    """
    named: set[str] = set()
    if lists:
        examples = read_datasets(data).examples
        by_place = {os.path.realpath(example.path): example.file for example in examples}
        by_name = {example.file for example in examples}
        for file in lists:
            names = _listed(file)
            found = {by_place.get(os.path.realpath(file.parent / name), name) for name in names} & by_name
            if not found:
                raise DataError(
                    f"a list of films to leave out must name some of the data's, none of {len(names)} is: {file}"
                )
            named |= found
    return tuple(sorted(named))


def _listed(file: Path) -> list[str]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            names = [row.get("file") for row in csv.DictReader(opened)]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"the list of films to leave out can't be read ({type(error).__name__}): {file}") from None
    if not all(names):
        raise DataError(f"a list of films to leave out needs a column file, filled in each row: {file}")
    return [name for name in names if name]
