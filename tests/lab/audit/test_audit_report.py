"""The whole audit of a folder with planted faults, as a report, a page and a table."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from drawn import film, save, write_manifest
from rich.console import Console

from edgecxr.errors import DataError
from edgecxr.lab.audit import audit
from edgecxr.lab.audit.page import MAX_FILES, page
from edgecxr.lab.audit.table import findings_view
from edgecxr.lab.dataset import read_dataset

HOSTILE = "covid/<img src=x onerror=alert(1)>&.png"


def plant(folder: Path) -> None:
    """48 films; a copy across splits, one across classes, a patient in two splits, a file cut short."""
    rows = []

    def add(file: str, label: str, split: str, patient: str) -> None:
        rows.append({"file": file, "label": label, "split": split, "patient": patient, "origin": f"{label} hospital"})

    for number in range(48):
        label = ("covid", "normal")[number % 2]
        file = f"{label}/{number:02}.png"
        save(folder / file, film(number, (96, 80)))
        add(file, label, ("train", "train", "dev", "test")[number // 2 % 4], f"p{number}")
    save(folder / HOSTILE, film(0, (96, 80)))  # of train
    add(HOSTILE, "covid", "test", "other")
    save(folder / "normal" / "again.jpg", film(2, (96, 80)), quality=70)  # of covid, train
    add("normal/again.jpg", "normal", "train", "another")
    save(folder / "covid" / "late.png", film(99, (96, 80)))
    add("covid/late.png", "covid", "test", "p0")
    (folder / "covid" / "cut.png").write_bytes((folder / "covid" / "00.png").read_bytes()[:99])
    add("covid/cut.png", "covid", "train", "p98")
    write_manifest(folder, rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("planted")
    plant(root / "data")
    for number in (5, 7):
        save(root / "elsewhere" / "normal" / f"{number}.jpg", film(number, (96, 80)), quality=85)
    return root


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    others = {"elsewhere": read_dataset(folder / "elsewhere")}
    steps: list[tuple[str, int, int]] = []
    made = audit(read_dataset(folder / "data"), others, workers=2, seed=0, progress=lambda *step: steps.append(step))
    ends = {what: (done, total) for what, done, total in steps}
    assert list(ends) == ["reading", "comparing", "reading elsewhere", "comparing with elsewhere", "probing"]
    assert all(done == total for done, total in ends.values())
    return {**made, "where": {}}


def finding(report: dict[str, Any], identity: str) -> dict[str, Any]:
    (found,) = [f for f in report["findings"] if f["id"] == identity]
    return found


def files(found: dict[str, Any]) -> list[list[str]]:
    return [sorted(file["file"] for file in files) for files in found["files"]]


def test_every_planted_fault_is_found(report: dict[str, Any]) -> None:
    assert report["leaks"]
    assert (report["pictures"], report["labels"]) == (51, {"covid": 26, "normal": 25})
    assert files(finding(report, "exact-across-splits")) == [["covid/00.png", HOSTILE]]
    assert files(finding(report, "near-across-classes")) == [["covid/02.png", "normal/again.jpg"]]
    assert files(finding(report, "patient-across-splits")) == [["covid/00.png", "covid/late.png"]]
    assert files(finding(report, "unreadable")) == [["covid/cut.png"]]
    assert files(finding(report, "against:elsewhere")) == [
        ["normal/05.png", "normal/5.jpg"],
        ["normal/07.png", "normal/7.jpg"],
    ]
    assert finding(report, "near-across-splits")["severity"] == "ok"
    assert finding(report, "origin-confounded")["figure"].startswith("2 of 2 ")
    assert finding(report, "label:origin")["values"]["balanced_accuracy"] == 1
    assert finding(report, "label:size")["severity"] == "ok"


def test_the_worst_comes_first_and_every_finding_says_what_to_do(report: dict[str, Any]) -> None:
    severities = [f["severity"] for f in report["findings"]]
    assert severities == sorted(severities, key=["leak", "warning", "note", "ok"].index)
    assert severities.count("leak") == 2
    assert all(f["figure"] and f["action"] for f in report["findings"])


def test_the_report_is_json_that_names_no_folder_and_comes_out_the_same(report: dict[str, Any], folder: Path) -> None:
    text = json.dumps(report)
    assert str(folder) not in text
    others = {"elsewhere": read_dataset(folder / "elsewhere")}
    again = {**audit(read_dataset(folder / "data"), others, workers=1, seed=0), "where": {}}
    for made in (again, report):
        assert made["seconds"] > 0
    assert {**again, "seconds": 0} == {**report, "seconds": 0}


def test_the_page_escapes_names_and_shows_no_film(report: dict[str, Any]) -> None:
    html = page(report)
    assert "<img src=x" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;.png" in html
    (image,) = re.findall(r"<img [^>]*>", html)
    assert 'alt="Balanced accuracies against chance"' in image
    assert "<script" not in html
    assert not re.search(r"(?:src|href)=[\"'](?!data:)", html)
    for said in ("A split leaks", "2 leaks", "elsewhere: normal/5.jpg", "damaged or truncated", "covid hospital"):
        assert said in html, said


def test_a_page_of_data_without_splits_or_shortcuts(report: dict[str, Any]) -> None:
    kept = [f for f in report["findings"] if f["topic"] == "data" and f["severity"] != "leak"]
    html = page({**report, "findings": kept, "splits": None, "leaks": False, "provenance": {}})
    assert "No splits." in html
    assert "A split leaks" not in html
    assert "<img" not in html


def test_a_long_list_of_files_is_cut_on_the_page(report: dict[str, Any]) -> None:
    found = dict(finding(report, "exact-across-splits"))
    file = {"label": "a", "split": "dev", "similarity": 1.0}
    found["files"] = [[{"file": f"f{i}", **file}] for i in range(MAX_FILES + 7)]
    html = page({**report, "findings": [found]})
    assert html.count("<li>") == MAX_FILES
    assert "and 7 more files" in html


def test_a_dollar_in_a_name_draws_no_formula(report: dict[str, Any]) -> None:
    found = {**finding(report, "label:origin"), "title": r"Label told from $\frac{"}
    assert "<img" in page({**report, "findings": [found]})


def test_the_table_fits_100_columns_and_steers_no_terminal(report: dict[str, Any]) -> None:
    console = Console(width=100, force_terminal=False, highlight=False)
    hostile = {**finding(report, "unreadable"), "title": "a\x1b[31m[bold]b"}
    with console.capture() as captured:
        console.print(findings_view({**report, "findings": [hostile, *report["findings"]]}))
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 100
    assert r"a\x1b[31m[bold]b" in lines[0]
    assert sum(line.startswith("✗ leak") for line in lines) == 2
    (row,) = [line.split() for line in lines if "Label told from origin" in line]
    assert row[-3:] == ["100.0%", "100.0%–100.0%", "50.0%"]


def test_nothing_readable_is_one_sentence(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "x.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="none of the 2 pictures can be read, the first: not a picture"):
        audit(read_dataset(tmp_path), {}, workers=1, seed=0)
