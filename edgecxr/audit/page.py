"""The audit's report as a page: findings, worst first, and a plot of what tells the label. No film is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import edgecxr
from edgecxr.pages import data_uri, new_figure, png, render

MAX_FILES = 200  # of a finding; the JSON report lists all
WORDS = {"leak": "leak", "warning": "warning", "note": "note", "ok": "nothing found"}
_CLASSES = {"leak": "bad", "warning": "warn", "note": "soft", "ok": "good"}


def page(report: dict[str, Any]) -> str:
    """Self-contained HTML."""
    findings = [{**finding, **_shown(finding["files"])} for finding in report["findings"]]
    counts = {severity: sum(f["severity"] == severity for f in findings) for severity in WORDS}
    plot = data_uri(png(accuracy_plot(report["probes"]))) if report["probes"] else None
    return render(
        "audit.html",
        version=edgecxr.__version__,
        report=report,
        findings=findings,
        counts=counts,
        words=WORDS,
        classes=_CLASSES,
        plot=plot,
        max_files=MAX_FILES,
    )


def accuracy_plot(probes: Sequence[dict[str, Any]]):  # type: ignore[no-untyped-def]  # matplotlib is untyped
    """A bar for each probe's balanced accuracy with its 95 % interval, and a mark at chance."""
    figure = new_figure(9.0, 1.0 + 0.34 * len(probes))
    axes = figure.add_subplot()
    for place, found in enumerate(probes):
        value, (low, high) = found["balanced_accuracy"], found["interval95"]
        axes.barh(place, value, height=0.62, color="#d08a1d" if found["clear"] else "#9fb4c7")
        axes.plot([low, high], [place, place], color="#1a1d21", linewidth=1.4)
        axes.plot([found["chance"]] * 2, [place - 0.42, place + 0.42], color="#b3261e", linewidth=2)
        axes.text(1.015, place, f"{value:.0%}", va="center", fontsize=9)
    axes.set_yticks(range(len(probes)), [found["title"] for found in probes], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_ylim(len(probes) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("balanced accuracy; black: 95 % interval, red: chance", fontsize=9)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return figure


def _shown(files: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """The first sets that hold together no more than `MAX_FILES` files, and how many files are left."""
    shown: list[Sequence[dict[str, Any]]] = []
    left = MAX_FILES
    for files_of_set in files:
        if left <= 0:
            break
        shown.append(files_of_set[:left])
        left -= len(files_of_set)
    total = sum(map(len, files))
    return {"shown": shown, "total": total, "hidden": total - sum(map(len, shown))}
