"""The audit's findings on a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from edgecxr.views.terminal import printable

_MARKS = {
    "leak": ("✗ leak", "bold red"),
    "warning": ("! warning", "yellow"),
    "note": ("• note", ""),
    "ok": ("✓", "green"),
}


def findings_view(report: dict[str, Any]) -> Group:
    """What was found, worst first, and a table of what tells label and origin; files are named in the report."""
    data, shortcuts = (
        [finding for finding in report["findings"] if finding["topic"] == topic] for topic in ("data", "shortcuts")
    )
    views = [_data_table(data)]
    if shortcuts:
        views.append(_shortcuts_table(shortcuts))
    return Group(*views)


def _data_table(findings: list[dict[str, Any]]) -> Table:
    """A finding a row; below each that found something, what to do."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings:
        said = Text.assemble(printable(finding["title"]), ": ", printable(finding["figure"]), overflow="fold")
        if finding["severity"] != "ok":
            said = Text.assemble(said, "\n", (printable(finding["action"]).plain, "dim"), overflow="fold")
        table.add_row(_mark(finding), said)
    return table


def _shortcuts_table(findings: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left", title_style="")
    table.title = "\nLogistic regression, cross-validated by group: balanced accuracy with its 95 % interval"
    for column in ("", "told from what"):
        table.add_column(column, overflow="fold")
    for column in ("accuracy", "interval", "chance"):
        table.add_column(column, justify="right", no_wrap=True)
    for finding in findings:
        values = finding["values"]
        low, high = values["interval95"]
        table.add_row(
            _mark(finding),
            printable(finding["title"]),
            f"{values['balanced_accuracy']:.1%}",
            f"{low:.1%}–{high:.1%}",
            f"{values['chance']:.1%}",
        )
    return table


def _mark(finding: dict[str, Any]) -> Text:
    mark, style = _MARKS[finding["severity"]]
    return Text(mark, style=style)
