"""Self-contained HTML pages from reports: one file, no script, nothing fetched, no film inside (extra: eval)."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable
from typing import Any

import jinja2
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from edgecxr.terminal import printable

MAX_NAME = 40  # characters of a name on a plot; a longer one leaves no room for the plot


def render(template: str, **context: Any) -> str:
    """The page made from `edgecxr/pages/<template>` (which extends base.html); every value is HTML-escaped.

    Templates get the filters `percent` (0.941 -> 94.1 %), `interval` ((low, high) -> 92.8–95.2 %) and `figures` (three
    significant digits); None shows as an en dash.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgecxr", "pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {"percent": percent, "interval": interval, "figures": figures}
    environment.filters.update(filters)
    return environment.get_template(template).render(**context)


def percent(value: float | None) -> str:
    """A share as a percentage with one decimal."""
    return "–" if value is None else f"{100 * value:.1f} %"


def interval(bounds: tuple[float, float] | list[float] | None) -> str:
    """The interval of a share, in percent."""
    return "–" if bounds is None else f"{100 * bounds[0]:.1f}–{100 * bounds[1]:.1f} %"


def figures(value: float | None) -> str:
    """A number with three significant digits."""
    return "–" if value is None else f"{value:.3g}"


def new_figure(width: float = 5.0, height: float = 4.2) -> Figure:
    """An empty figure of that size in inches, drawn without a screen."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plot_text(text: str, length: int = MAX_NAME) -> str:
    """Text from the data as matplotlib shows it letter by letter, in at most `length` characters: what is between its
    beginning and its end gives way. No formula, no control character and no lone surrogate is left."""
    safe = printable(text).plain
    if len(safe) > length:
        tail = (length - 1) // 2
        safe = f"{safe[: length - 1 - tail]}…{safe[len(safe) - tail :]}"
    return safe.replace("$", r"\$")  # which would begin a formula


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's content."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks shows as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(content, format="png", dpi=120)
    return content.getvalue()


def data_uri(content: bytes) -> str:
    """PNG content as the `src` of an <img>."""
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")
