"""The page of records in headless Chromium, with the network watched: `pytest -m browser`.

EDGECXR_AXE names an axe.min.js (of the npm package axe-core); without it that test is skipped.
"""

from __future__ import annotations

import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import CHROMIUM, Browser
from edgecxr.records import page
from edgecxr.records.reader import Records, Row

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (set EDGECXR_CHROMIUM)"),
]

LABELS = ("covid", "normal", "viral_pneumonia")
MADE = (3, "tiny 1", "c" * 64, "onnxruntime", "CPU", "cpu", "int8", None, None)
JPEG = bytes.fromhex(
    "ffd8ffe000104a46494600010100000100010000ffdb004300" + "10" * 64 + "ffc0000b080001000101011100ffc4001400010000"
    "0000000000000000000000000009ffc40014100100000000000000000000000000000000ffda0008010100003f0054ffd9"
)  # one grey pixel
ROWS = 20_000


def rows() -> Iterator[Row]:
    chance = random.Random(5)
    for index in range(ROWS):
        common: dict[str, Any] = {
            "path": f"archive/study-{index // 2:05d}/IM-{index % 2}.dcm", "sha256": f"{index:064x}", "bits": 12,
            "rendering": None, "time_utc": "2026-11-25T23:55:35.801Z", "made": MADE, "ood_score": None,
        }  # fmt: skip
        none: dict[str, Any] = {"label": None, "code": None, "message": None, "width": 10, "height": 20}
        if index % 20 == 7:
            code = {"code": "blank", "message": "next to no contrast", "width": None, "height": None}
            yield Row(**{**common, **none, **code, "status": "rejected", "probabilities": ()})
        elif index % 20 == 13:
            far = {"ood_score": 3 + index / ROWS, "probabilities": (0.5, 0.3, 0.2)}
            yield Row(**{**common, **none, **far, "status": "abstained"})
        else:
            p = chance.uniform(0.51, 1)
            shares = [(1 - p) / 2] * 3
            shares[index % 3] = p
            yield Row(
                **{**common, **none, "status": "scored", "label": LABELS[index % 3], "probabilities": tuple(shares)}
            )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as started:
        yield started


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "many.html"
    films = [page.Film(0, JPEG), page.Film(1, None, "Not shown: gone.")]
    path.write_text(page.page(Records("r.jsonl", "d" * 64, LABELS, tuple(rows()), 5), films))
    return path


