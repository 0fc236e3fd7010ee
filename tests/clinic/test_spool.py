"""Films on disk: kept before anybody is told, once, and never removed while something is to be done."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgecxr.clinic import spool as spools
from edgecxr.clinic.spool import Room, Spool, named
from edgecxr.errors import StorageError, UsageError

Usage = namedtuple("Usage", "total used free")
ROOMY = Room(free_bytes=0)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool(tmp_path / "spool", ROOMY).held() as held:
        yield held


def done(spool: Spool, uid: str, days: float = 0.0) -> Path:
    """A film that is done since so many days."""
    _, entry = spool.receive(uid, b"film", "d", "X")
    assert entry is not None
    entry.note("scored", status="rejected", code="blank", results=[], targets=[])
    spool.settle(entry)
    when = time.time() - days * 86400
    os.utime(entry.folder / spools.JOURNAL, (when, when))
    return entry.folder


def test_only_its_owner_may_look_into_it(spool: Spool) -> None:
    spool.receive("1.2.3", b"film", "d", "MODALITY")
    for path in (spool.folder, *spool.folder.rglob("*")):
        if path.name != ".lock":
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("uid", ["../../etc/passwd", "/etc/passwd", "a\0b", "\udce9", "", "x" * 10_000])
def test_a_uid_names_no_place(spool: Spool, uid: str) -> None:
    before = set(spool.folder.parent.rglob("*"))
    receipt, entry = spool.receive(uid, b"film", "d", "X")
    assert receipt == "new"
    assert entry is not None
    assert entry.folder == spool.folder / "films" / named(uid)
    new = set(spool.folder.parent.rglob("*")) - before
    assert all(path == entry.folder or path.parent == entry.folder for path in new)


def test_a_film_is_kept_once_and_another_under_its_uid_changes_nothing(spool: Spool) -> None:
    assert spool.receive("1.2.3", b"film", "d", "X")[0] == "new"
    assert spool.receive("1.2.3", b"film", "d", "X") == ("same", None)
    assert spool.receive("1.2.3", b"other", "e", "X") == ("other", None)
    (entry,) = spool.left()
    assert entry.film.read_bytes() == b"film"
    entry.note("scored", status="rejected", code="blank", results=[], targets=[])
    spool.settle(entry)
    assert spool.receive("1.2.3", b"film", "d", "X") == ("same", None)  # nor once it is done
    assert not list((spool.folder / "incoming").iterdir())


def test_everything_is_synced_before_it_is_said_to_be_kept(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real, rename = os.fsync, Path.rename

    def fsync(file: int) -> None:
        order.append(Path(f"/proc/self/fd/{file}").readlink().name)
        real(file)

    def renamed(self: Path, target: Path) -> Path:
        order.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", renamed)
    spool.receive("1.2.3", b"film", "d", "X")
    before, after = order[: order.index("rename")], order[order.index("rename") + 1 :]
    assert before[:2] == ["film.dcm", "journal.jsonl"]
    assert len(before) == 3  # and the folder that holds both
    assert after == ["films"]


def test_a_full_disk_keeps_nothing_and_says_so(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data[:2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(spools, "write", full)
    with pytest.raises(OSError, match="No space left"):
        spool.receive("1.2.3", b"film", "d", "X")
    assert not [path for path in spool.folder.rglob("*") if path.is_file() and path.name != ".lock"]


def test_a_film_is_refused_before_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Spool(tmp_path / "spool", Room(free_bytes=1000)).held() as spool:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(9999, 0, 1003))
        with pytest.raises(StorageError):
            spool.receive("1.2.3", b"film", "d", "X")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(9999, 0, 1004))
        assert spool.receive("1.2.3", b"film", "d", "X")[0] == "new"


def test_what_is_done_is_removed_by_age_and_what_waits_or_failed_never(spool: Spool) -> None:
    old, young = done(spool, "1.1", days=3.1), done(spool, "1.2", days=2.9)
    _, waits = spool.receive("1.3", b"film", "d", "X")
    _, failed = spool.receive("1.4", b"film", "d", "X")
    assert waits is not None
    assert failed is not None
    failed.note("given_up", code="no_result")
    spool.settle(failed)
    for entry in (waits, failed):
        os.utime(entry.folder / spools.JOURNAL, (0, 0))
    assert spool.clean() == 1
    assert not old.exists()
    assert young.exists()
    assert waits.folder.exists()
    assert failed.folder.parent.name == "failed"


def test_the_oldest_go_first_where_the_disk_gets_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Spool(tmp_path / "spool", Room(free_bytes=1000)).held() as spool:
        older, newer = done(spool, "1.1", days=1), done(spool, "1.2", days=0.5)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(9999, 0, 1999 if older.exists() else 2000))
        assert spool.clean() == 1
        assert not older.exists()
        assert newer.exists()


def test_a_clock_that_jumps_removes_nothing_that_is_to_be_done(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    _, waits = spool.receive("1.3", b"film", "d", "X")
    assert waits is not None
    for when in (0.0, time.time() + 1e9):
        monkeypatch.setattr(time, "time", lambda when=when: when)
        assert spool.clean() == 0
        assert [entry.name for entry in spool.left()] == [waits.name]


def test_one_process_holds_it_and_a_folder_of_something_else_is_refused(spool: Spool, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="another node holds"), Spool(spool.folder, ROOMY).held():
        pass
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"")
    with pytest.raises(UsageError, match="something else"), Spool(tmp_path / "photos", ROOMY).held():
        pass
    assert stat.S_IMODE((tmp_path / "photos").stat().st_mode) != 0o700


def test_what_a_kill_left_half_received_is_gone_and_a_film_without_a_journal_is_set_aside(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool", ROOMY).held() as spool:
        spool.receive("1.1", b"film", "d", "X")
        spool.receive("1.2", b"film", "d", "X")
    (tmp_path / "spool" / "incoming" / "abc").mkdir()
    (tmp_path / "spool" / "incoming" / "abc" / "film.dcm").write_bytes(b"half")
    (tmp_path / "spool" / "films" / named("1.1") / "journal.jsonl").write_bytes(b"")
    with Spool(tmp_path / "spool", ROOMY).held() as spool:
        assert [entry.history.uid for entry in spool.left()] == ["1.2"]
        assert not list((spool.folder / "incoming").iterdir())
        assert (spool.folder / "failed" / named("1.1") / "film.dcm").read_bytes() == b"film"
    assert spools.status(tmp_path / "spool")["unreadable"] == 1


def test_what_was_given_up_is_taken_up_again_once(spool: Spool) -> None:
    _, entry = spool.receive("1.1", b"film", "d", "X")
    assert entry is not None
    entry.note("given_up", code="no_result")
    spool.settle(entry)
    assert list(spool.taken_up(())) == []  # nobody asked
    assert spools.request_requeue(spool.folder) == 1
    (again,) = spool.taken_up(())
    assert again.history.stage == "received"
    assert again.folder.parent.name == "films"
    assert list(spool.taken_up(())) == []
    assert spools.request_requeue(spool.folder) == 0


def test_a_folder_that_is_no_spool_has_no_status(tmp_path: Path) -> None:
    for look in (spools.status, spools.request_requeue):
        with pytest.raises(UsageError, match="no spool"):
            look(tmp_path)
