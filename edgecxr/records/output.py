"""Where a run's records go: a journal while it lasts, the file that was asked for once it has ended.

    -o NEW.jsonl        NEW.jsonl is the journal itself
    -o OLD.jsonl        (--overwrite) OLD.jsonl.part is the journal, and takes the other's place at the end
    -o ANY.csv          ANY.csv.part is the journal; at the end the CSV is written from it, beside, and takes its place
    -o ANY.parquet      the same

So an earlier output stays until a whole one replaces it, and what a kill, a power cut or a full disk leaves is a
journal that `--resume` goes on with.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgecxr.errors import StorageError, UsageError
from edgecxr.records import parquet, resume
from edgecxr.records.formats import read_csv, to_line, write_csv
from edgecxr.records.journal import Journal, whole_lines
from edgecxr.records.prediction import Prediction, Provenance
from edgecxr.system import storage

JSON_LINES, CSV, PARQUET = (".jsonl", ".ndjson"), ".csv", ".parquet"


@dataclass(frozen=True)
class Place:
    """The file that was asked for, and the names beside it that are used meanwhile."""

    target: Path
    part: Path  # JSON lines of a run that hasn't ended

    @property
    def is_table(self) -> bool:
        return is_table(self.target)

    def is_own(self, path: Path) -> bool:
        """Whether `path` is one of these: the output of an earlier run among the pictures is no input."""
        own = (self.target, self.part)
        if any(path.name == file.name for file in own):
            return Path(os.path.realpath(path)) in own
        scratch = any(storage.is_scratch(path.name, file.name) for file in own)
        return scratch and Path(os.path.realpath(path)).parent == self.target.parent


def is_table(path: Path) -> bool:
    """Whether records for `path` are a table, which is written at the end."""
    return path.suffix.lower() in (CSV, PARQUET)


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == PARQUET


def check(path: Path, *, overwrite: bool, going_on: bool) -> Place:
    """Where records for `path` go; raises UsageError where they can't, before a model is loaded for them, and
    UnavailableError for Parquet without pyarrow."""
    if overwrite and going_on:
        raise UsageError("--resume keeps what is there and --overwrite replaces it; give one of them")
    target = storage.resolve(path)
    storage.check_output(
        target, (*JSON_LINES, CSV, PARQUET), overwrite=overwrite or going_on, instead="--resume to go on, or "
    )
    if _is_parquet(target):
        parquet.load()
    place = Place(target, target.with_name(f"{target.name}.part"))
    if place.part.exists() and not (overwrite or going_on):
        raise UsageError(
            f"an unfinished run left its records; give --resume to go on, or --overwrite to begin again: {place.part}"
        )
    return place


class Output:
    """A file of records, one for each input; a context manager. `finish` it, or leave a journal to go on with."""

    def __init__(self, place: Place, journal: Journal, labels: Sequence[str], rest: resume.Rest | None = None) -> None:
        self._place, self._journal, self._labels = place, journal, tuple(labels)
        self._positions = array("q")  # of each line's input; of a file that is none any more, of the line before it
        for position in rest.positions if rest else ():
            self._positions.append(position if position >= 0 or not self._positions else self._positions[-1])
        self._superseded = rest.superseded if rest else frozenset()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close(quietly=error is not None)

    @property
    def left_in(self) -> Path:
        """Where the records are until `finish`."""
        return self._journal.path

    def write(self, prediction: Prediction, position: int) -> None:
        """Append the record of the input at `position`; raises StorageError where it can't be kept."""
        self._journal.append(to_line(prediction.to_record(self._labels)).encode("ascii"))
        self._positions.append(position)

    def finish(self) -> None:
        """Put the records in the order of their inputs where they aren't, and the file that was asked for in its place.

        Raises StorageError where that can't be written; the journal is whole then, and stays.
        """
        self._journal.close()
        place, source = self._place, self._journal.path
        try:
            if place.is_table:
                records = (json.loads(line) for line in self._lines())
                if _is_parquet(place.target):
                    with storage.replacing_bytes(place.target) as table:
                        parquet.write(table, records, self._labels)
                else:
                    with storage.replacing(place.target, newline="") as file:
                        write_csv(file, records, self._labels)
                source.unlink()
                return
            if not self._in_order():
                with storage.replacing(source) as file:
                    for line in self._lines():
                        file.write(line.decode("ascii"))
            if source != place.target:
                storage.take_the_place(source, place.target)
        except OSError as error:
            raise StorageError(
                f"the output can't be written ({error.strerror}); its records are kept, and --resume goes on: {source}"
            ) from None

    def _in_order(self) -> bool:
        ascending = all(a <= b for a, b in zip(self._positions, self._positions[1:], strict=False))
        return ascending and not self._superseded

    def _lines(self) -> Iterator[bytes]:
        """The journal's lines in the order of their inputs."""
        if self._in_order():
            yield from whole_lines(self._journal.path, resume.MAX_LINE)
            return
        starts, end = array("q"), 0
        for line in whole_lines(self._journal.path, resume.MAX_LINE):
            starts.append(end)
            end += len(line)
        with self._journal.path.open("rb") as file:
            for index in sorted(range(len(starts)), key=self._positions.__getitem__):
                if index not in self._superseded:
                    file.seek(starts[index])
                    yield file.readline()


def begin(place: Place, labels: Sequence[str], *, overwrite: bool) -> Output:
    """An output with no record yet."""
    if place.is_table or place.target.exists() or place.part.exists():
        # "new" and not a look beforehand: between the two, another run may have made it.
        return Output(place, Journal(place.part, "anew" if overwrite else "new"), labels)
    return Output(place, Journal(place.target, "new"), labels)


def go_on(
    place: Place, labels: Sequence[str], provenance: Provenance, inputs: Sequence[Path], by: resume.NameBy
) -> tuple[Output, resume.Rest, tuple[str, ...]]:
    """The output that an earlier run left, what of `inputs` it lacks, and sentences on what was found; where there is
    none, an empty one."""
    if place.is_table and place.target.exists() and not place.part.exists():
        _back_to_lines(place, labels)
    path = place.part if place.is_table or place.part.exists() else place.target
    if not path.exists():
        return begin(place, labels, overwrite=False), resume.match(inputs, (), by, lambda _: None), ()
    journal = Journal(path, "on")
    try:
        left = resume.read(path, labels, provenance, by)
        torn = path.stat().st_size - left.size
        if torn:
            journal.cut(left.size)
        rest = resume.rest(inputs, left.records, by)
    except BaseException:
        journal.close(quietly=True)
        raise
    said = [f"{len(rest.finished)} records were there already"]
    if torn:
        said.append(f"a torn last line ({torn} bytes) was cut off, and its picture is scored again")
    if rest.superseded:
        said.append(f"{len(rest.superseded)} files changed since, or couldn't be used, and are tried again")
    return Output(place, journal, labels, rest), rest, tuple(said)


def _back_to_lines(place: Place, labels: Sequence[str]) -> None:
    """A whole table as the journal that it was written from."""
    try:
        with storage.replacing(place.part) as file:
            for record in _rows(place.target, labels):
                file.write(to_line(record))
    except (ValueError, KeyError) as error:
        raise UsageError(
            f"--resume goes on with what this version wrote for this bundle, and this isn't ({error}): {place.target}"
        ) from None
    except OSError as error:
        raise UsageError(f"the output can't be written ({error.strerror}): {place.target}") from None


def _rows(path: Path, labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    if _is_parquet(path):
        yield from parquet.read(path, labels)
        return
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as table:
        yield from read_csv(table, labels)
