"""A report of `edgecxr eval` as tables on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from edgecxr.lab.evaluation.operating import unkept
from edgecxr.views.terminal import printable


def evaluation_tables(report: Mapping[str, Any]) -> list[Table]:
    """The report of `edgecxr eval`: main figures, each class, ages and origins, operating points, confusion."""
    labels: list[str] = report["labels"]
    figures = _figures_table("")
    for key in ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc"):
        name = key.replace("_", " ").replace("f1", "F1").replace("auroc", "AUROC")
        _figure_row(figures, name, report[key], share="acc" in key)
    for key, name in (("ece", "calibration error"), ("brier", "Brier score"), ("nll", "negative log-likelihood")):
        before = report["calibration"]["before"][key]["value"]
        shown = "" if before is None else f" (uncalibrated: {_value(before, share=key == 'ece')})"
        _figure_row(figures, name + shown, report["calibration"]["after"][key], share=key == "ece")
    for row in report["within_ages"]:
        title = f"{' / '.join(row['labels'])}, {row['age']}"
        if row["absent"]:
            figures.add_row(printable(title), "–", "", printable(f"no {row['age']} {', '.join(row['absent'])}"))
            continue
        _figure_row(figures, f"{title}: accuracy", row["accuracy"])
        _figure_row(figures, f"{title}: AUROC", row["auroc"], share=False)
    for row in report["by_origin"]:
        _figure_row(figures, f"{row['label']} found, of {row['origin']}", row["sensitivity"])
    return [
        figures,
        _class_table(report),
        *([_operating_table(report)] if report["operating_points"] else []),
        _confusion_table(labels, report["confusion"]),
        *([_paired_table(report["against"])] if report.get("against") else []),
    ]


def _figures_table(title: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(title)
    for column in ("value", "95 % interval", "pictures"):
        table.add_column(column, justify="right")
    return table


def _figure_row(table: Table, name: str, figure: Mapping[str, Any], *, share: bool = True) -> None:
    if figure["value"] is not None:
        counted = f"{figure['hits']} of {figure['total']}" if "hits" in figure else ""
        table.add_row(printable(name), _value(figure["value"], share=share), _interval(figure, share=share), counted)


def _class_table(report: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    columns = ("sensitivity", "specificity", "ppv", "f1", "auroc")
    for column in columns:
        table.add_column(column.upper() if column in ("ppv", "f1", "auroc") else column, justify="right")
    for label in report["labels"]:
        table.add_row(
            printable(label), *(_with_interval(report[c][label], share=c not in ("f1", "auroc")) for c in columns)
        )
    return table


def _operating_table(report: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("operating point")
    for column in ("threshold", "sensitivity", "specificity", "PPV"):
        table.add_column(column, justify="right")
    for point in report["operating_points"]:
        name = f"{point['label']}, {point['target_sensitivity']:.0%} of {point['fitted']['split']}"
        shares = (_with_interval(point[key]) for key in ("sensitivity", "specificity", "ppv"))
        table.add_row(printable(name), f"{point['threshold']:.3f}", *shares)
    # Not every threshold gives elsewhere what it gave where it was fitted.
    sentences = unkept(report["operating_points"])
    if sentences:
        table.caption = Text("\n").join(printable(sentence) for sentence in sentences)
    return table


def _confusion_table(labels: Sequence[str], confusion: Sequence[Sequence[int]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("true \\ answer")
    for label in labels:
        table.add_column(printable(label), justify="right")
    for label, counts in zip(labels, confusion, strict=True):
        table.add_row(printable(label), *map(str, counts))
    return table


def _paired_table(against: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(printable(f"against {against['model']}"), overflow="fold")
    for column in ("right", "other right", "only this", "only other", "difference", "p (McNemar)"):
        table.add_column(column, justify="right")
    for row in against["rows"]:
        shares = (_value(row[side]["value"]) for side in ("first", "second"))
        counts = (str(row[f"only_{side}"]) for side in ("first", "second"))
        table.add_row(
            printable(row["label"] or "all classes"),
            *shares,
            *counts,
            points(row["difference"]),
            f"{row['p_value']:.2g}",
        )
    return table


def points(difference: Mapping[str, Any]) -> str:
    """A difference of two shares in points, with its interval."""
    interval = difference["interval95"]
    return f"{100 * difference['value']:+.1f}" + (
        f" ({100 * interval[0]:+.1f} to {100 * interval[1]:+.1f})" if interval else ""
    )


def _value(value: float, *, share: bool = True) -> str:
    return f"{value:.1%}" if share else f"{value:.3f}"


def _interval(figure: Mapping[str, Any], *, share: bool = True) -> str:
    if figure["interval95"] is None:
        return ""
    low, high = figure["interval95"]
    return f"{_value(low, share=share)}–{_value(high, share=share)}"


def _with_interval(figure: Mapping[str, Any], *, share: bool = True) -> str:
    if figure["value"] is None:
        return "–"
    interval = _interval(figure, share=share).replace("%–", "–")
    return _value(figure["value"], share=share) + (f" ({interval})" if interval else "")
