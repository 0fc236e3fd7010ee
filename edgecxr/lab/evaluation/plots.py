"""The report, drawn: confusion matrix, ROC curves, reliability, risk against coverage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from edgecxr.lab.evaluation.intervals import wilson_interval
from edgecxr.views.figure import new_figure, plot_text, png

Report = Mapping[str, Any]

# Okabe and Ito's palette (2008), which colour-blind readers tell apart, and a line style each for print.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
STYLES = ("-", "--", "-.", ":")
GREY = "#6b7580"
SIZE = (5.4, 5.0)  # inches
MAX_CELLS = 40  # classes that the confusion matrix has room for; of more, only the shades are shown
MAX_INSIDE = 8  # classes whose names stand among the curves; those of more stand beside them
MAX_NAMED = 60  # classes that the curves' legend names; of more, the report has the figures


def plots(report: Report) -> dict[str, bytes]:
    """PNG files by name: what `--plots` writes and the page holds."""
    drawn = {"confusion.png": confusion(report), "roc.png": roc(report), "reliability.png": reliability(report)}
    if report.get("silence"):
        drawn["risk.png"] = risk(report)
    return {name: png(figure) for name, figure in drawn.items()}


def confusion(report: Report) -> Figure:
    """Counts, and each one's share of its true class, which is also the shade."""
    labels, counts = report["labels"], np.array(report["confusion"])
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    side = 1.05 * (min(max(len(labels), 4), MAX_CELLS) - 4)  # more classes need more room
    figure = _figure(SIZE[0] + side, SIZE[1] + side)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape) if len(labels) <= MAX_CELLS else ():
        text = f"{counts[row, column]}" + (f"\n{shares[row, column]:.1%}" if totals[row, 0] else "")
        shade = "white" if shares[row, column] > 0.55 else "#1a1d21"
        axes.text(column, row, text, ha="center", va="center", color=shade, fontsize=11)
    names = [_name(label) for label in labels]
    axes.set_xticks(range(len(labels)), names, rotation=0 if len(labels) <= 4 else 45)
    axes.set_yticks(range(len(labels)), [f"{name}\n({total})" for name, total in zip(names, totals[:, 0], strict=True)])
    axes.set_xlabel("answer")
    axes.set_ylabel("true class (pictures)")
    axes.set_title("Confusion: pictures, and share of the true class", fontsize=11)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03, format=PercentFormatter(1))
    bar.outline.set_visible(False)
    return figure


def roc(report: Report) -> Figure:
    """Each class against the rest."""
    curves = [(place, label) for place, label in enumerate(report["labels"]) if report["roc"][label] is not None]
    beside = len(curves) > MAX_INSIDE
    height = max(SIZE[1], 1 + 0.2 * min(len(curves), MAX_NAMED))
    figure = _figure(height + 4.5, height) if beside else _figure(*SIZE)
    axes = figure.add_subplot()
    _percent_square(axes)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    # Where a model is good, its curves differ only in the corner.
    areas = [report["auroc"][label]["value"] for _, label in curves]
    corner = _corner(axes) if areas and min(areas) > 0.95 else None
    for place, label in curves:
        curve, area = report["roc"][label], report["auroc"][label]
        span = "" if area["interval95"] is None else " ({:.3f}–{:.3f})".format(*area["interval95"])
        for where in (axes, corner):
            if where is not None:
                where.plot(
                    curve["false_positive_rate"],
                    curve["sensitivity"],
                    color=COLOURS[place % len(COLOURS)],
                    linestyle=STYLES[place % len(STYLES)],
                    linewidth=2,
                    label=f"{plot_text(label.replace('_', ' '))}: AUROC {area['value']:.3f}{span}",
                )
    axes.set_xlabel("1 − specificity")
    axes.set_ylabel("sensitivity")
    axes.set_title("ROC, each class against the rest (95 % interval)", fontsize=11)
    if beside:
        handles, names = axes.get_legend_handles_labels()
        axes.legend(
            handles[:MAX_NAMED],
            names[:MAX_NAMED],
            loc="upper left",
            bbox_to_anchor=(1.02, 1),
            fontsize=8,
            frameon=False,
        )
    elif curves:
        axes.legend(loc="lower right", fontsize=9, frameon=False)
    return figure


