"""The technical file's page in headless Chromium: `pytest -m browser`, with EDGECXR_AXE for axe-core."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import CHROMIUM, Browser
from dossiers import Made

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (set EDGECXR_CHROMIUM)"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as started:
        yield started


def test_it_asks_for_nothing_fits_a_phone_and_prints(browser: Browser, made: Made) -> None:
    page = made.whole / "technical-file.html"
    for width in (320, 390, 1200):
        browser.open(page, width=width)
        assert browser.js("document.documentElement.scrollWidth") <= width
    assert browser.requested == [page.as_uri()] and browser.errors == []
    links = browser.js("[...document.links].map(a => a.getAttribute('href')).filter(h => !h.startsWith('#'))")
    assert set(links) == {"technical-file.json", "verify.json", "sbom.cdx.json", "mlbom.cdx.json"}
    assert all((made.whole / link).is_file() for link in links)
    assert browser.js("[...document.links].every(a => a.hash === '' || document.querySelector(a.hash))")
    assert browser.pdf().startswith(b"%PDF")


@pytest.mark.skipif("EDGECXR_AXE" not in os.environ, reason="no axe.min.js (set EDGECXR_AXE)")
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (390, False)])
def test_axe_finds_nothing_serious(browser: Browser, made: Made, width: int, dark: bool) -> None:
    browser.open(made.whole / "technical-file.html", width=width, dark=dark)
    browser.js(Path(os.environ["EDGECXR_AXE"]).read_text() + ";0")
    found = browser.js("axe.run().then(r => r.violations.map(v => [v.impact, v.id, v.nodes[0].html]))")
    assert [one for one in found if one[0] in ("serious", "critical", "moderate")] == []
    assert browser.js("axe.run().then(r => r.passes.length)") > 10
