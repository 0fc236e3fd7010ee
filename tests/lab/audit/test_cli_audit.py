"""`edgecxr audit`: exit codes, files, and one sentence for bad input."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from drawn import film, save, write_manifest
from typer.testing import CliRunner

from edgecxr.cli import app
from edgecxr.errors import StorageError

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two classes of twelve films, a split each in turn; and in a column apart, one more film that is in two splits."""
    rows = []
    for number in range(24):
        file = f"{number}.png"
        save(tmp_path / "data" / file, film(number, (80, 72)))
        split = ("train", "dev", "test")[number // 2 % 3]
        rows.append({"file": file, "label": "ab"[number % 2], "split": split, "part": "clean"})
    save(tmp_path / "data" / "copy.bmp", film(0, (80, 72)))
    rows.append({"file": "copy.bmp", "label": "a", "split": "test", "part": "copied"})
    write_manifest(tmp_path / "data", rows)
    return tmp_path / "data"


def test_a_leak_is_exit_5_with_every_output_written(edgecxr: Run, data: Path, tmp_path: Path) -> None:
    json_file, html = tmp_path / "out.json", tmp_path / "out.html"
    result = edgecxr("audit", data, "-o", json_file, "-o", html)
    assert result.returncode == 5, result.stderr
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("edgecxr: no split may share a film or a patient with another, found exact duplicates")
    assert line.endswith("1 set, 2 pictures")
    assert result.stdout.startswith("✗ leak     Exact duplicates across splits: 1 set, 2 pictures")
    report = json.loads(json_file.read_text())
    assert (report["data"], report["leaks"], report["where"]) == ("data", True, {})
    assert str(tmp_path) not in json_file.read_text()
    assert "copy.bmp" in html.read_text(encoding="utf-8")


def test_without_a_leak_it_is_exit_0(edgecxr: Run, data: Path) -> None:
    result = edgecxr("audit", data, "--where", "part=clean", "--against", data, "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["leaks"], report["pictures"], report["where"]) == (False, 24, {"part": "clean"})
    (against,) = [f for f in report["findings"] if f["id"] == "against:data"]
    assert against["figure"] == "24 of 24 pictures (24 exact)"
    assert result.stderr == ""


def test_what_is_left_out_of_the_data_and_of_the_others_is_said(edgecxr: Run, data: Path, tmp_path: Path) -> None:
    (data / "copy.bmp").rename(data / "forgotten.bmp")
    rows = (data / "manifest.csv").read_text().splitlines()
    (data / "manifest.csv").write_text("\n".join(row for row in rows if not row.startswith("copy.bmp")))
    for label in "ab":
        save(tmp_path / "others" / label / "1.png", film(ord(label), (80, 72)))
    (tmp_path / "others" / "a" / "2.dcm").touch()
    result = edgecxr("audit", data, "--against", tmp_path / "others", "--json")
    assert result.returncode == 0, result.stderr
    listed = "1 pictures that manifest.csv doesn't list; the first is forgotten.bmp"
    assert result.stderr.splitlines() == [
        f"{data}: left out: {listed}",
        f"{tmp_path / 'others'}: left out: 1 .dcm; the first is a/2.dcm",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{root}/nowhere"], "no such folder"),
        (["{root}/empty"], "no labelled pictures"),
        (["{root}/data", "--where", "part"], "--where expects COLUMN=VALUE"),
        (["{root}/data", "--where", "colour=red"], "no column 'colour'"),
        (["{root}/data", "-o", "{root}/out.csv"], "ends in .json, .html"),
        (["{root}/data", "-o", "{root}/empty/there.json"], "the output exists"),
        (["{root}/data", "-o", "{root}/a.html", "-o", "{root}/empty/../a.html"], "a name of its own"),
        (["{root}/data", "--against", "{root}/data", "--against", "{root}/data"], "folders of different names"),
    ],
)
def test_bad_input_is_one_sentence(edgecxr: Run, data: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "there.json").touch()
    result = edgecxr("audit", *(a.format(root=tmp_path) for a in arguments))
    assert result.returncode == 2
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("edgecxr: ")
    assert said in line
    assert result.stdout == ""


def test_a_full_disk_keeps_the_old_files_and_shows_the_findings(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("edgecxr.system.storage._sync", full)
    old = [tmp_path / "a.json", tmp_path / "a.html"]
    for file in old:
        file.write_text("mine")
    outputs = [part for file in old for part in ("-o", str(file))]
    result = CliRunner().invoke(app, ["audit", str(data), *outputs, "--overwrite"])
    assert isinstance(result.exception, StorageError)
    assert [str(file) in str(result.exception) for file in old] == [True, True]
    assert "Exact duplicates across splits" in result.stdout
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()} == {
        "a.json": "mine", "a.html": "mine",
    }  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="names are bytes")
def test_names_that_are_no_utf_8_are_written_as_on_the_terminal(edgecxr: Run, tmp_path: Path) -> None:
    name = os.fsdecode(b"latin\xe9")
    for label, file in ((name, f"{name}.png"), ("b", "1.png")):
        save(tmp_path / "data" / label / file, film(1))
    result = edgecxr("audit", tmp_path / "data", "-o", tmp_path / "a.json", "-o", tmp_path / "a.html")
    assert result.returncode == 0, result.stderr
    assert "Exact duplicates with different labels: 1 set" in result.stdout
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<code>latin\\udce9/latin\\udce9.png</code>" in page
    assert name in json.loads((tmp_path / "a.json").read_text())["labels"]


def test_a_seed_has_32_bits(edgecxr: Run, data: Path) -> None:
    assert edgecxr("audit", data, "--seed", 2**32).returncode == 2
    assert edgecxr("audit", data, "--where", "part=clean", "--seed", 2**32 - 1).returncode == 0
