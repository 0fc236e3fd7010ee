"""The folder of a run's records: parts in Parquet, named by a journal, and under another name until it is whole.

    DIR.part/              while the run lasts, or after it was killed
      _inputs.jsonl.gz     what it scores, a line an input
      _journal.jsonl       what it is; then a line for each part, once the part is whole under its name
      part-00000.parquet   the records of the inputs 0 to size - 1, in their order; and so on
    DIR/                   the same, renamed once every part is there

So DIR is whole or not there, and a part that the journal doesn't name, or names with another hash, is none.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgecxr.cluster.store import is_address
from edgecxr.errors import StorageError, UnavailableError, UsageError
from edgecxr.records.journal import Journal, whole_lines
from edgecxr.system import storage

JOURNAL = "_journal.jsonl"
SCHEMA = 1
MAX_LINE = 1 << 20  # bytes of a line of the journal


@dataclass(frozen=True)
class Place:
    """The folder that was asked for, and what it is called until it is whole."""

    target: Path

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    def check_apart(self, paths: Iterable[str]) -> None:
        """Raise UsageError where the folder lies among pictures, as which its own files would be found."""
        for path in paths:
            if not is_address(path) and self.target.is_relative_to(storage.resolve(Path(path))):
                raise UsageError(f"with --ray the output lies outside of the folders to score, got: {self.target}")


@dataclass(frozen=True)
class Header:
    """What a run is, the first line of its journal."""

    asked: Mapping[str, Any]  # of what and how it makes records; a resumed run has to ask for the same
    inputs: int
    skipped: int  # entries that were passed over
    listing_sha256: str
    part_size: int  # inputs of each part, but the last


@dataclass(frozen=True)
class Part:
    """A part of the records, and what is to be known of it without reading it."""

    parquet: bytes
    records: int
    statuses: Mapping[str, int]
    labels: Mapping[str, int]
    again: int  # records that --resume makes anew
    made_by: Mapping[str, Any]  # the provenance of all of them
    plan: Mapping[str, int]


@dataclass(frozen=True)
class Entry:
    """A part that is whole: a line of the journal."""

    part: int
    file: str
    sha256: str
    records: int
    statuses: Mapping[str, int]
    labels: Mapping[str, int]
    again: int  # records of what couldn't be read, which --resume makes anew


@dataclass
class Left:
    """What a journal says."""

    header: Header | None = None
    made_by: Mapping[str, Any] | None = None
    entries: dict[int, Entry] = field(default_factory=dict)  # the last of each part
    size: int = 0  # bytes of its whole lines


def file_of(part: int) -> str:
    return f"part-{part:05}.parquet"


def parse(lines: Iterable[bytes], where: Path) -> Left:
    """What the lines of a journal say; raises UsageError for anything else than a journal of this version."""
    left = Left()
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if number == 1:
                if row.pop("schema") != SCHEMA:
                    raise ValueError("another schema")
                left.header = Header(**row)
            elif "made_by" in row:
                left.made_by = row["made_by"]
            else:
                entry = Entry(**row)
                if entry.file != file_of(entry.part):
                    raise ValueError("another name")
                left.entries[entry.part] = entry
        except (ValueError, TypeError, KeyError, AttributeError):
            raise UsageError(f"expected a journal of infer --ray, line {number} is none: {where}") from None
        left.size += len(line)
    return left


def todo(
    parts: int, entries: Mapping[int, Entry], is_whole: Callable[[Entry], bool], *, again: bool = True
) -> list[int]:
    """The parts that are still to do: without a line, whose file isn't the one of the line, or, with `again`, with
    records that are to be made anew."""
    return [
        part
        for part in range(parts)
        if (entry := entries.get(part)) is None or (entry.again and again) or not is_whole(entry)
    ]


def check(path: Path, *, overwrite: bool, going_on: bool) -> Place:
    """Where the records go; raises UsageError where they can't, before anything else is done for them."""
    if overwrite and going_on:
        raise UsageError("--resume keeps what is there and --overwrite replaces it; give one of them")
    place = Place(storage.resolve(path))
    if not place.target.parent.is_dir():
        raise UsageError(f"the output can't be written there, no such folder: {place.target.parent}")
    for folder in (place.target, place.part):
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"with --ray the output is a folder of records, and this is a file: {folder}")
        if not folder.is_dir() or not any(folder.iterdir()):
            continue
        if not (folder / JOURNAL).is_file():
            raise UsageError(f"the folder holds something else than records of --ray, and is kept: {folder}")
        if not (overwrite or going_on):
            what = "the output exists" if folder == place.target else "an unfinished run left its records"
            raise UsageError(f"{what}; give --resume to go on, or --overwrite to begin again: {folder}")
    storage.check_writable(place.target)
    return place


