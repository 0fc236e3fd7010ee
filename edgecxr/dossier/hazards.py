"""SECURITY.md's table of hazards: what can go wrong, what prevents it, and the tests that show it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import edgecxr
from edgecxr.dossier.claims import Source
from edgecxr.errors import UnavailableError

FILE = "SECURITY.md"
_TEST = re.compile(r"`(tests/[\w/]+\.py::\w+)`")


@dataclass(frozen=True)
class Hazard:
    """A row of the table."""

    hazard: str
    prevented: str  # Markdown of one line
    tests: tuple[str, ...]  # as pytest takes them, in the checkout of this version


@dataclass(frozen=True)
class Outcomes:
    """What became of tests, by their names as in `Hazard.tests`: passed, skipped or failed."""

    source: Source
    of: Mapping[str, str]


WORST = ("passed", "skipped", "failed")  # of a test's cases the last of these counts
_OUTCOMES = {"skipped": "skipped", "failure": "failed", "error": "failed"}


def outcomes(data: bytes) -> dict[str, str]:
    """What `pytest --junitxml` wrote of each test; raises ValueError where it didn't.

    https://docs.pytest.org/en/stable/how-to/output.html#creating-junitxml-format-files
    """
    if b"<!DOCTYPE" in data[:1000]:  # pytest writes none, and entities could grow
        raise ValueError("a document type")
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from None
    found: dict[str, str] = {}
    for case in root.iter("testcase"):
        test = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name', '').partition('[')[0]}"
        came = max((_OUTCOMES.get(child.tag, "passed") for child in case), key=WORST.index, default="passed")
        found[test] = max(found.get(test, "passed"), came, key=WORST.index)
    if root.tag not in ("testsuites", "testsuite") or not found:
        raise ValueError("no test")
    return found


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
