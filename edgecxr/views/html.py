"""Self-contained HTML pages from reports: one file, no script, nothing fetched, no film inside (extra: eval)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import jinja2


def render(template: str, **context: Any) -> str:
    """The page made from `edgecxr/views/<template>` (which extends base.html); every value is HTML-escaped.

    Templates get the filters `percent` (0.941 -> 94.1 %), `interval` ((low, high) -> 92.8–95.2 %) and `figures` (three
    significant digits); None shows as an en dash.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgecxr", "views"),
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


def data_uri(content: bytes) -> str:
    """PNG content as the `src` of an <img>."""
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")
