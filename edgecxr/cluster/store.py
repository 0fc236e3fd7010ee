"""Files behind pyarrow's file systems (S3, GCS, HDFS, ABFS): listed, and read once in bounded time, or why not."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from edgecxr.errors import PictureRejected, UnavailableError, UsageError
from edgecxr.pictures import files

NEEDED = "this needs the extra 'ray'; run: pip install 'edgecxr[cpu,ray]' ({})"
AHEAD = 8  # reads in hand at a time: a store takes tens of milliseconds to answer, a picture not much more to score
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://", re.ASCII)
# What a store says, without the name that it adds: AWS's word, and the system's.
_REASONS = (re.compile(r"AWS Error (\w+)"), re.compile(r"(?i)detail: \[errno \d+\] ([^.\n]+)"))


class Listed(NamedTuple):
    """A file as a listing has it."""

    path: str
    bytes: int | None = None  # None of a local file: whoever reads it looks
    mtime_ns: int | None = None


def is_address(text: str) -> bool:
    """Whether `text` names something behind a file system of pyarrow's, and not a local path."""
    return _ADDRESS.match(text) is not None


def shown(address: str) -> str:
    """An address as it may be printed and kept: without a user, a password and options, which may be secrets."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class Store:
    """What an address leads to. Raises UsageError where pyarrow can't, UnavailableError without pyarrow."""

    def __init__(self, address: str) -> None:
        try:
            import pyarrow
            from pyarrow import fs
        except ImportError as error:
            raise UnavailableError(NEEDED.format(error)) from None
        self.address = address
        try:
            self._files, self._root = fs.FileSystem.from_uri(address)
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise UsageError(
                f"expected an address that pyarrow reads, s3://bucket/prefix or the like ({reason(error)}), got: "
                f"{shown(address)}"
            ) from None
        # What stands before a path within the file system makes an address of it again.
        whole, self._root = unquote(shown(address)).rstrip("/"), self._root.rstrip("/")
        before = whole.removesuffix(self._root) if whole.endswith(self._root) else f"{urlsplit(address).scheme}://"
        self._before, self._whole = before, before + self._root

    def list(self, *, recursive: bool = True) -> Iterator[Listed | None]:
        """Every file under the address in the order that `files.find` has; None for each that is passed over.

        Folders under the first are listed one after another, each in one go: memory is that of the largest. Raises
        UsageError where there is nothing, or it can't be listed.
        """
        import pyarrow
        from pyarrow import fs

        try:
            first = self._files.get_file_info(self._root)
            if first.type == fs.FileType.File:
                yield self._listed(first)
                return
            if first.type == fs.FileType.NotFound:
                raise UsageError(f"no such file or folder: {shown(self.address)}")
            top = self._files.get_file_info(fs.FileSelector(self._root))
            for entry in sorted(top, key=_order):
                if entry.type == fs.FileType.File:
                    yield self._listed(entry)
                elif recursive and entry.type == fs.FileType.Directory:
                    below = self._files.get_file_info(fs.FileSelector(entry.path, recursive=True))
                    below.sort(key=_order)
                    for file in below:
                        if file.type == fs.FileType.File:
                            yield self._listed(file)
        except (pyarrow.ArrowException, OSError) as error:
            raise UsageError(f"it can't be listed ({reason(error)}): {shown(self.address)}") from None

    def _listed(self, info: Any) -> Listed | None:
        if info.base_name in files.SKIPPED_NAMES:
            return None
        return Listed(self._before + info.path, info.size, info.mtime_ns)

    def holds(self, listed: Listed) -> bool:
        """Whether this is the store of a file that some store has listed."""
        return listed.path == self._whole or listed.path.startswith(f"{self._whole}/")

    def read(self, listed: Listed) -> files.Content | PictureRejected:
        """A listed file's bytes, read once, or why there are none; without a limit in time."""
        import pyarrow

        path = listed.path.removeprefix(self._before)
        try:
            with self._files.open_input_file(path) as file:
                size = file.size()
                if size > files.MAX_BYTES:
                    return PictureRejected("too_large", f"the file is larger than {files.MAX_BYTES >> 20} MiB")
                data = file.read(size)
            # The time is the listing's; of a file that is another since then, what it is now.
            mtime_ns = listed.mtime_ns if size == listed.bytes else self._files.get_file_info(path).mtime_ns
        except (pyarrow.ArrowException, OSError, MemoryError) as error:
            return PictureRejected("unreadable", f"the file can't be read: {reason(error)}")
        if len(data) != size:
            return PictureRejected("unreadable", "the file changed its length while it was read")
        if not data:
            return PictureRejected("empty", "the file is empty")
        return files.Content(data, mtime_ns or 0)

    def readings(self, listed: Iterable[Listed]) -> Iterator[files.Reading]:
        """Files that are being read, in order, AHEAD of them at a time."""
        begun: deque[files.Reading] = deque()
        for file in listed:
            begun.append(files.Reading(partial(self.read, file)))
            if len(begun) == AHEAD:
                yield begun.popleft()
        yield from begun


def _order(info: Any) -> list[str]:
    """By the names of its folders and its own, as a walk that goes into each folder has them."""
    return str(info.path).split("/")


def reason(error: BaseException) -> str:
    """What a file system says, in a few words, without the names that it adds to them."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    for pattern in _REASONS:
        if found := pattern.search(str(error)):
            return found[1]
    if isinstance(error, FileNotFoundError):
        return "No such file or directory"
    return getattr(error, "strerror", None) or type(error).__name__