class Output:
    """The folder while a run lasts, which no other run has meanwhile; a context manager."""

    def __init__(self, place: Place, *, overwrite: bool, going_on: bool) -> None:
        """Open it, empty or with what an earlier run left (`left`). Raises UsageError and StorageError."""
        self.place = place
        journal = place.part / JOURNAL
        if going_on and not place.part.exists() and (place.target / JOURNAL).is_file():
            place.target.rename(place.part)  # a whole one is gone on with as one that isn't
        place.part.mkdir(exist_ok=True)
        self._journal = Journal(journal, "new" if not journal.exists() else "on" if going_on else "anew")
        self.left = Left()
        try:
            if going_on:
                self.left = parse(whole_lines(journal, MAX_LINE), journal)
                self._journal.cut(self.left.size)
            if self.left.header is None:
                self._clear()
        except BaseException:
            self._journal.close(quietly=True)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close(quietly=error is not None)
        if self.left.header is None:  # nothing began: the next run needs no --resume
            with suppress(OSError):
                (self.folder / JOURNAL).unlink()
                self.folder.rmdir()

    @property
    def folder(self) -> Path:
        """Where the parts are until `finish`."""
        return self.place.part

    @property
    def header(self) -> Header:
        assert self.left.header is not None, "begin() comes first"
        return self.left.header

    def begin(self, header: Header) -> None:
        """Say what this run is; the listing is there by then."""
        self.left.header = header
        self._append({"schema": SCHEMA, **asdict(header)})

    def is_whole(self, entry: Entry) -> bool:
        """Whether a part is there as its line says."""
        try:
            with (self.folder / entry.file).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
        except OSError:
            return False

    def add(self, number: int, part: Part) -> None:
        """Keep a part: whole under its name, and then in the journal.

        Raises UnavailableError where something else made it than the parts before, StorageError where it can't be kept.
        """
        if self.left.made_by is None:
            self.left.made_by = dict(part.made_by)
            self._append({"made_by": self.left.made_by})
        check_same(self.left.made_by, part.made_by)
        name = file_of(number)
        try:
            with storage.replacing_bytes(self.folder / name, self.folder / f".{name}.tmp") as file:
                file.write(part.parquet)
        except OSError as error:
            raise StorageError(
                f"records can't be kept any more ({error.strerror}); those before are, and --resume goes on: "
                f"{self.folder}"
            ) from None
        sha256 = hashlib.sha256(part.parquet).hexdigest()
        entry = Entry(number, name, sha256, part.records, dict(part.statuses), dict(part.labels), part.again)
        self._append(asdict(entry))
        self.left.entries[number] = entry

    def counts(self) -> tuple[Counter[str], Counter[str]]:
        """(statuses, labels) of the parts that are there."""
        statuses, labels = Counter[str](), Counter[str]()
        for entry in self.left.entries.values():
            statuses.update(entry.statuses)
            labels.update(entry.labels)
        return statuses, labels

    def finish(self, drop: Sequence[str] = ()) -> None:
        """Give the folder the name that was asked for, without the files `drop`; raises StorageError where that fails:
        it stays what it is."""
        self._journal.close()
        target, former = self.place.target, self.place.target.with_name(f"{self.place.target.name}.former")
        try:
            for file in (*self.folder.glob(".*.tmp"), *(self.folder / name for name in drop)):
                file.unlink(missing_ok=True)
            shutil.rmtree(former, ignore_errors=True)  # of a run that was killed just here
            if target.exists():
                target.rename(former)
            self.folder.rename(target)
            storage.sync_folder(target.parent)
        except OSError as error:
            raise StorageError(
                f"the output can't be written ({error.strerror}); its records are kept, and --resume goes on: "
                f"{self.folder}"
            ) from None
        shutil.rmtree(former, ignore_errors=True)

    def _append(self, row: Mapping[str, Any]) -> None:
        self._journal.append(json.dumps(row).encode("ascii") + b"\n")

    def _clear(self) -> None:
        """Remove what a run left that isn't gone on with, and nothing else."""
        for pattern in ("part-*.parquet", "_inputs.jsonl.gz", ".*.tmp"):
            for file in self.folder.glob(pattern):
                with suppress(FileNotFoundError):
                    file.unlink()


def check_asked(header: Header, asked: Mapping[str, Any], where: Path) -> None:
    """Raise UsageError where a run that is to go on asks for something else than the one that began."""
    for name, value in asked.items():
        if (begun := header.asked.get(name)) != value:
            raise UsageError(
                f"the output was begun with another {name.replace('_', ' ')} ({begun}), give the same, or --overwrite "
                f"to begin again; got {value}: {where}"
            )


def check_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise UnavailableError where two parts were made by different engines, or on different devices."""
    if before == now:
        return
    theirs, ours = (f"{p['engine']} {p['provider']} {p['precision']} on {p['device']}" for p in (before, now))
    raise UnavailableError(
        f"every part of the records has to be made by the same engine, ask for one with --engine, --precision and "
        f"--device: expected {theirs}, got {ours}"
    )
