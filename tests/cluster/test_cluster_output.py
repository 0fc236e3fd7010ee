"""The folder of parts: whole or not there, gone on with after a kill at any place, and never another's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecxr.cluster import output
from edgecxr.cluster.output import JOURNAL, Entry, Header, Output, Part, Place, check, check_asked, file_of, parse, todo
from edgecxr.errors import StorageError, UnavailableError, UsageError

MADE = {"engine": "onnxruntime", "provider": "CPU", "precision": "int8", "device": "cpu"}
HEADER = Header({"paths": ["in"], "bundle_sha256": "ab"}, 10, 1, "cd", 4)
COUNTS: dict[str, Any] = {"records": 4, "statuses": {"scored": 4}, "labels": {"a": 4}, "again": 0}


def made(parquet: bytes, made_by: dict[str, str], **counts: Any) -> Part:
    return Part(parquet, made_by=made_by, plan={}, **counts)


def begun(place: Place, parts: int = 0, **how: bool) -> Output:
    opened = Output(place, **{"overwrite": False, "going_on": False, **how})
    if opened.left.header is None:
        opened.begin(HEADER)
    for part in range(parts):
        opened.add(part, made(b"part %d" % part, MADE, **COUNTS))
    return opened


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return check(tmp_path / "out", overwrite=False, going_on=False)


def left(place: Place) -> list[int]:
    """What a resumed run would do."""
    with Output(place, overwrite=False, going_on=True) as opened:
        return todo(3, opened.left.entries, opened.is_whole)


def test_a_folder_is_there_once_it_is_whole(place: Place) -> None:
    with begun(place, 3) as opened:
        assert not place.target.exists()
        opened.finish()
    assert sorted(path.name for path in place.target.iterdir()) == [JOURNAL, *(file_of(part) for part in range(3))]
    assert not place.part.exists()
    rows = [json.loads(line) for line in (place.target / JOURNAL).read_text().splitlines()]
    assert rows[0]["inputs"] == 10
    assert rows[1] == {"made_by": MADE}
    assert [row["part"] for row in rows[2:]] == [0, 1, 2]
    assert opened.counts() == ({"scored": 12}, {"a": 12})


@pytest.mark.parametrize("parts", [0, 1, 3])
def test_a_killed_run_goes_on_with_the_parts_that_are_missing(place: Place, parts: int) -> None:
    begun(place, parts).__exit__(None, None, None)
    assert left(place) == list(range(parts, 3))


def test_what_a_kill_leaves_of_a_part_is_no_part(place: Place) -> None:
    with begun(place, 2) as opened:
        (opened.folder / file_of(2)).write_bytes(b"whole, and not in the journal")
        (opened.folder / f".{file_of(2)}.tmp").write_bytes(b"ha")
    assert left(place) == [2]
    (place.part / file_of(1)).write_bytes(b"part")  # cut
    (place.part / file_of(0)).unlink()
    assert left(place) == [0, 1, 2]


def test_a_torn_line_is_cut_off(place: Place) -> None:
    begun(place, 2).__exit__(None, None, None)
    journal = place.part / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"part": 2, "fi')
    assert left(place) == [2]
    assert journal.read_bytes() == whole


@given(st.data())
def test_a_journal_cut_anywhere_gives_parts_that_are_there(data: st.DataObject) -> None:
    lines = [json.dumps(row).encode() + b"\n" for row in ({"schema": 1, **HEADER.__dict__}, {"made_by": MADE})]
    lines += [json.dumps(Entry(n, file_of(n), "aa", **COUNTS).__dict__).encode() + b"\n" for n in range(3)]
    keep = data.draw(st.integers(0, len(lines)))
    found = parse(lines[:keep], Path("x"))
    assert (found.header is None) == (keep == 0)
    assert todo(3, found.entries, lambda entry: True) == list(range(max(0, keep - 2), 3))
    assert found.size == sum(map(len, lines[:keep]))


def test_parts_with_what_could_not_be_read_are_made_anew_once(place: Place) -> None:
    with begun(place) as opened:
        for part in range(3):
            opened.add(part, made(b"first", MADE, **{**COUNTS, "again": int(part == 1)}))
        opened.finish()
    again = check(place.target, overwrite=False, going_on=True)
    with Output(again, overwrite=False, going_on=True) as opened:
        assert todo(3, opened.left.entries, opened.is_whole) == [1]
        assert not place.target.exists()  # and so isn't taken for whole meanwhile
        opened.add(1, made(b"second", MADE, **COUNTS))
        opened.finish()
    assert (place.target / file_of(1)).read_bytes() == b"second"
    assert opened.counts()[0] == {"scored": 12}  # the last line of a part counts


def test_an_output_is_kept_without_overwrite_and_until_the_new_one_is_whole(place: Place) -> None:
    with begun(place, 3) as opened:
        opened.finish()
    with pytest.raises(UsageError, match="the output exists"):
        check(place.target, overwrite=False, going_on=False)
    check(place.target, overwrite=True, going_on=False)
    with begun(place, 1, overwrite=True):
        assert (place.target / file_of(2)).exists()
    with pytest.raises(UsageError, match="an unfinished run"):
        shutil.rmtree(place.target)
        check(place.target, overwrite=False, going_on=False)
    with begun(place, 1, overwrite=True) as opened:
        assert [path.name for path in place.part.glob("part*")] == [file_of(0)]
        opened.finish()
    assert [path.name for path in place.target.glob("part*")] == [file_of(0)]


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    for name in ("out", "out.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("years")
        with pytest.raises(UsageError, match="something else"):
            check(tmp_path / "out", overwrite=True, going_on=False)
        shutil.rmtree(tmp_path / name)
    (tmp_path / "out").mkdir()
    check(tmp_path / "out", overwrite=False, going_on=False)  # an empty one gives way
    (tmp_path / "file").write_text("")
    for path, words in ((tmp_path / "file", "this is a file"), (tmp_path / "no" / "out", "no such folder")):
        with pytest.raises(UsageError, match=words):
            check(path, overwrite=False, going_on=False)
    with pytest.raises(UsageError, match="one of them"):
        check(tmp_path / "out", overwrite=True, going_on=True)


def test_two_runs_do_not_write_one_folder(place: Place) -> None:
    with begun(place, 1), pytest.raises(UsageError, match="another run"):
        Output(place, overwrite=False, going_on=True)


def test_a_run_that_never_began_leaves_nothing(place: Place) -> None:
    with pytest.raises(UnavailableError), Output(place, overwrite=False, going_on=False):
        raise UnavailableError("no Ray")
    assert list(place.target.parent.iterdir()) == []


def test_parts_of_another_engine_are_refused(place: Place) -> None:
    with begun(place, 1) as opened, pytest.raises(UnavailableError, match=r"int8 on cpu, got .* fp32 on cpu"):
        opened.add(1, made(b"", {**MADE, "precision": "fp32"}, **COUNTS))


def test_a_resumed_run_asks_for_the_same() -> None:
    check_asked(HEADER, {"paths": ["in"], "bundle_sha256": "ab"}, Path("out"))
    with pytest.raises(UsageError, match=r"another bundle sha256 \(ab\)"):
        check_asked(HEADER, {"paths": ["in"], "bundle_sha256": "ef"}, Path("out"))


@pytest.mark.parametrize(
    "lines",
    [[b"{}\n"], [b'{"schema": 2}\n'], [b"[]\n"], [b"\xff\n"], [json.dumps({"schema": 1, "x": 0}).encode() + b"\n"]],
)
def test_another_journal_is_refused(lines: list[bytes]) -> None:
    with pytest.raises(UsageError, match="line 1"):
        parse(lines, Path("x"))


@pytest.mark.parametrize("file", ["../part-00000.parquet", "part-00001.parquet", ""])
def test_a_journal_names_no_file_but_its_parts(file: str) -> None:
    header = json.dumps({"schema": 1, **HEADER.__dict__}).encode() + b"\n"
    entry = json.dumps({**Entry(0, file_of(0), "aa", **COUNTS).__dict__, "file": file}).encode() + b"\n"
    with pytest.raises(UsageError, match="line 2"):
        parse([header, entry], Path("x"))


def test_a_full_disk_keeps_the_parts_before(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with begun(place, 1) as opened:
        monkeypatch.setattr(output.storage, "replacing_bytes", full)
        with pytest.raises(StorageError, match="--resume goes on"):
            opened.add(1, made(b"", MADE, **COUNTS))
        monkeypatch.undo()
    assert left(place) == [1, 2]
