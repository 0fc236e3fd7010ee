"""Records as Parquet: the columns of the CSV with types; pure."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgecxr.records.formats import csv_columns


def to_table(records: Iterable[Mapping[str, Any]], labels: Sequence[str]) -> Any:
    """Records as a pyarrow.Table in their order, null where a record has none; `error` is two columns as in the CSV.

    A name that isn't UTF-8 stands there as on a terminal (`\\udce9` for the byte E9): Parquet's strings are UTF-8.
    """
    import pyarrow as pa

    kinds = dict.fromkeys(csv_columns(labels), pa.string())
    kinds |= dict.fromkeys(("bytes", "mtime_ns"), pa.int64())
    kinds |= dict.fromkeys(("schema", "width", "height", "bits"), pa.int32())
    scores = (f"{kind}_{label}" for kind in ("p", "logit") for label in labels)
    kinds |= dict.fromkeys(("ood_score", "abstain_at", *scores), pa.float64())  # as JSON's numbers are
    return pa.Table.from_pylist([_row(record) for record in records], pa.schema(list(kinds.items())))


def to_parquet(records: Iterable[Mapping[str, Any]], labels: Sequence[str]) -> bytes:
    """The bytes of a Parquet file of records."""
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(to_table(records, labels), buffer, compression="zstd")
    return buffer.getvalue()


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    error = record["error"] or {}
    row = {**record, "error_code": error.get("code"), "error_message": error.get("message")}
    del row["error"]
    return {name: _text(value) if isinstance(value, str) else value for name, value in row.items()}


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
