"""Locks that end with the process that holds them, however it ends: nothing is left to be cleared away by hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = ".lock"  # within the folder that is held


def take(descriptor: int) -> bool:
    """Lock an open file, without waiting; False where another open file has the lock, of this process or another's.

    True without a lock where the system or the file system has none (Windows, some network shares). The lock ends when
    the file is closed, and so with its process: flock(2).
    """
    try:
        import fcntl
    except ImportError:  # not on this system
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


@contextmanager
def folder(path: Path) -> Iterator[bool]:
    """Hold the folder `path`, made where it is absent, while the block runs; yields False where another holds it.

    The lock is on the file LOCK in it, which is removed at the end, as are the folders that were made if they are still
    empty. What a dead process left of it is taken over. Raises OSError where the folder can't be made or written to.
    """
    made = _make(path)
    try:
        descriptor = _open_locked(path / LOCK)
        try:
            yield descriptor is not None
        finally:
            if descriptor is not None:
                with suppress(OSError):  # somebody removed it, or the folder
                    (path / LOCK).unlink()
                os.close(descriptor)
    finally:
        with suppress(OSError):  # there is something in it
            for place in made:
                place.rmdir()


def _make(path: Path) -> list[Path]:
    """The folders that had to be made for `path`, the innermost first."""
    made = []
    place = path
    while not place.exists() and place != place.parent:
        made.append(place)
        place = place.parent
    path.mkdir(parents=True, exist_ok=True)
    return made


def _open_locked(path: Path) -> int | None:
    """The file, open and locked, or None where another has it so."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        if not take(descriptor):
            os.close(descriptor)
            return None
        try:
            # Whoever held it may have removed it between the two calls; a file without a name holds nobody off.
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)