class Listener:
    """A server on loopback that counts who comes."""

    def __enter__(self) -> Listener:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.visits = 0
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def _listen(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:
                return
            self.visits += 1
            visitor.sendall(b"HTTP/1.0 204 No Content\r\nAccess-Control-Allow-Origin: *\r\n\r\n")
            visitor.close()

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def shown(browser: Browser) -> list[list[str]]:
    """The cells of the rows that are shown."""
    found: list[list[str]] = browser.js(
        "[...document.querySelectorAll('#body tr:not(.more)')].map(r => [...r.cells].map(c => c.textContent))"
    )
    return found


def told(browser: Browser) -> str:
    return str(browser.js("document.getElementById('shown').textContent"))


def enter(browser: Browser, field: str, value: str) -> None:
    """Put a value into a field as a person does, and wait until the table has heard of it."""
    before = told(browser)
    browser.js(
        f"(() => {{ const f = document.getElementById({field!r}); f.value = {value!r};"
        "f.dispatchEvent(new Event('input', {bubbles: true})); return new Promise(done => setTimeout(done, 400)); })()"
    )
    assert told(browser) != before or value == ""


def test_the_page_asks_for_nothing(browser: Browser, many: Path) -> None:
    with Listener() as listener:
        browser.open(many)
        browser.js("document.querySelectorAll('#headings button')[2].click()")
        browser.js("document.querySelector('#body button').click()")
        assert browser.requested[0] == many.as_uri()
        assert {address.partition(":")[0] for address in browser.requested[1:]} <= {"data"}
        assert browser.errors == []
        # What is put into the page asks for something, and the policy lets none of it out.
        for code in (
            f"fetch('{listener.address}/a').then(() => 'out', () => 'kept')",
            f"new Promise(done => {{ const i = new Image(); i.onload = i.onerror = () => done('kept'); "
            f"i.src = '{listener.address}/b.png'; document.body.append(i); }})",
        ):
            assert browser.js(code) == "kept"
        assert listener.visits == 0
        free = many.with_name("free.html")  # and without a policy the same goes out, and is seen
        free.write_text("<!doctype html><title>free</title><body>")
        browser.open(free)
        browser.js(f"fetch('{listener.address}/a').catch(() => 0)")
        assert listener.visits > 0 and f"{listener.address}/a" in browser.requested


def test_a_hostile_name_is_text(browser: Browser, tmp_path: Path) -> None:
    names = ("<img src=x onerror=\"document.title='run'\">", "</script><script>document.title='run'</script>")
    first = next(rows())
    hostile = tuple(Row(*(name, *(getattr(first, n) for n in Row.__slots__[1:]))) for name in names)
    path = tmp_path / "hostile.html"
    path.write_text(page.page(Records("r.jsonl", "d" * 64, LABELS, hostile, 0)))
    browser.open(path)
    browser.js("document.querySelectorAll('#body button').forEach(b => b.click())")
    assert browser.js("document.title") == "r.jsonl: 2 records"
    assert [cells[0] for cells in shown(browser)] == list(names)
    assert browser.js("document.images.length") == 0


def test_the_table_sorts_filters_and_searches(browser: Browser, many: Path) -> None:
    browser.open(many)
    assert told(browser) == "Rows 1 to 100 of 20,000"
    every = list(rows())
    scored = sorted(row.confidence for row in every if row.confidence is not None)
    browser.js("document.querySelectorAll('#headings button')[2].click()")
    assert shown(browser)[0][2] == f"{scored[0]:.3f}"
    assert browser.js("document.querySelectorAll('#headings th')[2].ariaSort") == "ascending"
    browser.js("document.querySelectorAll('#headings button')[2].click()")
    assert shown(browser)[0][2] == f"{scored[-1]:.3f}"
    assert browser.js("[...document.querySelectorAll('#headings th')].map(h => h.ariaSort).join()").count("desc") == 1
    browser.js("document.getElementById('last').click()")  # what has no probability stands last, whichever way
    assert shown(browser)[-1][2] == ""
    enter(browser, "answer", "abstained")
    assert told(browser) == "Rows 1 to 100 of 1,000 found among 20,000"
    assert all(cells[1:3] == ["abstained", ""] for cells in shown(browser))
    enter(browser, "answer", "")
    enter(browser, "reason", "blank")
    assert "of 1,000 found" in told(browser) and shown(browser)[0][1] == "rejected: blank"
    enter(browser, "reason", "")
    enter(browser, "to", "0.6")
    count = sum(share <= 0.6 for share in (round(s, 4) for s in scored))
    assert f"of {count:,} found" in told(browser)
    enter(browser, "search", "STUDY-00042 im-1")
    assert told(browser) in ("No row of 20,000 fits", "Rows 1 to 1 of 1 found among 20,000")
    enter(browser, "to", "")
    assert told(browser) == "Rows 1 to 1 of 1 found among 20,000"
    assert shown(browser)[0][0] == "archive/study-00042/IM-1.dcm"


def test_a_keyboard_does_it_all(browser: Browser, many: Path) -> None:
    browser.open(many)
    browser.js("document.getElementById('view').focus()")
    browser.press("Tab")
    assert browser.js("document.activeElement.closest('th').textContent") == "File"
    for _ in range(2):
        browser.press("Tab")
    browser.press("Enter", "\r")
    assert browser.js("document.activeElement.closest('th').ariaSort") == "ascending"
    while not browser.js("document.activeElement.closest('#body') !== null"):
        browser.press("Tab")
    browser.press("Enter", "\r")
    assert browser.js("document.activeElement.ariaExpanded") == "true"
    assert "SHA-256" in browser.js("document.querySelector('#body tr.more').textContent")
    browser.press("Enter", "\r")
    assert browser.js("document.querySelector('#body tr.more')") is None


def test_a_screen_reader_finds_names_and_roles(browser: Browser, many: Path) -> None:
    browser.open(many)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    found = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n["ignored"]]
    roles = [role for role, _ in found]
    assert {"table", "row", "columnheader", "status", "main", "search"} <= set(roles)
    for role in ("button", "searchbox", "combobox", "spinbutton", "image", "region", "navigation"):
        names = [name for kind, name in found if kind == role]
        assert names and all(names), role
    assert ("columnheader", "p(answer)") in found


def test_a_phone_the_dark_and_paper(browser: Browser, many: Path) -> None:
    for width in (320, 390):
        browser.open(many, width=width)
        assert browser.js("document.documentElement.scrollWidth") <= width
    assert browser.js("document.getElementById('view').scrollWidth - document.getElementById('view').clientWidth") == 0
    light = browser.js("getComputedStyle(document.body).backgroundColor")
    browser.open(many, dark=True)
    dark, ink = (browser.js(f"getComputedStyle(document.body).{what}") for what in ("backgroundColor", "color"))
    assert light == "rgb(255, 255, 255)" and max(map(int, dark[4:-1].split(", "))) < 60
    assert min(map(int, ink[4:-1].split(", "))) > 200
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.js("getComputedStyle(document.getElementById('controls')).display") == "none"
    assert browser.js("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.pdf().startswith(b"%PDF")


def test_films_are_shown_and_warned_of(browser: Browser, many: Path) -> None:
    browser.open(many)
    assert browser.js("[...document.images].map(i => [i.complete, i.naturalWidth, i.alt !== ''])") == [[True, 1, True]]
    assert "holds 1 film of patients" in browser.js("document.querySelector('.notice').textContent")
    browser.js("document.querySelector('#body button').click()")
    browser.js("document.querySelector('#body tr.more a').click()")
    assert browser.js("location.hash") == "#film-0"


@pytest.mark.skipif("EDGECXR_AXE" not in os.environ, reason="no axe.min.js (set EDGECXR_AXE)")
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (390, False)])
def test_axe_finds_nothing_serious(browser: Browser, many: Path, width: int, dark: bool) -> None:
    browser.open(many, width=width, dark=dark)
    browser.js("document.querySelector('#body button').click()")
    browser.js("document.querySelector('details').open = true")
    browser.js(Path(os.environ["EDGECXR_AXE"]).read_text() + ";0")
    found = browser.js("axe.run().then(r => r.violations.map(v => [v.impact, v.id, v.nodes[0].html]))")
    assert [one for one in found if one[0] in ("serious", "critical")] == []
    assert browser.js("axe.run().then(r => r.passes.length)") > 10
