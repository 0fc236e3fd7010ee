"""Records as two outputs have them, to be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def rows(folder: Path) -> list[dict[str, Any]]:
    """The records of a folder of Parquet parts, in the order of the parts."""
    from pyarrow import parquet

    return [row for part in sorted(folder.glob("part-*")) for row in parquet.read_table(part).to_pylist()]


def same(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Records without when they were made, and with an error in two columns, as the Parquet has it."""
    found = []
    for record in records:
        row = {key: value for key, value in record.items() if key not in ("time_utc", "error")}
        if "error" in record:
            error = record["error"] or {}
            row |= {"error_code": error.get("code"), "error_message": error.get("message")}
        found.append(row)
    return found
