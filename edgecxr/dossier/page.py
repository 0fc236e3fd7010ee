"""The technical file as one HTML page (extra: report)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup, escape

import edgecxr
from edgecxr.dossier.claims import Section
from edgecxr.views.html import render
from edgecxr.views.terminal import escaped

_SPACED = re.compile(r"[^a-z0-9]+")


def page(
    data: Mapping[str, Any],
    sections: Sequence[Section],
    packages: Sequence[tuple[str, str, str, list[str]]],
    data_sha256: str,
) -> str:
    """The page of what technical-file.json holds; every text is text, and the card's Markdown holds no HTML or link."""
    return render(
        "technical.html",
        version=edgecxr.__version__,
        data=data,
        sections=[(f"{anchor(section.title)}-{number}", section) for number, section in enumerate(sections, 1)],
        packages=packages,
        hazards=[(row["hazard"], inline(row["prevented"]), row["tests"]) for row in data["hazards"]["rows"]],
        card=None if data["card"] is None else markdown(data["card"]["markdown"]),
        data_sha256=data_sha256,
        shown=escaped,
    )


def anchor(title: str) -> str:
    """A section's title as a part of the id of its heading."""
    return _SPACED.sub("-", title.lower()).strip("-")


def _reader() -> MarkdownIt:
    """Markdown with tables, without HTML, links and pictures: what a bundle says can't lead anywhere."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["autolink", "image"])
    for rule in ("link_open", "link_close"):
        reader.add_render_rule(rule, lambda *_: "")
    return reader


def inline(text: str) -> Markup:
    """A line of Markdown as HTML."""
    return Markup(_reader().renderInline(escaped(text)))


def markdown(text: str) -> Markup:
    """A document of Markdown as HTML, its headings two levels down, its tables in regions that scroll."""
    reader = _reader()
    lines = "\n".join(escaped(line) for line in text.splitlines())
    tokens = reader.parse(lines)
    heading = ""
    for index, token in enumerate(tokens):
        if token.type == "inline" and tokens[index - 1].type == "heading_open":
            heading = token.content
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
        if token.type == "table_open":
            token.meta["of"] = heading
    reader.add_render_rule("table_open", _open_table)
    reader.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return Markup(reader.renderer.render(tokens, reader.options, {}))


def _open_table(_: Any, tokens: Sequence[Any], index: int, *__: Any) -> str:
    # A region of its own name for each: a screen reader lists them.
    name = escape(f"Table {index} of the card: {tokens[index].meta['of']}")
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{name}"><table>\n'
