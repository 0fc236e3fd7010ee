"""The page of records: what it holds, that nothing in it can be markup, and the command."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from edgecxr.records import page
from edgecxr.records.reader import Records, Row

LABELS = ("covid", "normal")
MADE = (3, "tiny 1", "c" * 64, "onnxruntime", "CPU", "cpu", "int8", None, None)


def row(path: str | None = "a.png", p: float = 0.9, **changes: Any) -> Row:
    values: dict[str, Any] = {
        "path": path, "sha256": hashlib.sha256(repr(path).encode()).hexdigest(), "status": "scored",
        "label": LABELS[p < 0.5], "probabilities": (p, 1 - p), "ood_score": None, "code": None, "message": None,
        "width": 10, "height": 20, "bits": 8, "rendering": None, "time_utc": "2026-11-25T23:55:35.801Z", "made": MADE,
    }  # fmt: skip
    return Row(**{**values, **changes})


def rejected(code: str = "blank", message: str = "grey") -> Row:
    return row(code, status="rejected", label=None, probabilities=(), code=code, message=message, width=None)


def abstained(ood: float) -> Row:
    return row(f"ood-{ood}", status="abstained", label=None, ood_score=ood)


def records(*rows: Row, labels: tuple[str, ...] = LABELS, torn: int = 0) -> Records:
    return Records("records.jsonl", "d" * 64, labels, rows, torn)


class Parts(HTMLParser):
    """The scripts of a page, (attributes, content), the tags that it has, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._in = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self._in = tag
        self.text += " "
        if tag == "script":
            self.scripts.append((dict(attributes), ""))

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            attributes, before = self.scripts[-1]
            self.scripts[-1] = (attributes, before + data)
        elif self._in != "style":
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        self._in = ""
        self.text += " "


def table(html: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Parts(html).scripts[0][1])
    return found


def test_the_page_counts_what_there_is() -> None:
    rows = [row("a", 0.9), row("b", 0.92), row("c", 0.2), abstained(4.25), rejected(), rejected()]
    rows.append(rejected("corrupt"))
    text = " ".join(Parts(page.page(records(*rows))).text.split())
    for told in (
        "7 records of records.jsonl", "3 scored 42.9 %", "1 abstained 14.3 %", "3 rejected 42.9 %",
        "covid : 2, median 0.920", "normal : 1, median 0.800", "ood scores from 4.25 to 4.25",
        "blank 2 grey", "corrupt 1 grey", "1 record is of a content", "model tiny 1", "engine onnxruntime",
    ):  # fmt: skip
        assert told.replace(" :", ":") in text.replace(" :", ":"), told
    assert "different runs" not in text and "torn" not in text and "of patients" not in text


def test_distributions_by_hand() -> None:
    rows = [row(p=p) for p in (0.5, 0.9, 0.949, 0.95, 1.0, 0.04)]
    covid, normal = page.distributions(records(*rows))
    assert (covid["count"], normal["count"]) == (5, 1)
    bins = dict.fromkeys(range(page.BINS), 0) | {10: 1, 18: 2, 19: 2}
    assert covid["bins"] == list(bins.values())
    assert normal["bins"][19] == 1  # 0.96


def test_the_table_holds_each_row_and_what_repeats_once() -> None:
    found = table(page.page(records(row("a", 0.91234567), rejected(), rejected(), abstained(2.5))))
    assert found["path"] == ["a", "blank", "blank", "ood-2.5"]
    assert [found["statuses"][index] for index in found["status"]] == ["scored", "rejected", "rejected", "abstained"]
    assert (found["answer"], found["reason"], found["reasons"]) == (
        [0, -1, -1, -1],
        [-1, 0, 0, -1],
        [["blank", "grey"]],
    )
    assert found["shares"] == [[0.9123, 0.0877], [], [], [0.9, 0.1]]
    assert found["ood"] == [None, None, None, 2.5]


HOSTILE = (
    "</script><script>alert(1)</script>", "<!--<script>", "<img src=x onerror=alert(1)>", "a\u202egnp.exe",
    "\udce9.png", "\x1b[31m", "]]>", "&lt;b&gt;",
)  # fmt: skip


def test_a_name_a_class_or_a_reason_is_never_markup() -> None:
    labels = ("<b>covid", "</script>")
    rows = [row(name, label=labels[0]) for name in HOSTILE] + [rejected(name, name) for name in HOSTILE]
    html = page.page(
        records(*rows, labels=labels), [page.Film(index, None, name) for index, name in enumerate(HOSTILE)]
    )
    plain = Parts(page.page(records(row())))
    parts = Parts(html)
    assert {tag for tag, _ in parts.tags} <= {tag for tag, _ in plain.tags} | {"svg", "rect", "code", "figure", "a"}
    assert len(parts.scripts) == 2 and parts.scripts[1] == plain.scripts[1]
    assert not any(name.startswith("on") for _, attributes in parts.tags for name in attributes)
    assert table(html)["path"][:3] == list(HOSTILE[:3])
    assert "\u202e" not in html and "\\u202e" in html  # as a terminal shows it: an escape sequence
    html.encode("utf-8")  # no lone surrogate is left


