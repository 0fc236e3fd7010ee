"""Figures as PNG files, and text from the data in them (extra: eval)."""

from __future__ import annotations

import io
import warnings

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from edgecxr.views.terminal import shortened

MAX_NAME = 40  # characters of a name on a plot; a longer one leaves no room for the plot


def new_figure(width: float = 5.0, height: float = 4.2) -> Figure:
    """An empty figure of that size in inches, drawn without a screen."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plot_text(text: str, length: int = MAX_NAME) -> str:
    """Text from the data as matplotlib shows it letter by letter, in at most `length` characters: what is between its
    beginning and its end gives way. No formula, no control character and no lone surrogate is left."""
    return shortened(text, length).replace("$", r"\$")  # which would begin a formula


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's content."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks shows as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(content, format="png", dpi=120)
    return content.getvalue()
