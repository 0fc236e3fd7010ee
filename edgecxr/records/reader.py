"""Records that a run wrote, read back to be shown: JSON lines or tables, of this schema and of every one before it."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from edgecxr.errors import UsageError
from edgecxr.records import parquet
from edgecxr.records.journal import whole_lines
from edgecxr.records.output import CSV, PARQUET
from edgecxr.records.prediction import SCHEMA
from edgecxr.records.resume import MAX_LINE

MAX_ROWS = 200_000  # a page of as many has about 40 MB; a browser still sorts them within a second or two

# What is the same for all records of a run; schemas before 4 lack the last two.
MADE = (
    "schema", "model", "bundle_sha256", "engine", "provider", "device", "precision", "abstention", "abstain_at"
)  # fmt: skip
STATUSES = ("scored", "abstained", "rejected")

Made = tuple[str | float | None, ...]  # in the order of MADE


@dataclass(frozen=True, slots=True)
class Row:
    """What a page shows of a record; None for what this record, or its schema, hasn't."""

    path: str | None
    sha256: str | None
    status: str
    label: str | None
    probabilities: tuple[float, ...]  # in the order of the labels; empty when rejected
    ood_score: float | None
    code: str | None  # of a rejection
    message: str | None
    width: int | None  # px
    height: int | None
    bits: int | None
    rendering: str | None
    time_utc: str | None
    made: Made

    @property
    def confidence(self) -> float | None:
        """The probability of the answer; None where there is no answer."""
        return max(self.probabilities) if self.label is not None else None


@dataclass(frozen=True)
class Records:
    """The records of a file, and what is to be said of it."""

    name: str  # of the file, without its folders
    sha256: str  # of the file
    labels: tuple[str, ...]
    rows: tuple[Row, ...]
    torn: int  # bytes of a last line that a kill, or a power cut, left without its end


