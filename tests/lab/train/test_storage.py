"""Large files of a fit: whole or absent, whatever stops the writer."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgecxr.errors import StorageError, UsageError
from edgecxr.lab.train import storage
from full_disk import files_unlimited_afterwards, limit_files

# Fills the first half, says so, and waits for what comes.
WRITER = """
import sys
from pathlib import Path
from edgecxr.lab.train.storage import new_array
with new_array(Path(sys.argv[1]), "uint8", (1000,), "numbers") as array:
    array[:500] = 1
    print("half", flush=True)
    sys.stdin.readline()
    array[500:] = 2
"""


def start_writer(file: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(file)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "half\n"
    return writer


def fill(file: Path, value: int) -> None:
    with storage.new_array(file, np.uint8, (1000,), "numbers") as array:
        array[:] = value


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_an_array_stands_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "a.npy"
    with storage.new_array(file, np.float16, (2, 3), "numbers") as array:
        array[:] = [[1, 2, 3], [4, 5, 6]]
        assert not file.exists()
    assert np.load(file).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert list(file.parent.iterdir()) == [file]


def test_a_failure_in_between_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), storage.new_array(tmp_path / "a.npy", np.uint8, (10,), "numbers"):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_no_array_and_is_removed_by_the_next(tmp_path: Path) -> None:
    file = tmp_path / "a[1].npy"
    writer = start_writer(file)
    writer.kill()
    writer.communicate()
    assert writer.returncode == -signal.SIGKILL
    assert [path.suffix for path in tmp_path.iterdir()] == [storage.PARTIAL]
    fill(file, 3)
    assert list(tmp_path.iterdir()) == [file]
    assert set(np.load(file).tolist()) == {3}


def test_two_writers_at_once_do_not_meet(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    writer = start_writer(file)
    fill(file, 3)
    assert set(np.load(file).tolist()) == {3}
    before = np.load(file, mmap_mode="r")
    writer.communicate("\n")
    assert writer.returncode == 0
    assert np.load(file).tolist() == [1] * 500 + [2] * 500
    assert set(before.tolist()) == {3}  # who has the first one mapped keeps it
    assert list(tmp_path.iterdir()) == [file]


def test_too_little_room_is_known_before_the_work(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"numbers need 1000000000\.0 GB, only .* GB are free: "),
        storage.new_array(tmp_path / "a.npy", np.uint8, (10**9, 10**9), "numbers"),
    ):
        pytest.fail("there can't be room")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="the folder can't be used"):
        storage.make_room(tmp_path / "file" / "under", 1, "numbers")


def test_a_disk_that_fills_up_is_one_sentence_and_not_a_bus_error(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "make_room", lambda *_: None)  # somebody else takes the room right after
    with (
        pytest.raises(StorageError, match=r"numbers can't be written \(no room left\): "),
        storage.new_array(small_disk / "a.npy", np.uint8, (4_000_000,), "numbers") as array,
    ):
        array[:] = 1
    assert list(small_disk.iterdir()) == []


def test_arrays_that_find_no_room_leave_the_old_ones(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    storage.save_arrays(file, {"a": np.arange(10)})
    before = file.read_bytes()
    with (
        files_unlimited_afterwards(),
        pytest.raises(StorageError, match=r"the checkpoint can't be written \(no room left\): .*a\.npz"),
    ):
        limit_files(100_000)
        storage.save_arrays(file, {"a": np.zeros(100_000)})
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_arrays_on_a_full_disk_leave_the_old_ones(small_disk: Path) -> None:
    file = small_disk / "a.npz"
    storage.save_arrays(file, {"a": np.arange(1000)})
    before = file.read_bytes()
    with pytest.raises(StorageError, match="no room left"):
        storage.save_arrays(file, {"a": np.zeros(1_000_000)})
    assert file.read_bytes() == before
    assert list(small_disk.iterdir()) == [file]
