"""`infer --dicom-out`: a file for each film's result, whole, once, and never in another's place."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest

from clinic.films import FILM, film
from edgecxr import load
from edgecxr.clinic.report import result_uid
from edgecxr.system import storage

Run = Callable[..., Any]


@pytest.fixture
def films(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    """Two films, one that is none of the chest, and a PNG."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.dcm").write_bytes(film())
    (folder / "b").write_bytes(film(seed=1, SOPInstanceUID="1.2.826.0.1.99.4", PatientName="Poe^Joan"))
    (folder / "hand.dcm").write_bytes(film(seed=2, BodyPartExamined="HAND"))
    picture("in/c.png")
    return folder


@pytest.fixture
def infer(edgecxr: Run, films: Path, tiny_bundle: Path) -> Run:
    def run(*arguments: object) -> Any:
        return edgecxr("infer", films, "-m", tiny_bundle, *arguments)

    return run


def written(folder: Path) -> dict[str, str]:
    """By name, whose each result is and what kind it is."""
    found = {}
    for path in sorted(folder.iterdir()):
        result = pydicom.dcmread(path)
        assert path.name == f"{result.SOPInstanceUID}.dcm"
        found[path.name] = f"{result.PatientName} {result.Modality}"
    return found


def test_each_film_has_its_report(infer: Run, tmp_path: Path, tiny_bundle: Path) -> None:
    out = tmp_path / "out"
    done = infer("-o", tmp_path / "r.jsonl", "--dicom-out", out)
    assert done.returncode == 1  # of the hand
    assert sorted(written(out).values()) == ["Poe^Joan SR", "Roe^Jane SR"]
    assert f"{result_uid(FILM, load(tiny_bundle).digest)}.dcm" in written(out)
    assert "results as DICOM of 2 films written; 1 not DICOM, without one" in done.stderr
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 4
    if os.name == "posix":
        assert out.stat().st_mode & 0o077 == 0
    again = tmp_path / "again"
    infer("--dicom-out", again)
    assert {path.name: path.read_bytes() for path in again.iterdir()} == {
        path.name: path.read_bytes() for path in out.iterdir()
    }


def test_a_heat_map_is_asked_for(infer: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = infer("--dicom-out", out, "--heat-map", "--json")
    assert sorted(written(out).values()) == ["Poe^Joan OT", "Poe^Joan SR", "Roe^Jane OT", "Roe^Jane SR"]
    assert json.loads(done.stdout)["dicom_out"] == {
        "written": 2, "there": 0, "not_dicom": 1, "refused": 0, "another": 0,
    }  # fmt: skip


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_resumed_what_is_missing_is_written(infer: Run, tmp_path: Path, ending: str, films: Path) -> None:
    out, records = tmp_path / "out", tmp_path / f"r.{ending}"
    infer("-o", records, "--dicom-out", out, "--heat-map")
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    first, *_, last = sorted(out.iterdir())
    first.unlink(), last.unlink()
    kept = records.read_bytes()
    done = infer("-o", records, "--resume", "--dicom-out", out, "--heat-map", "--id", "path")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
    assert records.read_bytes() == kept
    assert "4 of them by an earlier run" in done.stderr
    (films / "d.dcm").write_bytes(film(seed=3, SOPInstanceUID="1.2.826.0.1.99.5"))
    done = infer("-o", records, "--resume", "--dicom-out", out)
    assert len(written(out)) == 5
    assert "results as DICOM of 1 films written; 2 there already; 1 not DICOM" in done.stderr


def test_resumed_records_alone_get_their_results(infer: Run, tmp_path: Path) -> None:
    records = tmp_path / "r.jsonl"
    infer("-o", records, "--id", "hash")
    infer("-o", records, "--id", "hash", "--resume", "--dicom-out", tmp_path / "late")
    infer("--dicom-out", tmp_path / "at-once")
    late, once = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("late", "at-once"))
    assert late == once and len(late) == 2