class _Reading:
    """Rows as they are read: all of the same classes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.labels: tuple[str, ...] | None = None
        self.rows: list[Row] = []
        self._made: dict[Made, Made] = {}  # one object for the thousands of rows that it stands in

    def add(self, record: Any, where: str) -> None:
        if len(self.rows) == MAX_ROWS:
            raise UsageError(f"a page holds {MAX_ROWS:,} records at most, split the file: {self.path}")
        try:
            _check_schema(record, where)
            labels = tuple(key.removeprefix("p_") for key in record if key.startswith("p_"))
            if self.labels is None:
                self.labels = labels
            if labels != self.labels:
                raise ValueError(f"its classes are {', '.join(labels)}, before it {', '.join(self.labels)}")
            row = _row(record, labels)
        except (ValueError, OverflowError) as error:
            _none_of_ours(str(error), where)
        made = self._made.setdefault(row.made, row.made)
        self.rows.append(row if made is row.made else replace(row, made=made))

    def found(self, digest: str, torn: int) -> Records:
        if not self.rows:
            raise UsageError(f"the file holds no record: {self.path}")
        return Records(self.path.name, digest, self.labels or (), tuple(self.rows), torn)


def read(path: Path) -> Records:
    """The records of a journal, whose last line may be torn, or of a table that was written from one.

    Raises UsageError where the file can't be read, holds anything else than records, is damaged before its last line,
    or comes from a later version, UnavailableError for Parquet without pyarrow.
    """
    reading = _Reading(path)
    try:
        if not path.is_file():
            raise UsageError(f"records are read from a file, and this is none: {path}")
        if path.suffix.lower() == CSV:
            _csv(path, reading)
            return reading.found(_digest(path), 0)
        if path.suffix.lower() == PARQUET:
            _parquet(path, reading)
            return reading.found(_digest(path), 0)
        torn = _json_lines(path, reading)
        return reading.found(_digest(path), torn)
    except OSError as error:
        raise UsageError(f"the records can't be read ({error.strerror}): {path}") from None


def _json_lines(path: Path, reading: _Reading) -> int:
    """How many bytes of a torn last line there are."""
    end, size, number = path.stat().st_size, 0, 0  # a run may still be writing
    for number, line in enumerate(whole_lines(path, MAX_LINE), 1):
        where = f"line {number} of {path}"
        try:
            record = json.loads(line, parse_constant=_not_finite)
        except (ValueError, RecursionError):
            _none_of_ours("no JSON", where)
        reading.add(record, where)
        size += len(line)
        if size >= end:
            return 0
    with path.open("rb") as file:
        file.seek(size)
        rest = file.read(min(end - size, MAX_LINE + 1))
    if len(rest) > MAX_LINE or rest.partition(b"\n")[2].strip(b"\0\n"):
        _none_of_ours("damaged, and more lines follow", f"line {number + 1} of {path}")
    return len(rest)


def _csv(path: Path, reading: _Reading) -> None:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.DictReader(file, strict=True)
        try:
            for fields in rows:
                where = f"line {rows.line_num} of {path}"
                if None in fields or None in fields.values():
                    _none_of_ours("a row of another length than the first one", where)
                try:
                    record = _typed(fields)
                except ValueError as error:
                    _none_of_ours(str(error), where)
                reading.add(record, where)
        except csv.Error as error:
            _none_of_ours(str(error), f"line {rows.line_num} of {path}")


def _parquet(path: Path, reading: _Reading) -> None:
    number = 0
    try:
        for number, record in enumerate(parquet.read(path), 1):
            reading.add(record, f"row {number} of {path}")
    except ValueError as error:
        _none_of_ours(str(error), f"row {number + 1} of {path}")


def _typed(fields: Mapping[str, str]) -> dict[str, Any]:
    """A row of CSV as the record that it was written from."""
    record: dict[str, Any] = {}
    for name, text in fields.items():
        if not text:
            record[name] = None
        elif name in ("schema", "bytes", "mtime_ns", "width", "height", "bits"):
            record[name] = int(text)
        elif name in ("ood_score", "abstain_at") or name.startswith(("p_", "logit_")):
            record[name] = float(text)
        else:
            record[name] = text
    code, message = record.pop("error_code", None), record.pop("error_message", None)
    return {**record, "error": {"code": code, "message": message} if code else None}


def _check_schema(record: Any, where: str) -> None:
    if not isinstance(record, dict):
        raise ValueError("no object")
    schema = record.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise ValueError("no schema")
    if schema > SCHEMA:
        raise UsageError(f"records of schema 1 to {SCHEMA} are read, a later version wrote schema {schema}: {where}")


def _row(record: Mapping[str, Any], labels: tuple[str, ...]) -> Row:
    """A record as a row; raises ValueError with what is wrong with it."""
    status, label = _text(record, "status"), _text(record, "label")
    if status not in STATUSES:
        raise ValueError(f"status {status!r}"[:80])
    shares = [_number(record, f"p_{name}") for name in labels]
    given = tuple(share for share in shares if share is not None)
    if len(given) != (0 if status == "rejected" else len(labels)) or not all(0 <= share <= 1 for share in given):
        raise ValueError(f"probabilities {shares}"[:80])
    if (label is not None) != (status == "scored") or label not in (None, *labels):
        raise ValueError(f"{status}, and label {label!r}"[:80])
    error = record.get("error") or {}
    if not isinstance(error, dict):
        raise ValueError("its error is no object")
    return Row(
        _text(record, "path"),
        _text(record, "sha256"),
        status,
        label,
        given,
        _number(record, "ood_score"),
        _text(error, "code"),
        _text(error, "message"),
        _whole(record, "width"),
        _whole(record, "height"),
        _whole(record, "bits"),
        _text(record, "rendering"),
        _text(record, "time_utc"),
        (
            record["schema"],
            *(_text(record, name) for name in MADE[1:-1]),
            _number(record, "abstain_at"),
        ),
    )


def _text(record: Mapping[str, Any], name: str) -> str | None:
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    return value


def _number(record: Mapping[str, Any], name: str) -> float | None:
    value = record.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name} is no number")
    return float(value)


def _whole(record: Mapping[str, Any], name: str) -> int | None:
    value = record.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise ValueError(f"{name} is no whole number")
    return value


def _not_finite(constant: str) -> NoReturn:
    raise ValueError(constant)


def _none_of_ours(what: str, where: str) -> NoReturn:
    raise UsageError(f"expected a record of edgecxr infer, this is none ({what}): {where}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
