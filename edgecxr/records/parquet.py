"""Records as Parquet: the columns of the CSV with types, and what made them in the file's metadata (extra: parquet)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from edgecxr.errors import UnavailableError
from edgecxr.records.formats import csv_columns
from edgecxr.records.prediction import SCHEMA

ROWS = 8192  # of a row group: what is held in memory, a few megabytes
# The same for all records of a run: in the metadata too, so that a reader needs no row for it.
MADE = ("model", "bundle_sha256", "engine", "provider", "device", "precision", "abstention", "abstain_at")
PREFIX = "edgecxr."  # of its keys
_TEXTS = ("path", "error_message")  # that may hold a name of the system's
_SURROGATE = re.compile(r"\\udc([89a-f][0-9a-f])")


def load() -> Any:
    """pyarrow with its module `parquet`; raises UnavailableError where it isn't there."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UnavailableError(
            f"Parquet needs the extra 'parquet'; run: pip install 'edgecxr[parquet]' ({error})"
        ) from None
    return pyarrow


def write(file: BinaryIO, records: Iterable[dict[str, Any]], labels: Sequence[str]) -> None:
    """Records as rows, in their order; null where a record has none.

    A name that isn't UTF-8 stands there as on a terminal (`\\udce9` for the byte E9): Parquet's strings are UTF-8.
    """
    pa = load()
    rows = (_flat(record) for record in records)
    group = list(islice(rows, ROWS))
    schema = _schema(pa, labels, group[0] if group else {})
    with pa.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while group:
            writer.write_table(pa.Table.from_pylist(group, schema))
            group = list(islice(rows, ROWS))


def read(path: Path, labels: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The records of which a file was written; raises ValueError where it was not, by this version, of these labels.

    Without `labels`, of those that its metadata names.
    """
    pa = load()
    try:
        with pa.parquet.ParquetFile(path) as file:
            found = file.schema_arrow
            if labels is None:
                labels = json.loads((found.metadata or {}).get(b"edgecxr.labels", b"null"))
            if labels is None or found != _schema(pa, labels, {}):  # metadata aside
                raise ValueError("other columns")
            for batch in file.iter_batches(ROWS):
                for row in batch.to_pylist():
                    yield _record(row)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(str(error).partition("\n")[0]) from None


def _schema(pa: Any, labels: Sequence[str], first: dict[str, Any]) -> Any:
    """Columns and metadata of records of which `first` is the first row."""
    kinds = dict.fromkeys(csv_columns(labels), pa.string())
    kinds |= dict.fromkeys(("bytes", "mtime_ns"), pa.int64())
    kinds |= dict.fromkeys(("schema", "width", "height", "bits"), pa.int32())
    scores = (f"{kind}_{label}" for kind in ("p", "logit") for label in labels)
    kinds |= dict.fromkeys(("ood_score", "abstain_at", *scores), pa.float64())  # as JSON's numbers are
    kinds["time_utc"] = pa.timestamp("ms", tz="UTC")
    said = {"schema": SCHEMA, "labels": list(labels), **{name: first.get(name) for name in MADE if first}}
    metadata = {PREFIX + key: json.dumps(value) for key, value in said.items()}
    return pa.schema([pa.field(name, kind, nullable=name != "schema") for name, kind in kinds.items()], metadata)


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    error = record.pop("error") or {}
    row = {**record, "error_code": error.get("code"), "error_message": error.get("message")}
    for name in _TEXTS:
        if row[name] is not None:
            row[name] = row[name].encode("utf-8", "backslashreplace").decode("utf-8")
    row["time_utc"] = datetime.fromisoformat(row["time_utc"])
    return row


def _record(row: dict[str, Any]) -> dict[str, Any]:
    for name in _TEXTS:
        if row[name] is not None:
            row[name] = _SURROGATE.sub(lambda found: chr(0xDC00 + int(found[1], 16)), row[name])
    row["time_utc"] = row["time_utc"].isoformat(timespec="milliseconds").replace("+00:00", "Z")
    code, message = row["error_code"], row.pop("error_message")
    row["error_code"] = {"code": code, "message": message} if code else None
    return {"error" if name == "error_code" else name: value for name, value in row.items()}