def test_the_policy_allows_the_one_script_and_no_request() -> None:
    html = page.page(records(row()), [page.Film(0, b"\xff\xd8jpeg")])
    parts = Parts(html)
    policy = next(a["content"] for tag, a in parts.tags if tag == "meta" and a.get("http-equiv"))
    assert policy is not None
    digest = base64.b64encode(hashlib.sha256(parts.scripts[1][1].encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; script-src 'sha256-{digest}';")
    assert "img-src data:;" in policy and "unsafe-inline" not in policy.partition("style-src")[0]
    assert parts.scripts[0][0]["type"] == "application/json"
    assert not re.search(r"https?:|<link|@import|url\(", html)
    assert {a["src"].partition(":")[0] for tag, a in parts.tags if tag == "img"} == {"data"}  # type: ignore[union-attr]
    assert "innerHTML" not in parts.scripts[1][1] and "insertAdjacentHTML" not in parts.scripts[1][1]


def test_films_warn_and_what_is_missing_is_said() -> None:
    text = Parts(
        page.page(records(row("a"), row("b")), [page.Film(0, b"x"), page.Film(1, None, "Not shown: gone.")])
    ).text
    assert "This page holds 1 film of patients." in " ".join(text.split())
    assert "Not shown: gone." in text
    assert "of patients" not in Parts(page.page(records(row()), [page.Film(0, None, "gone")])).text


def test_runs_that_were_put_together_are_told_apart() -> None:
    other = (*MADE[:-3], "fp32", None, 2.5)
    text = " ".join(
        Parts(
            page.page(
                records(row(), row(), row(made=other)),
            )
        ).text.split()
    )
    assert "2 different runs" in text
    assert "2 records schema 3" in text and "1 records schema 3" in text and "abstains from 2.5" in text


# The command

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def scored(tiny_bundle: Path, picture: Callable[..., Path], tmp_path: Path, edgecxr: Run) -> Path:
    for name in ("a.png", "b.png", "c.png"):
        picture(f"in/{name}", seed=ord(name[0]))
    (tmp_path / "in" / "text.png").write_text("no picture")
    done = edgecxr("infer", tmp_path / "in", "-o", tmp_path / "r.jsonl", "-m", tiny_bundle)
    assert done.returncode == 1
    return tmp_path / "r.jsonl"


def test_a_page_is_made_of_what_infer_wrote(scored: Path, edgecxr: Run) -> None:
    out = scored.with_name("page.html")
    done = edgecxr("report", scored, "-o", out)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    html = out.read_text()
    assert [name.rpartition("/")[2] for name in table(html)["path"]] == ["a.png", "b.png", "c.png", "text.png"]
    assert "data:image" not in html
    assert edgecxr("report", scored, "-o", out).returncode == 2  # it exists
    assert edgecxr("report", scored, "-o", out, "--overwrite").returncode == 0


def test_a_torn_end_is_told_and_garbage_is_refused_with_nothing_written(scored: Path, edgecxr: Run) -> None:
    out = scored.with_name("page.html")
    whole = scored.read_bytes()
    scored.write_bytes(whole[:-20])
    assert edgecxr("report", scored, "-o", out).returncode == 0
    assert "A torn last line" in out.read_text()
    out.unlink()
    scored.write_bytes(whole.replace(b'"status": "scored"', b'"status": "perhaps"', 1))
    done = edgecxr("report", scored, "-o", out)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "line 1 of" in done.stderr
    assert not out.exists()


def test_films_are_found_checked_and_drawn(scored: Path, tiny_bundle: Path, edgecxr: Run) -> None:
    out, films = scored.with_name("page.html"), scored.with_name("in")
    (films / "a.png").unlink()
    (films / "b.png").write_bytes((films / "c.png").read_bytes())
    done = edgecxr("report", scored, "-o", out, "--films", "uncertain", "-m", tiny_bundle)
    assert done.returncode == 0
    assert "the page holds 1 films of patients; 2 couldn't be drawn" in done.stderr
    html = out.read_text()
    assert html.count("data:image/jpeg;base64,") == 1
    assert "isn&#39;t where it was" in html and "has changed since it was scored" in html
    assert len(table(html)["films"]) == 3


def test_films_want_the_bundle_that_answered(scored: Path, edgecxr: Run) -> None:
    done = edgecxr("report", scored, "-o", scored.with_name("page.html"), "--films", "both")
    assert done.returncode == 2 and "drawn by the bundle that made the records, tiny 1" in done.stderr


def test_what_belongs_to_films_is_refused_without_them(scored: Path, tiny_bundle: Path, edgecxr: Run) -> None:
    done = edgecxr("report", scored, "-o", scored.with_name("page.html"), "-m", tiny_bundle, "--most", "3")
    assert done.returncode == 2 and "leave out --model, --most" in done.stderr


def test_twenty_thousand_rows_are_a_page_of_a_few_megabytes() -> None:
    rows = [row(f"archive/study-{index:05d}/IM-0001.dcm", index % 100 / 100) for index in range(20_000)]
    html = page.page(records(*rows))
    assert len(html) < 5_000_000
    assert len(table(html)["path"]) == 20_000
