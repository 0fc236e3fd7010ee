"""Training curves as a picture."""

from __future__ import annotations

import csv
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def draw_curves(history: Path, target: Path) -> None:
    """Draw loss and accuracy on train and dev by epoch, from `history` (CSV) to `target` (PNG)."""
    with history.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) + 1 for row in rows]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for column, name in ((quantity, "train (augmented)"), (f"val_{quantity}", "dev")):
            axes.plot(epochs, [float(row[column]) for row in rows], marker="o", markersize=3, label=name)
        axes.set_xlabel("epoch")
        axes.set_ylabel(quantity)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(target, dpi=120)