def reliability(report: Report) -> Figure:
    """Share right against confidence, before and after the temperature; below, how many pictures each bin holds.

    The area of a mark grows with the pictures of its bin; a bar is Wilson's 95 % interval over them.
    """
    figure = _figure(*SIZE)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    for place, (when, title) in enumerate((("before", "uncalibrated"), ("after", "calibrated"))):
        found = report["calibration"][when]
        bins = [row for row in found["reliability"] if row["pictures"]]
        ece = found["ece"]["value"]
        x, y = [row["confidence"] for row in bins], [row["accuracy"] for row in bins]
        # A bin of three pictures is noise: its mark is small.
        areas = [12 + 110 * row["pictures"] / report["pictures"] for row in bins]
        axes.plot(
            x,
            y,
            color=COLOURS[1 - place],
            linestyle="-" if place else "--",
            linewidth=1.5,
            label=title + ("" if ece is None else f": ECE {ece:.1%}"),
        )
        axes.scatter(x, y, s=areas, color=COLOURS[1 - place], marker="o" if place else "s", zorder=3)
        if when == "after":
            spans = [wilson_interval(round(row["accuracy"] * row["pictures"]), row["pictures"]) for row in bins]
            axes.vlines(
                x, [low for low, _ in spans], [high for _, high in spans], color=COLOURS[0], alpha=0.35, linewidth=3
            )
    rows = report["calibration"]["after"]["reliability"]
    lows = [row["low"] for row in rows]
    below.bar(
        lows,
        [row["pictures"] for row in rows],
        width=1 / len(rows),
        align="edge",
        color=COLOURS[0],
        edgecolor="white",
        linewidth=0.8,
    )
    _percent_square(axes)
    axes.set_aspect("auto")
    axes.set_ylabel("share right")
    axes.set_title("Reliability of the top class's probability (95 % interval)", fontsize=11)
    axes.legend(loc="upper left", fontsize=9, frameon=False)
    below.set_ylabel("pictures,\ncalibrated", fontsize=9)
    below.set_xlabel("confidence (probability of the answer)")
    below.spines[["top", "right"]].set_visible(False)
    return figure


def risk(report: Report) -> Figure:
    """What share of the answers is wrong, were the pictures farthest from films, or the least sure, not answered."""
    figure = _figure(*SIZE)
    axes = figure.add_subplot()
    rows = [row for row in report["silence"]["rows"] if row["risk"]["ood"] is not None]
    for place, row in enumerate(rows):
        for doubt, style in (("ood", "-"), ("probability", ":")):
            curve = row["risk"][doubt]["curve"]
            name = plot_text(row["source"], 40) or "all films"
            axes.plot(
                curve["coverage"],
                curve["risk"],
                color=COLOURS[place % len(COLOURS)],
                linestyle=style,
                linewidth=2 if place == 0 else 1.3,
                label=name if doubt == "ood" and place < MAX_NAMED else None,
            )
    axes.set_xlim(0, 1.005)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(color="#e3e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("share answered, by ood; dotted: by the top class's probability")
    axes.set_ylabel("share of the answers that is wrong")
    axes.set_title("Risk against coverage", fontsize=11)
    if rows:
        axes.legend(loc="upper left", fontsize=9, frameon=False)
    return figure


def _corner(axes: Any) -> Any:
    """A magnified view of the upper left corner, 20 % by 20 %."""
    corner = axes.inset_axes((0.4, 0.3, 0.52, 0.52), xlim=(-0.003, 0.2), ylim=(0.8, 1.004))
    for axis in (corner.xaxis, corner.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.set_ticks([0, 0.1, 0.2] if axis is corner.xaxis else [0.8, 0.9, 1.0])
    corner.tick_params(labelsize=8)
    corner.grid(color="#e3e7eb", linewidth=0.8)
    axes.indicate_inset_zoom(corner, edgecolor=GREY, alpha=0.6)
    return corner


def _figure(width: float, height: float) -> Figure:
    figure = new_figure(width, height)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    return figure


def _percent_square(axes: Any) -> None:
    axes.set_xlim(-0.015, 1.015)
    axes.set_ylim(-0.015, 1.02)
    axes.set_aspect("equal")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(color="#e3e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _name(label: str) -> str:
    return "\n".join(plot_text(part, 16) for part in label.split("_")[:4])
