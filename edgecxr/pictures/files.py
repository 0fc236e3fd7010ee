"""Find files and read their bytes once, in bounded time, or say why not."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgecxr.errors import PictureRejected, UsageError
from edgecxr.system import threads

MAX_BYTES = 256 << 20  # of a file: a 16-bit film of 80 megapixels is 160 MB
READ_SECONDS = 30.0  # for one file; MAX_BYTES in that time is 9 MB/s, below any stick or share that still works
MAX_STALLED = 16  # reads that don't come back, each of which holds a thread; beyond them nothing is waited for
# Files that stand beside pictures by convention and are no pictures: passed over, and counted.
SKIPPED_NAMES = frozenset({"manifest.csv", "SHA256SUMS", ".DS_Store", "Thumbs.db"})


@dataclass(frozen=True)
class Found:
    """Files to score, in order, and how many entries were passed over: well-known companions, links to folders."""

    paths: tuple[Path, ...]
    skipped: int


def find(paths: Iterable[Path], *, recursive: bool = True) -> Found:
    """Every file that was named, and every file under each folder that was named, in sorted order.

    File symlinks are followed, folder symlinks aren't (they can loop). Something that is no regular file, and a folder
    that can't be listed, is listed all the same and becomes a rejected record when it is read.

    Raises UsageError where a path isn't there, or there is no file at all.
    """
    files: list[Path] = []
    skipped = 0
    for path in paths:
        for file in each(path, recursive=recursive):
            if file is None:
                skipped += 1
            else:
                files.append(file)
    if not files:
        raise UsageError(f"no files to score in {', '.join(str(p) for p in paths)}")
    return Found(tuple(files), skipped)


def each(path: Path, *, recursive: bool = True) -> Iterator[Path | None]:
    """The files of one path as `find` has them, one at a time; None for each entry that is passed over."""
    if _is_folder(path):
        for file in _walk(path, recursive):
            yield None if file is None or file.name in SKIPPED_NAMES else file
    elif os.path.lexists(path):
        yield path
    else:
        raise UsageError(f"no such file or folder: {path}")


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):  # gone, a loop of symlinks, behind a folder that may not be entered
        return False


def _walk(folder: Path, recursive: bool) -> Iterator[Path | None]:
    """Files under `folder`, sorted; None for each link to a folder; a folder itself where it can't be listed."""
    waiting = [(folder, True, False)]  # and not a recursion: folders may nest deeper than calls
    while waiting:
        path, is_folder, is_link = waiting.pop()
        if not is_folder:
            yield None if is_link and _is_folder(path) else path
            continue
        try:
            with os.scandir(path) as entries:
                found = [(Path(e.path), e.is_dir(follow_symlinks=False), e.is_symlink()) for e in entries]
        except OSError:
            yield path
            continue
        found.sort(key=lambda item: item[0].name, reverse=True)
        waiting += [item for item in found if recursive or not item[1]]


@dataclass(frozen=True)
class Content:
    """What a file held when it was read."""

    data: bytes
    mtime_ns: int  # of the file that was open, so that it is the time of these very bytes


def read(path: Path) -> bytes:
    """The file's bytes alone, as `read_file`."""
    return read_file(path).data


def read_file(path: Path) -> Content:
    """The file's bytes, read once; raises PictureRejected where there is nothing to read, too much, or no end to it.

    A read that hasn't come back after READ_SECONDS (a share that is gone, a failing disk) is `read_timeout`. No call
    can end it, so that it keeps its thread until the system gives up; while MAX_STALLED of them wait, further reads
    are rejected at once, and a folder on a dead share takes minutes and not days.
    """
    return Reading(path).content()


class Reading:
    """A file whose bytes are being read while something else is done: a path, or a call that reads what has none."""

    def __init__(self, source: Path | Callable[[], Content | PictureRejected]) -> None:
        call = source if callable(source) else partial(_read, source)
        self._task: threads.Task[Content | PictureRejected] | None = None
        _stalled[:] = [task for task in _stalled if not task.finished]
        if len(_stalled) >= MAX_STALLED:
            self._rejected = PictureRejected("read_timeout", f"not read: {MAX_STALLED} earlier reads haven't come back")
            return
        try:
            self._task = threads.begin(call, "edgecxr-read")
        except RuntimeError:
            self._rejected = PictureRejected("unreadable", "the file can't be read: no thread is to be had")

    def content(self) -> Content:
        """What was read, waited for READ_SECONDS at most; raises as `read_file`."""
        if self._task is None:
            raise self._rejected
        if not self._task.join(READ_SECONDS):
            _stalled.append(self._task)
            raise PictureRejected("read_timeout", f"the file couldn't be read within {READ_SECONDS:g} seconds")
        if isinstance(self._task.outcome, PictureRejected):
            raise self._task.outcome
        return self._task.outcome


_stalled: list[threads.Task[Content | PictureRejected]] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_stalled.clear)  # a child waits for none of its parent's reads


def _read(path: Path) -> Content | PictureRejected:
    """As `read_file`, without its limit in time."""
    try:
        # Looked at before it is opened: to open a device may start it (a watchdog, a tape).
        rejected = _unfit(path, path.stat())
        if rejected is not None:
            return rejected
        # O_NONBLOCK: to open a FIFO that took the file's place in between would wait for ever.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags)
        try:
            status = os.fstat(descriptor)
            rejected = _unfit(path, status)
            if rejected is not None:
                return rejected
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(status.st_size + 1)
        finally:
            os.close(descriptor)
    except (OSError, ValueError, MemoryError) as error:
        return PictureRejected("unreadable", f"the file can't be read: {_reason(error)}")
    if len(data) != status.st_size:
        return PictureRejected("unreadable", "the file changed its length while it was read")
    return Content(data, status.st_mtime_ns)


def _unfit(path: Path, status: os.stat_result) -> PictureRejected | None:
    """Why a file of this status isn't read, or None."""
    if stat.S_ISDIR(status.st_mode):
        try:
            os.scandir(path).close()
        except OSError as error:
            return PictureRejected("unreadable", f"the folder can't be listed: {_reason(error)}")
    if not stat.S_ISREG(status.st_mode):
        return PictureRejected("not_a_file", "not a regular file")
    return unfit_size(status.st_size)


def unfit_size(size: int) -> PictureRejected | None:
    """Why a file of so many bytes isn't taken, or None."""
    if size > MAX_BYTES:
        return PictureRejected("too_large", f"the file is larger than {MAX_BYTES >> 20} MiB")
    return PictureRejected("empty", "the file is empty") if size == 0 else None


def _reason(error: Exception) -> str:
    """The system's own words, without the name that it adds to them."""
    return getattr(error, "strerror", None) or (
        "not enough memory" if isinstance(error, MemoryError) else "invalid name"
    )