def test_another_result_of_the_same_name_is_kept(infer: Run, films: Path, tmp_path: Path) -> None:
    (films / "twin.dcm").write_bytes(film(PatientName="Poe^Joan"))  # the UID of another patient's film
    (films / "z.dcm").write_bytes(film())  # the very same film
    out = tmp_path / "out"
    done = infer("--dicom-out", out)
    assert done.returncode == 1
    assert sorted(written(out).values()) == ["Poe^Joan SR", "Roe^Jane SR"]
    assert f"no result: {films / 'twin.dcm'}: another result stands there under its name: 2.25." in done.stderr
    assert "2 films written; 1 there already; 1 not DICOM, without one; 1 without one, as another" in done.stderr
    for path in out.iterdir():
        path.write_bytes(b"mine")
    infer("--dicom-out", out)
    assert {path.read_bytes() for path in out.iterdir()} == {b"mine"}


def test_a_film_that_can_not_be_bound_is_said_and_the_others_go_on(infer: Run, films: Path, tmp_path: Path) -> None:
    (films / "hand.dcm").unlink()
    (films / "a.dcm").write_bytes(film(StudyInstanceUID="CANARY"))
    done = infer("-o", tmp_path / "r.jsonl", "--dicom-out", tmp_path / "out")
    assert done.returncode == 1
    assert f"no result: {films / 'a.dcm'}: no result can be bound to the film: it needs a valid Study" in done.stderr
    assert "CANARY" not in done.stderr + done.stdout + (tmp_path / "r.jsonl").read_text()
    assert list(written(tmp_path / "out").values()) == ["Poe^Joan SR"]


def test_a_film_that_changed_since_it_was_scored_has_no_result(infer: Run, films: Path, tmp_path: Path) -> None:
    records = tmp_path / "r.jsonl"
    infer("-o", records)
    times = (films / "a.dcm").stat()
    (films / "a.dcm").write_bytes(film(seed=7))  # as long, and by its time the same
    os.utime(films / "a.dcm", ns=(times.st_atime_ns, times.st_mtime_ns))
    done = infer("-o", records, "--resume", "--dicom-out", tmp_path / "out")
    assert "a.dcm: a result goes with the film that was scored, and these bytes have another hash" in done.stderr
    assert list(written(tmp_path / "out").values()) == ["Poe^Joan SR"]


def test_results_among_the_films_are_no_films(infer: Run, films: Path) -> None:
    infer("--dicom-out", films / "out")
    done = infer("--dicom-out", films / "out", "--json")
    assert json.loads(done.stdout)["records"] == 4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["in", "--heat-map"], "--heat-map is a picture among results"),
        (["--stdin", "--dicom-out", "out"], "--dicom-out goes with files and folders"),
        (["in", "--dicom-out", "in/a.dcm"], "the folder of results can't be made"),
        (["in", "--dicom-out", "no/such/out"], "the folder of results can't be made"),
    ],
)
def test_what_can_not_be_is_said_first(
    edgecxr: Run, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = edgecxr("infer", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_without_the_extra_the_run_fails_before_the_first_picture(
    infer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "highdicom"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    done = infer("-o", tmp_path / "r.jsonl", "--dicom-out", tmp_path / "out")
    assert done.returncode == 4
    assert "pip install 'edgecxr[cpu,dicom-out]'" in done.stderr
    assert not (tmp_path / "r.jsonl").exists()


def test_on_a_full_disk_the_run_ends_and_leaves_nothing_torn(
    infer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage, "_sync", full)
    done = infer("-o", tmp_path / "r.jsonl", "--dicom-out", tmp_path / "out")
    assert done.returncode == 70
    assert "No space left on device" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.undo()
    infer("-o", tmp_path / "r.jsonl", "--resume", "--dicom-out", tmp_path / "out")
    assert sorted(written(tmp_path / "out").values()) == ["Poe^Joan SR", "Roe^Jane SR"]


def test_a_new_file_takes_no_name_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    for name in ("a", "b"):
        assert storage.write_new(tmp_path / name, b"first")
        assert not storage.write_new(tmp_path / name, b"second")
        monkeypatch.setattr(Path, "hardlink_to", no_links)  # as on FAT
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"first", "b": b"first"}
