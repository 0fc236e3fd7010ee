"""A report of `edgecxr eval` as tables on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from edgecxr.lab.evaluation.operating import unkept
from edgecxr.views.terminal import printable

DOUBTS = ("ood", "probability")  # by which pictures may stay without an answer


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
        *([_silence_table(report["silence"])] if report.get("silence") else []),
        *(_outlier_tables(report["outliers"]) if report.get("outliers") else []),
        *([_paired_table(report["against"])] if report.get("against") else []),
        *([_verdict_table(report["acceptance"])] if report.get("acceptance") else []),
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


def _silence_table(found: Mapping[str, Any]) -> Table:
    """By source: what is answered, how often that is right, and the risk at a smaller coverage."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"no answer from ood {found['threshold']:.4g} on", overflow="fold")
    for column in ("answered", "right, of those", "of all", "wrong of 90 %", "by probability", "ood finds wrong"):
        table.add_column(column, justify="right")
    for row in found["rows"]:
        risks = ("" if row["risk"][doubt] is None else _value(_at(row["risk"][doubt], 0.9)) for doubt in DOUBTS)
        shares = (_with_interval(row[key]) for key in ("answered", "accuracy", "of_all"))
        finds = _with_interval(row["finds_wrong"]["ood"], share=False)
        table.add_row(printable(row["source"] or "all films"), *shares, *risks, finds)
    return table


def _verdict_table(found: Mapping[str, Any]) -> Table:
    """Each requirement with what decides it, and under them the verdict."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("required", overflow="fold")
    for column in ("value", "95 % interval", "groups", "deciding bound", "met"):
        table.add_column(column, justify="right")
    for row in found["requirements"]:
        value, decides = (("–" if row[key] is None else f"{row[key]:.3f}") for key in ("value", "deciding"))
        met = Text("yes", style="green") if row["passed"] else Text("no", style="red")
        table.add_row(printable(row["require"]), value, _interval(row, share=False), str(row["groups"]), decides, met)
    table.caption = Text("\n").join(printable(sentence) for sentence in verdict(found))
    table.caption_justify = "left"
    return table


def verdict(found: Mapping[str, Any]) -> list[str]:
    """The verdict of an acceptance test in sentences: of how many films, what couldn't be decided, passed or failed."""
    silent = [f"{found[key]} {key}" for key in ("abstained", "rejected") if found[key]]
    undecided = [row["why"] for row in found["requirements"] if row["deciding"] is None]
    return [
        f"on {found['pictures']} films" + (f", {' and '.join(silent)}, which count as not found" if silent else ""),
        *undecided,
        f"acceptance: {'passed' if found['passed'] else 'FAILED'}",
    ]


def _at(risk: Mapping[str, Any], coverage: float) -> float:
    return next(float(row["risk"]) for row in risk["at"] if row["coverage"] == coverage)


def _outlier_tables(found: Mapping[str, Any]) -> list[Table]:
    """Kinds of pictures that are no films, and films by source; the artifact that runs first."""
    tables = []
    columns = [f"{one['precision']}, {one['engine']}" for one in found["artifacts"]]
    for title, what, rows in (
        ("no chest film: turned away", "turned_away", [*found["kinds"], *found["sums"]]),
        ("films: kept", "kept", found["films"]),
    ):
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column(title, overflow="fold")
        for column in ("pictures", "rejected", *columns):
            table.add_column(column, justify="right")
        for row in rows:
            rejected = str(row["rejected"]) if row["rejected"] else ""
            shares = (_with_interval(figure) for figure in row[what])
            table.add_row(printable(row_title(row)), str(row["pictures"]), rejected, *shares)
        tables.append(table)
    return tables


def row_title(row: Mapping[str, Any]) -> str:
    """What a row of outliers or films is of, in words: "hand (fit)", "all kinds near films (report)"."""
    if "source" in row:
        return str(row["source"])
    name = row.get("kind") or ("all kinds near films" if row["near"] else "all kinds")
    near = ", near films" if row["near"] and "kind" in row else ""
    use = f" ({row['use']})" if row["use"] else ""
    return f"{name}{near}{use}"


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
