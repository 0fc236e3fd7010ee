"""A folder that one process holds: held off while it lives, taken over when it's dead, and nothing left behind."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgecxr.system import locks

HOLDER = "import sys; from pathlib import Path; from edgecxr.system import locks\n"
HOLDER += "with locks.folder(Path(sys.argv[1])) as alone: print(alone, flush=True); sys.stdin.read()"


def start_holder(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(folder)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    return holder


def test_a_folder_is_held_by_one_and_then_by_the_next(tmp_path: Path) -> None:
    run = tmp_path / "deep" / "run"
    with locks.folder(run) as first:
        with locks.folder(run) as second:
            assert (first, second) == (True, False)
        assert [entry.name for entry in run.iterdir()] == [locks.LOCK]
        (run / "result").touch()
    with locks.folder(run) as third:
        assert third
    assert [entry.name for entry in run.iterdir()] == ["result"]


def test_folders_that_were_made_for_nothing_are_removed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    with pytest.raises(ZeroDivisionError), locks.folder(tmp_path / "kept" / "deep" / "run"):
        _ = 1 / 0
    assert [entry.name for entry in tmp_path.rglob("*")] == ["kept"]


def test_what_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    holder = start_holder(tmp_path / "run")
    with locks.folder(tmp_path / "run") as while_it_lives:
        assert not while_it_lives
    holder.kill()
    holder.communicate()
    assert (tmp_path / "run" / locks.LOCK).exists()
    with locks.folder(tmp_path / "run") as afterwards:
        assert afterwards


def test_a_lock_that_was_removed_in_between_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking, the one that held it removes its file: the next must hold a file with a name."""
    taken, take = [], locks.take

    def slow(descriptor: int) -> bool:
        if not taken:
            (tmp_path / locks.LOCK).unlink()
        taken.append(os.fstat(descriptor).st_ino)
        return take(descriptor)

    monkeypatch.setattr(locks, "take", slow)
    with locks.folder(tmp_path) as alone:
        assert alone
        assert len(taken) == 2
        assert (tmp_path / locks.LOCK).stat().st_ino == taken[-1]


def test_without_locks_everybody_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_here(descriptor: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", none_here)
    with locks.folder(tmp_path) as first, locks.folder(tmp_path) as second:
        assert (first, second) == (True, True)
    assert list(tmp_path.iterdir()) == []
