"""Self-contained HTML pages: one file, nothing fetched; a script of ours where a table needs one (extra: report)."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup


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


def data_uri(content: bytes, kind: str = "png") -> str:
    """An image file's content as the `src` of an <img>; `kind` is png or jpeg."""
    return f"data:image/{kind};base64," + base64.b64encode(content).decode("ascii")


def script(name: str) -> tuple[Markup, str]:
    """`edgecxr/views/<name>` as the content of a <script>, and the source by which a content security policy allows it.

    https://www.w3.org/TR/CSP3/#framework-directive-source-list: base64 of the SHA-256 of what stands between the tags.
    """
    text = files("edgecxr.views").joinpath(name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return Markup(text), f"'sha256-{digest}'"


def embedded_json(data: object) -> Markup:
    """Data as the content of a <script type="application/json">, which no value in it can end: `<` is escaped."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", r"\u003c"))
