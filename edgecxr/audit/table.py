"""The audit's findings on a terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from edgecxr.terminal import printable

_MARKS = {
    "leak": ("✗ leak", "bold red"),
    "warning": ("! warning", "yellow"),
    "note": ("• note", ""),
    "ok": ("✓", "green"),
}


def findings_table(report: dict[str, Any]) -> Table:
    """One row a finding, worst first; files are named in the report."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "finding", "figure", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in report["findings"]:
        mark, style = _MARKS[finding["severity"]]
        action = "" if finding["severity"] == "ok" else finding["action"]
        table.add_row(Text(mark, style=style), *map(printable, (finding["title"], finding["figure"], action)))
    return table
