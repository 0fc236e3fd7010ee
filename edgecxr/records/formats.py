"""What is written down: one record for each input, as JSON lines (the journal) or CSV with the same columns."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TextIO

from edgecxr.records.prediction import Prediction, Provenance


class Stdout:
    """Records as JSON lines on stdout, each flushed as soon as it is written; an output as `Output` is."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = tuple(labels)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def write(self, prediction: Prediction, position: int = 0) -> None:
        """Write one, whole; raises ReaderLeft where whoever read them left, StorageError where they can't be kept."""
        sys.stdout.write(to_line(prediction.to_record(self._labels)))
        sys.stdout.flush()

    def finish(self) -> None:
        pass


def to_line(record: Mapping[str, Any]) -> str:
    """A record as JSON in ASCII: a name that isn't UTF-8 survives as escaped surrogates (`os.fsdecode`)."""
    return json.dumps(record, allow_nan=False) + "\n"


def json_columns(labels: Sequence[str]) -> list[str]:
    nothing = Prediction(
        None, None, "rejected", None, {}, {}, None, None, None, None, None, None, Provenance("", "", "", "", "", ""), ""
    )
    return list(nothing.to_record(labels))


def csv_columns(labels: Sequence[str]) -> list[str]:
    """The same columns; `error` is split into error_code and error_message."""
    columns = json_columns(labels)
    position = columns.index("error")
    columns[position : position + 1] = ["error_code", "error_message"]
    return columns


def write_csv(file: TextIO, records: Iterable[dict[str, Any]], labels: Sequence[str]) -> None:
    """Records as RFC 4180 has it (CR LF ends a row); None is an empty field."""
    rows = csv.DictWriter(file, csv_columns(labels))
    rows.writeheader()
    for record in records:
        error = record.pop("error") or {}
        rows.writerow({**record, "error_code": error.get("code"), "error_message": error.get("message")})


def read_csv(file: TextIO, labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The records of which a CSV was written; raises ValueError where it was not, by this version, of these labels."""
    rows = csv.DictReader(file)
    if rows.fieldnames != csv_columns(labels):
        raise ValueError("other columns")
    kinds: dict[str, Callable[[str], Any]] = dict.fromkeys(json_columns(labels), str)
    kinds |= dict.fromkeys(("schema", "bytes", "mtime_ns", "width", "height", "bits"), int)
    kinds |= dict.fromkeys(
        ("ood_score", "abstain_at", *(f"{kind}_{label}" for kind in ("p", "logit") for label in labels)), float
    )
    for row in rows:
        if None in row or None in row.values():
            raise ValueError("a row of another length")
        code, message = row["error_code"], row["error_message"]
        row["error"] = ""
        record = {column: kind(row[column]) if row[column] else None for column, kind in kinds.items()}
        yield {**record, "error": {"code": code, "message": message} if code else None}
