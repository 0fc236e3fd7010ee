"""The audit's report as a page: findings, worst first, and a plot of what tells label and origin. No film is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import edgecxr
from edgecxr.views.figure import new_figure, plot_text, png
from edgecxr.views.html import data_uri, render

MAX_FILES = 200  # of a finding; the JSON report lists all
MAX_TITLE = 80  # characters of a finding's title beside the bars
WORDS = {"leak": "leak", "warning": "warning", "note": "note", "ok": "nothing found"}
_BARS = {"warning": "#d08a1d", "note": "#9fb4c7", "ok": "#9fb4c7"}
_CLASSES = {"leak": "bad", "warning": "warn", "note": "soft", "ok": "good"}


def page(report: dict[str, Any]) -> str:
    """Self-contained HTML."""
    findings = [{**finding, **_shown(finding["files"])} for finding in report["findings"]]
    counts = {severity: sum(f["severity"] == severity for f in findings) for severity in WORDS}
    shortcuts = [finding for finding in findings if finding["topic"] == "shortcuts"]
    plot = data_uri(png(accuracy_plot(shortcuts))) if shortcuts else None
    return render(
        "audit.html",
        version=edgecxr.__version__,
        report=report,
        findings=[finding for finding in findings if finding["topic"] == "data"],
        shortcuts=shortcuts,
        actions=_by_action(shortcuts),
        counts=counts,
        words=WORDS,
        classes=_CLASSES,
        plot=plot,
    )


def accuracy_plot(shortcuts: Sequence[dict[str, Any]]):  # type: ignore[no-untyped-def]  # matplotlib is untyped
    """A bar for each balanced accuracy with its 95 % interval, and a mark at chance."""
    figure = new_figure(9.0, 1.0 + 0.34 * len(shortcuts))
    axes = figure.add_subplot()
    for place, finding in enumerate(shortcuts):
        found = finding["values"]
        value, (low, high) = found["balanced_accuracy"], found["interval95"]
        axes.barh(place, value, height=0.62, color=_BARS[finding["severity"]])
        axes.plot([low, high], [place, place], color="#1a1d21", linewidth=1.4)
        axes.plot([found["chance"]] * 2, [place - 0.42, place + 0.42], color="#b3261e", linewidth=2)
        axes.text(1.015, place, f"{value:.0%}", va="center", fontsize=9)
    names = [plot_text(finding["title"], MAX_TITLE) for finding in shortcuts]
    axes.set_yticks(range(len(shortcuts)), names, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_ylim(len(shortcuts) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("balanced accuracy; black: 95 % interval, red: chance", fontsize=9)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return figure


def _by_action(shortcuts: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """What to do -> the titles of the findings that ask for it."""
    titles: dict[str, list[str]] = {}
    for finding in shortcuts:
        if finding["severity"] != "ok":
            titles.setdefault(finding["action"], []).append(finding["title"])
    return titles


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
