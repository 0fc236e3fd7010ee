"""Labelled pictures on disk: a folder with a `manifest.csv`, or a folder per class.

Used by training, evaluation and calibration; standard library only, so that `edgecxr eval` runs on a device.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgecxr.errors import DataError, UsageError
from edgecxr.lab import layout
from edgecxr.lab.layout import LeftOut
from edgecxr.lab.manifest import read_rows, relative_file
from edgecxr.pictures.dicom.elements import patient_and_study

MANIFEST = "manifest.csv"
SPLITS = ("train", "dev", "test")
SHARES = {"train": 0.60, "dev": 0.15, "test": 0.25}  # of the groups of each class, where the data brings no split
SHARES_BESIDE_A_TEST = {"train": 0.80, "dev": 0.20}  # the same, where other pictures are the test


@dataclass(frozen=True)
class Example:
    """One labelled picture. `group` (a patient's, or near-duplicates) is never divided between splits."""

    path: Path
    file: str  # relative to the data folder, with forward slashes
    label: str
    split: str | None
    group: str
    columns: Mapping[str, str]  # the manifest's row; empty for a folder per class
    folder: str = ""  # the name of its data folder, where there are several

    @property
    def origin(self) -> str:
        return self.columns.get("origin", "")

    @property
    def source(self) -> str:
        return self.columns.get("source", "")


@dataclass(frozen=True)
class Dataset:
    """Labelled pictures in the order of the manifest, or sorted by path."""

    folder: Path
    labels: tuple[str, ...]  # sorted
    examples: tuple[Example, ...]
    left_out: tuple[LeftOut, ...] = ()  # files of the folders that are no example, and why
    beside: tuple[Path, ...] = ()  # further data folders, where there are several

    @property
    def account(self) -> str:
        """One line about `left_out`, which begins with the folders; empty where every file is used."""
        account = layout.account(self.left_out)
        return f"{' + '.join(map(str, self.folders))}: {account}" if account else ""

    @property
    def folders(self) -> tuple[Path, ...]:
        return (self.folder, *self.beside)

    @property
    def name(self) -> str:
        return " + ".join(folder.resolve().name for folder in self.folders)

    def split(self, name: str) -> tuple[Example, ...]:
        return tuple(example for example in self.examples if example.split == name)

    def where(self, conditions: Mapping[str, str]) -> Dataset:
        """Only the examples whose manifest columns have these values; raises DataError for an unknown column."""
        for column in conditions:
            if not all(column in example.columns for example in self.examples):
                raise DataError(f"manifest.csv has no column {column!r}")
        kept = tuple(e for e in self.examples if all(e.columns[c] == v for c, v in conditions.items()))
        if not kept:
            raise DataError(f"no picture has {', '.join(f'{c}={v}' for c, v in conditions.items())}")
        return replace(self, examples=kept, labels=tuple(sorted({e.label for e in kept})))


def read_dataset(folder: Path) -> Dataset:
    """Read labelled pictures; raises DataError where the folder holds none or its manifest can't be used."""
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}")
    manifest = folder / MANIFEST
    examples, left_out = _from_manifest(folder, manifest) if manifest.is_file() else _from_folders(folder)
    if not examples:
        raise DataError(
            f"no labelled pictures: {folder} has neither a manifest.csv nor a folder per class{_in_brackets(left_out)}"
        )
    labels = tuple(sorted({example.label for example in examples}))
    layout.check_labels(labels, folder)
    return Dataset(folder, labels, tuple(examples), tuple(left_out))


def _from_manifest(folder: Path, manifest: Path) -> tuple[list[Example], list[LeftOut]]:
    examples = []
    seen = set()
    for line, row in read_rows(manifest):
        if not row["file"] or not row["label"].strip():
            raise DataError(f"{manifest} line {line} needs a file and a label")
        file, split = relative_file(folder, row["file"]), row.get("split") or None
        if file is None:
            raise DataError(f"{manifest} line {line} names a file outside the folder: {row['file']}")
        if file in seen:
            raise DataError(f"{manifest} line {line} names a file a second time: {file}")
        seen.add(file)
        if split is not None and split not in SPLITS:
            raise DataError(f"{manifest} line {line}: split must be one of {', '.join(SPLITS)}, not {split!r}")
        examples.append(Example(folder / file, file, row["label"], split, file, row))
    named = [_named(example) for example in examples]
    return grouped(examples) if any(named) else _by_patient(examples), layout.unlisted(folder, seen)


