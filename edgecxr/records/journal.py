"""An append-only file of lines that a kill or a power cut leaves whole: what was appended stays, or was never there.

Each line is one `write`, so that SIGKILL loses nothing that was appended. A thread of its own has it on the disk within
SYNC_SECONDS, whether another line comes or not, so that a power cut loses at most that second. What a power cut, or a
full disk, leaves of a last line is cut off before the next is appended.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from edgecxr.errors import StorageError, UsageError
from edgecxr.system import locks
from edgecxr.system.storage import sync_folder

SYNC_SECONDS = 1.0  # a power cut loses at most this much of what was appended
_WAIT_SECONDS = SYNC_SECONDS / 2  # before a sync, which takes its time as well

_FLAGS = {"new": os.O_CREAT | os.O_EXCL, "anew": os.O_CREAT, "on": 0}
_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class Journal:
    """A file that is open for appending, by one thread, until it is closed.

    Only one process at a time has it open so. Raises UsageError where it can't be opened, and StorageError where lines
    can't be kept: on a full disk, or where the disk fails.
    """

    def __init__(self, path: Path, how: Literal["new", "anew", "on"]) -> None:
        """Open `path`: one that isn't there yet, an empty one whatever was there, or the one that is there."""
        self.path = path
        with _as_usage_error(path):
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | _FLAGS[how] | _BINARY, 0o666)
        try:
            _lock(self._file, path)
            with _as_usage_error(path):
                if how == "anew":  # and not by O_TRUNC: it may be another run's
                    os.ftruncate(self._file, 0)
                self._size = os.fstat(self._file).st_size
                sync_folder(path.parent)  # the name, too, has to survive
        except BaseException:
            os.close(self._file)
            raise
        self._failed: OSError | None = None
        self._dirty, self._ended = threading.Event(), threading.Event()
        self._syncing = threading.Thread(target=self._sync_in_time, name="edgecxr-sync", daemon=True)
        self._syncing.start()

    def close(self, *, quietly: bool = False) -> None:
        """Sync and close; `quietly`, where another error is being reported, without a StorageError."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._dirty.set()
        self._syncing.join()
        self._sync()
        os.close(self._file)
        if self._failed is not None and not quietly:
            raise self._lost(self._failed)

    def append(self, line: bytes) -> None:
        """Append one line, which ends in a line break; after a StorageError those before it are still whole."""
        if self._failed is not None:
            raise self._lost(self._failed)
        written = 0
        try:
            while written < len(line):  # a nearly full disk takes a part
                written += os.write(self._file, line[written:])
        except OSError as error:
            if written:
                os.ftruncate(self._file, self._size)
            raise self._lost(error) from None
        self._size += len(line)
        self._dirty.set()

    def cut(self, size: int) -> None:
        """Keep the first `size` bytes."""
        try:
            os.ftruncate(self._file, size)
        except OSError as error:
            raise self._lost(error) from None
        self._size = size
        self._dirty.set()

    def _sync_in_time(self) -> None:
        while self._dirty.wait() and not self._ended.wait(_WAIT_SECONDS):
            self._sync()

    def _sync(self) -> None:
        self._dirty.clear()
        try:
            os.fsync(self._file)
        except OSError as error:
            # And never again: after a failed fsync the system may forget what it couldn't write, and report success.
            self._failed = self._failed or error

    def _lost(self, error: OSError) -> StorageError:
        return StorageError(
            f"records can't be kept any more ({error.strerror}); those before are, and --resume goes on: {self.path}"
        )


def whole_lines(path: Path, limit: int) -> Iterator[bytes]:
    """The lines of a journal, up to the first that was torn or is longer than `limit` bytes.

    Torn is what has no line break at its end, or a NUL in it: after a power cut, some file systems have NULs where
    bytes were promised. None of our lines holds one.
    """
    with path.open("rb") as file:
        while (line := file.readline(limit)).endswith(b"\n") and b"\0" not in line:
            yield line


@contextmanager
def _as_usage_error(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise UsageError(f"the output exists; give --overwrite to replace it: {path}") from None
    except OSError as error:
        raise UsageError(f"the output can't be written ({error.strerror}): {path}") from None


def _lock(file: int, path: Path) -> None:
    if not locks.take(file):
        raise UsageError(f"another run is writing this output: {path}")
