"""What a person reads: tables and sentences on a terminal. Gets finished results, decides nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from edgecxr.bundle import Bundle
from edgecxr.doctor import Diagnosis
from edgecxr.records import Prediction
from edgecxr.verify import Verification

MAX_ROWS = 40  # of predictions: a folder of thousands belongs in a file

_MARKS = {"ok": ("✓", "green"), "note": ("•", "yellow"), "problem": ("✗", "red")}


def printable(text: str) -> Text:
    """`text` without control characters, line breaks or lone surrogates: a file's name must not steer the terminal."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return Text(safe, overflow="fold")


class _Rate(ProgressColumn):
    """Pictures (or steps) a second, as seen lately."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f}/s")


def progress(console: Console, what: str) -> Progress:
    """A transient progress bar with the rate and the time left; silent where stderr is no terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        # Else rich moves what is printed on stdout, records among it, to this console, wherever stdout leads.
        redirect_stdout=sys.stdout.isatty(),
    )


def predictions_table(predictions: Sequence[Prediction], labels: Sequence[str], total: int) -> Table:
    """One row a picture, with its calibrated probabilities; `total` may be more than the rows at hand."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("picture")
    table.add_column("answer")
    for label in labels:
        table.add_column(f"p({label})", justify="right")
    for prediction in predictions:
        answer = Text(prediction.label or f"{prediction.status}: {prediction.error_code}")
        answer.stylize("red" if prediction.label is None else "bold")
        shares = [f"{prediction.probabilities[label]:.3f}" if prediction.probabilities else "" for label in labels]
        table.add_row(printable(prediction.path or ""), answer, *shares)
    if total > len(predictions):
        table.caption = f"{len(predictions)} of {total} shown, -o FILE writes all"
        table.caption_justify = "left"
    return table


def run_summary(summary: dict[str, Any]) -> str:
    """The closing lines of `infer`."""
    statuses = ", ".join(f"{count} {status}" for status, count in summary["statuses"].items())
    answers = ", ".join(f"{label} {count}" for label, count in summary["labels"].items())
    left_out = f" ({summary['skipped']} passed over)" if summary["skipped"] else ""
    left_out += f" ({summary['resumed']} of them by an earlier run)" if summary["resumed"] else ""
    return (
        f"{summary['records']} pictures in {summary['seconds']:.1f} s, {summary['pictures_per_second']:.1f}/s: "
        f"{statuses or 'none'}{left_out}{'; ' + answers if answers else ''}\n"
        f"{summary['model']} {summary['precision']}, {summary['engine']} {summary['provider']}, "
        f"{summary['workers']} workers, {summary['threads']} engine threads, batches of {summary['batch_size']}"
        f"{', as tuned here' if summary['tuned'] else ''}"
    )


def verification_table(verification: Verification) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("artifact", "engine", "device"):
        table.add_column(column)
    for column in ("golden", "max |Δlogit|", "tolerance", "flips", ""):
        table.add_column(column, justify="right")
    for check in verification.golden:
        mark, style = _MARKS["ok" if check.passed else "problem"]
        table.add_row(
            check.artifact,
            f"{check.engine} {check.provider}",
            check.device,
            str(check.pictures),
            f"{check.max_difference:.2g}",
            f"{check.tolerance:.2g}",
            str(check.label_flips),
            Text(mark, style=style),
        )
    return table


def bundle_table(bundle: Bundle) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    contract = bundle.preprocessing
    reduced = f", first reduced to {contract.source_size} px" if contract.source_size else ""
    rows: dict[str, str | Text] = {
        "model": f"{bundle.name} {bundle.version}",
        "path": printable(str(bundle.path)),
        "sha256": bundle.digest,
        "labels": ", ".join(bundle.labels),
        "input": f"grey uint8, {contract.width} x {contract.height} px{reduced}",
        "resize": f"{contract.filter}, {contract.geometry}",
        "temperature": f"{bundle.temperature:.3f}",
    }
    for point in bundle.operating_points:
        rows[f"{point.label} at {point.target_sensitivity:.0%} of {point.split}"] = (
            f"p >= {point.threshold:.3f}: sensitivity {point.sensitivity:.1%}, specificity {point.specificity:.1%}"
        )
    for artifact in bundle.artifacts:
        preferred = ", preferred" if artifact.preferred else ""
        rows[artifact.file] = f"{artifact.format} {artifact.precision}, {artifact.bytes / 1e6:.1f} MB{preferred}"
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def diagnosis_table(diagnosis: Diagnosis) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    found = diagnosis.machine
    memory = f", {found['memory_bytes'] / 2**30:.0f} GiB" if found["memory_bytes"] else ""
    features = " ".join(found["cpu_features"]) or "none of note"
    table.add_row("", f"{found['cpu']}, {found['cpus_usable']} CPUs usable{memory} ({features})")
    table.add_row("", f"{found['system']}, Python {found['python']}")
    for gpu in found["gpus"]:
        table.add_row("", printable(gpu))
    for finding in diagnosis.findings:
        mark, style = _MARKS[finding.level]
        table.add_row(Text(mark, style=style), Text(finding.what))
        if finding.repair:
            table.add_row("", Text(f"  → {finding.repair}", style="bold"))
    return table


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
    return table


def _confusion_table(labels: Sequence[str], confusion: Sequence[Sequence[int]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("true \\ answer")
    for label in labels:
        table.add_column(printable(label), justify="right")
    for label, counts in zip(labels, confusion, strict=True):
        table.add_row(printable(label), *map(str, counts))
    return table


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
