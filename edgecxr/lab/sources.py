"""Several data folders as one data set: how their films are called, and what may not be in two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgecxr.errors import DataError, UsageError
from edgecxr.lab import layout
from edgecxr.lab.dataset import Dataset, Example, grouped, read_dataset


def read_datasets(folders: Sequence[Path]) -> Dataset:
    """The labelled pictures of one folder as `read_dataset` reads them, or of several as one data set.

    Of several, a film is called FOLDERNAME/file, and one whose source isn't known has its folder's name as its source.
    A group or a patient of the same name in two folders is the same. Raises what `read_dataset` raises, and UsageError
    for folders of one name.
    """
    if len(folders) == 1:
        return read_dataset(folders[0])
    names = [folder.resolve().name for folder in folders]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"several data folders must have different names, got twice: {name}")
    parts = [read_dataset(folder) for folder in folders]
    examples = [_of(name, example) for name, part in zip(names, parts, strict=True) for example in part.examples]
    labels = tuple(sorted({example.label for example in examples}))
    layout.check_labels(labels, " + ".join(names))
    left_out = [(f"{name}/{file}", why) for name, part in zip(names, parts, strict=True) for file, why in part.left_out]
    return Dataset(parts[0].folder, labels, tuple(grouped(examples)), tuple(left_out), beside=tuple(folders[1:]))


def _of(name: str, example: Example) -> Example:
    columns = {**example.columns, "source": example.source or name}
    group = f"{name}/{example.group}"
    return replace(example, file=f"{name}/{example.file}", columns=columns, group=group, folder=name)


def check_folders(dataset: Dataset) -> None:
    """Raise DataError where one of several folders has no film (any more), or none of the others' labels."""
    labels: dict[str, set[str]] = {folder.resolve().name: set() for folder in dataset.folders}
    if len(labels) == 1:
        return
    for example in dataset.examples:
        labels[example.folder].add(example.label)
    empty = [name for name, own in labels.items() if not own]
    if empty:
        raise DataError(f"each data folder must have films to learn from, none is left of {', '.join(empty)}")
    for name, own in labels.items():
        others = sorted({label for other in labels if other != name for label in labels[other]})
        if not own & set(others):
            raise DataError(
                f"data folders must share a label with another, {', '.join(others)} elsewhere, got {name} "
                f"with {', '.join(sorted(own))}"
            )


class Twins:
    """Films as their contents are hashed, one after the other: none may be in two sources."""

    def __init__(self) -> None:
        self._first: dict[str, Example] = {}

    def add(self, example: Example, content: str) -> None:
        """Raise DataError where a film of the same `content` came from another source or folder before."""
        first = self._first.setdefault(content, example)
        if (first.folder, first.source) != (example.folder, example.source):
            raise DataError(
                f"the same film may not be in two sources, got {_described(first)} and {_described(example)}"
            )


def _described(example: Example) -> str:
    return f"{example.file} ({', '.join(part for part in (example.source, example.split) if part)})"