def grouped(examples: Sequence[Example]) -> list[Example]:
    """The same with the groups that the columns `group` and `patient` name, joined where they meet.

    What names neither keeps its group.
    """
    return _joined(examples, [_named(example) or [("patient", example.group)] for example in examples])


def _named(example: Example) -> list[tuple[str, str]]:
    return [(column, example.columns[column]) for column in ("group", "patient") if example.columns.get(column)]


def _by_patient(examples: Sequence[Example]) -> list[Example]:
    """The same with DICOM films of a patient or a study in one group, which is called by its first file.

    Patients and studies are told apart by hashes, which are forgotten here.
    """
    names = []
    for example in examples:
        found = zip(("patient", "study"), patient_and_study(layout.dicom_head(example.path)), strict=True)
        names.append([("file", example.file), *((kind, _digest(repr(value)).hex()) for kind, value in found if value)])
    return _joined(examples, names)


def _joined(examples: Sequence[Example], names: Sequence[Sequence[tuple[str, str]]]) -> list[Example]:
    """The same with the groups that `names` gives for each, (kind, name), joined where they meet.

    A patient with films in two groups makes one of them. It is called by the first of its names in the alphabet: by
    its group, or by its patient where no film has a group.
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for nodes in names:
        # The smaller name becomes the root; "group" comes before "patient", and "file" before both.
        first, *others = sorted({root(node) for node in nodes})
        for other in others:
            parent[other] = first
    return [replace(example, group=root(nodes[0])[1]) for example, nodes in zip(examples, names, strict=True)]


def _from_folders(folder: Path) -> tuple[list[Example], list[LeftOut]]:
    examples = []
    left_out: list[LeftOut] = []
    empty = []
    entries = sorted(folder.iterdir())
    layout.check_no_database(folder, (entry.name for entry in entries if entry.is_dir()))
    for entry in entries:
        if layout.is_hidden(entry.name) or not entry.is_dir():
            left_out.append((entry.name, layout.HIDDEN if layout.is_hidden(entry.name) else layout.BESIDE))
            continue
        pictures, others = layout.pictures(folder, entry)
        left_out += others
        if not pictures and not layout.is_mask_folder(entry.name):
            empty.append(entry.name)
        for path in pictures:
            file = path.relative_to(folder).as_posix()
            examples.append(Example(path, file, entry.name, None, file, {}))
    if examples and empty:
        raise DataError(
            f"every folder is a class, and {', '.join(empty)} holds no picture; take it out of {folder}"
            + _in_brackets(left_out)
        )
    found = {example.label.lower() for example in examples}
    if found and found <= {*SPLITS, "val", "valid", "validation"}:
        raise DataError(f"the folders are splits and not classes, write a manifest.csv with a split column: {folder}")
    return _by_patient(examples), left_out


def _in_brackets(left_out: Sequence[LeftOut]) -> str:
    return f" ({layout.account(left_out)})" if left_out else ""


def check_outside(folders: Sequence[Path], place: Path) -> None:
    """Raise UsageError where `place` is among class folders: it would be a class itself, or its plots pictures."""
    for folder in folders:
        if not (folder / MANIFEST).is_file() and folder.resolve() in place.resolve().parents:
            raise UsageError(f"each folder in the data's is a class; name a place outside of it: {place}")


def with_splits(dataset: Dataset, seed: int) -> Dataset:
    """The same data with every example in a split: the manifest's, or one made by group and stratified by label.

    Groups are ordered by a hash of (seed, group), so that adding a picture moves no other one across a border by more
    than the borders themselves move. Raises DataError where only some examples have a split, a group is divided, or a
    split has no picture of a class.
    """
    dataset = _split(dataset, seed)
    check_splits(dataset, SPLITS)
    return dataset


def _split(dataset: Dataset, seed: int, shares: Mapping[str, float] = SHARES) -> Dataset:
    by_folder: dict[str, list[Example]] = defaultdict(list)
    for example in dataset.examples:
        by_folder[example.folder].append(example)
    if all(example.split is None for example in dataset.examples):
        return replace(dataset, examples=tuple(_assigned(dataset.examples, seed, shares)))
    examples: list[Example] = []
    for own in by_folder.values():  # of several data folders, one may bring splits where another brings none
        given = {example.split is not None for example in own}
        if given == {True, False}:
            raise DataError("some pictures of the manifest have a split and some don't")
        examples += own if given == {True} else _assigned(own, seed, shares)
    return replace(dataset, examples=tuple(examples))


def without_value(dataset: Dataset, column: str, value: str, seed: int) -> Dataset:
    """Splits for leave-one-out: all films whose `column` has this `value` are the test split, others are learnt from.

    The others keep the splits that the manifest gives; their test pictures are left out, so that they stay unseen.
    Where it gives none, they are all learnt from (a fifth of them as the dev split).
    A group with a picture of the value is left out of the others. Raises DataError for an unknown value, and where a
    class would vanish from what is learnt from.
    """
    values = values_of(dataset, column)
    if value not in values:
        raise DataError(f"{column} must be one of {'; '.join(values) or 'none, there are none'}, got {value!r}")
    held_out = [replace(e, split="test") for e in dataset.examples if e.columns.get(column) == value]
    groups = {example.group for example in held_out}
    others = replace(dataset, examples=tuple(e for e in dataset.examples if e.group not in groups))
    vanished = [label for label in dataset.labels if label not in {example.label for example in others.examples}]
    if vanished:
        raise DataError(f"without the {column} {value!r} no picture of {', '.join(vanished)} is left to learn from")
    split = _split(others, seed, SHARES_BESIDE_A_TEST)
    kept = [example for example in split.examples if example.split != "test"]
    held = replace(dataset, examples=tuple(sorted([*kept, *held_out], key=lambda example: example.file)))
    check_splits(held, ("train", "dev"))
    return held


def values_of(dataset: Dataset, column: str) -> list[str]:
    """The different values of a manifest column, sorted, less the empty one."""
    return sorted({example.columns.get(column, "") for example in dataset.examples} - {""})


def folds(dataset: Dataset, count: int, seed: int) -> list[Dataset]:
    """`count` copies of the data for cross-validation: in each, another part of each class is the test split.

    Every picture is a test picture exactly once, whatever splits the manifest gives; a fifth of the rest (by group and
    class) is the dev split. Raises DataError where a class has fewer groups than folds.
    """
    by_label = _groups_by_label(dataset.examples, seed)
    needed = max(count, 4 if count == 2 else 3)  # a group in each test part, and two beside it: for train and for dev
    for label in dataset.labels:
        if len(by_label[label]) < needed:
            raise DataError(
                f"{count} folds need {needed} groups of each class, {label} has only {len(by_label[label])}"
            )
    fold_of = {group: place % count for groups in by_label.values() for place, group in enumerate(groups)}
    made = []
    for fold in range(count):
        split_of: dict[str, str] = {}
        for groups in by_label.values():
            rest = [group for group in groups if fold_of[group] != fold]
            split_of |= {group: "dev" if place % 5 == 0 else "train" for place, group in enumerate(rest)}
        examples = [replace(e, split=split_of.get(e.group, "test")) for e in dataset.examples]
        made.append(replace(dataset, examples=tuple(examples)))
        check_splits(made[-1], SPLITS)
    return made


def check_splits(dataset: Dataset, complete: Sequence[str]) -> None:
    """Raise DataError where a group is divided, or one of the splits `complete` has no picture of a class."""
    splits_of: dict[str, set[str | None]] = defaultdict(set)
    for example in dataset.examples:
        splits_of[example.group].add(example.split)
    divided = sorted(group for group, splits in splits_of.items() if len(splits) > 1)
    if divided:
        raise DataError(f"{len(divided)} groups stand in more than one split, the first is {divided[0]!r}")
    for split in complete:
        present = {example.label for example in dataset.split(split)}
        absent = [label for label in dataset.labels if label not in present]
        if absent:
            raise DataError(f"the {split} split has no picture of {', '.join(absent)}")


def _groups_by_label(examples: Sequence[Example], seed: int) -> dict[str, list[str]]:
    """The groups of each label, in an order that depends on (seed, group) alone."""
    label_of = {example.group: example.label for example in examples}  # a group of two labels counts under its last
    by_label: dict[str, list[str]] = defaultdict(list)
    for group in sorted(label_of, key=lambda g: _digest(f"{seed}:{g}")):
        by_label[label_of[group]].append(group)
    return by_label


def _digest(text: str) -> bytes:
    # A file's name that isn't UTF-8 is held as lone surrogates; any other text gives its own bytes.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _assigned(examples: Sequence[Example], seed: int, shares: Mapping[str, float]) -> list[Example]:
    split_of: dict[str, str] = {}
    for groups in _groups_by_label(examples, seed).values():
        # Every split gets a group where there are three of them; train gets what is left.
        dev = max(1, round(len(groups) * shares["dev"]))
        test = max(1, round(len(groups) * shares["test"])) if "test" in shares else 0
        for position, group in enumerate(groups):
            split_of[group] = "dev" if position < dev else "test" if position < dev + test else "train"
    return [replace(example, split=split_of[example.group]) for example in examples]
