"""SECURITY.md's table of hazards: what can go wrong, what prevents it, and the tests that show it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import edgecxr
from edgecxr.errors import UnavailableError

FILE = "SECURITY.md"
_TEST = re.compile(r"`(tests/[\w/]+\.py::\w+)`")


@dataclass(frozen=True)
class Hazard:
    """A row of the table."""

    hazard: str
    prevented: str  # Markdown of one line
    tests: tuple[str, ...]  # as pytest takes them, in the checkout of this version


def text() -> str:
    """This version's SECURITY.md: a wheel has a copy within the package, a checkout has the file itself."""
    for place in (files("edgecxr.dossier") / FILE, Path(edgecxr.__file__).parents[1] / FILE):
        if place.is_file():
            return place.read_text(encoding="utf-8")
    raise UnavailableError(f"this installation lacks {FILE}, which holds the hazards; install edgecxr again")


def hazards(security: str) -> tuple[Hazard, ...]:
    """The rows of the table under the heading Hazards."""
    table = security.partition("\n## Hazards\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return tuple(Hazard(row[0], row[1], tuple(_TEST.findall(row[2]))) for row in rows if row[0] != "hazard")
