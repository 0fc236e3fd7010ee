"""Where results may be written, checked before the work; and how: whole or not at all, in the place of the old."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, TextIO

from edgecxr.errors import StorageError, UsageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def resolve(path: Path) -> Path:
    """The file that `path` stands for, through links; raises UsageError where they lead in a circle, or the name is
    too long."""
    target = Path(os.path.realpath(path))
    try:
        circle = target.is_symlink()
    except OSError as error:
        raise _not_written("output", path, error) from None
    if circle:
        raise UsageError(f"the output can't be written there, its links lead in a circle: {path}")
    return target


def check_output(path: Path, suffixes: Iterable[str], *, overwrite: bool, instead: str = "") -> None:
    """Raise UsageError where `path` has another ending, can't be a file, or exists and may not be replaced."""
    listed = tuple(suffixes)
    if path.suffix.lower() not in listed:
        raise UsageError(f"an output file of this kind ends in {', '.join(listed)}, got: {path}")
    target = resolve(path)
    if not target.parent.is_dir() or (target.exists() and not target.is_file()):
        raise UsageError(f"the output can't be written there, no such folder or not a file: {path}")
    if target.exists() and not overwrite:
        raise UsageError(f"the output exists; give {instead}--overwrite to replace it: {path}")


def check_writable(path: Path) -> None:
    """Raise UsageError, or StorageError on a full disk, where no file can be made beside `path`, as writing it does.

    By making one without a name: permission bits don't tell of a read-only disk, or of /proc.
    """
    target = resolve(path)
    try:
        with tempfile.TemporaryFile(dir=target.parent), suppress(FileNotFoundError):
            _beside(target).lstat()  # a name that is too long with its ending
    except OSError as error:
        raise _not_written("output", path, error) from None


def check_reports(paths: Sequence[Path], suffixes: Iterable[str], *, overwrite: bool) -> None:
    """Raise what `check_output` and `check_writable` do for any of `paths`, or UsageError where two are one file."""
    listed = tuple(suffixes)
    for path in paths:
        check_output(path, listed, overwrite=overwrite)
        check_writable(path)
    if len({resolve(path) for path in paths}) < len(paths):
        raise UsageError(f"each output needs a name of its own, got: {', '.join(map(str, paths))}")


@contextmanager
def replacing(path: Path, newline: str | None = "\n") -> Iterator[TextIO]:
    """A text file that takes the place of `path` at the end, whole or not at all, with the mode of what was there.

    Until then it lies beside it, under a name that nobody has. Raises OSError where that fails, and whatever is raised
    within; `path` is then as it was.
    """
    with (
        _taking_the_place(path) as scratch,
        scratch.open("w", newline=newline, encoding="utf-8", errors="surrogateescape") as file,
    ):
        yield file
        _sync(file)


@contextmanager
def replacing_bytes(path: Path, scratch: Path | None = None) -> Iterator[BinaryIO]:
    """The same of bytes. `scratch` is where it lies until then, in a folder that is edgecxr's own: what a kill leaves
    there gives way to the next."""
    with _taking_the_place(path, scratch) as beside, beside.open("wb") as file:
        yield file
        _sync(file)


@contextmanager
def replacing_folder(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """An empty folder that takes the place of `path` at the end, whole or not at all.

    Of what is there an empty folder gives way, with `overwrite` anything. Raises OSError where that fails, and whatever
    is raised within; `path` is then as it was.
    """
    partial, former = (path.with_name(f"{path.name}.{what}-{os.getpid()}") for what in ("partial", "former"))
    shutil.rmtree(partial, ignore_errors=True)  # of a process that had this number and was killed
    try:
        partial.mkdir()
        yield partial
        # A folder that holds something can't be replaced by a rename, so it steps aside for a moment.
        if overwrite and os.path.lexists(path):
            path.rename(former)
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        if former.exists() and not path.exists():
            former.rename(path)
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def write_new(path: Path, data: bytes) -> bool:
    """Write a file that isn't there yet, whole or not at all; False where one is, which stays as it is.

    Raises UsageError, or StorageError on a full disk. Its name is on the disk once `sync_folder` was called.
    """
    scratch = _beside(path)
    try:
        try:
            with os.fdopen(os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666), "wb") as file:
                file.write(data)
                _sync(file)
            return _named(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        raise _not_written("output", path, error) from None


def _named(scratch: Path, path: Path) -> bool:
    """Give `scratch` the name `path`, unless something has it; whether it did."""
    try:
        path.hardlink_to(scratch)  # fails where the name is taken, as a rename doesn't
    except FileExistsError:
        return False
    except OSError:  # a file system without links: between look and rename, another run may take the name
        if os.path.lexists(path):
            return False
        scratch.rename(path)
    return True


def take_the_place(scratch: Path, path: Path) -> None:
    """Rename `scratch` to `path`, for good, with the mode of what was there; raises OSError."""
    with suppress(OSError):  # nothing was there, or the file system knows no modes
        scratch.chmod(stat.S_IMODE(path.stat().st_mode))
    scratch.replace(path)
    sync_folder(path.parent)


def is_scratch(name: str, target: str) -> bool:
    """Whether a file of this name is what `replacing` a file called `target` makes, and a kill may leave."""
    return re.fullmatch(rf"{re.escape(target)}\.[0-9a-f]{{8}}\.tmp", name) is not None


@contextmanager
def _taking_the_place(path: Path, scratch: Path | None = None) -> Iterator[Path]:
    if scratch is None:
        scratch = _beside(path)
        os.close(os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield scratch
        take_the_place(scratch, path)
    except BaseException:
        with suppress(OSError):
            scratch.unlink()
        raise


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


def json_text(report: object) -> str:
    """A report as a JSON file's content, in ASCII: a name that isn't UTF-8 stands there as escaped surrogates."""
    return json.dumps(report, indent=2) + "\n"


def write_reports(contents: Iterable[tuple[Path, str | bytes]]) -> None:
    """Write every file that can be, each whole or not at all; what was there stays where it can't.

    A folder that is missing is made, but not those above it. Text is written with its own line ends; what UTF-8 doesn't
    have, as in a name that isn't, stands there as on a terminal: \\udce9. Raises one error with the files that couldn't
    be written: StorageError if a disk is full, else UsageError.
    """
    failed: list[StorageError | UsageError] = []
    for path, content in contents:
        target = resolve(path)
        try:
            target.parent.mkdir(exist_ok=True)
            with replacing_bytes(target) as file:
                file.write(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)
        except OSError as error:
            failed.append(_not_written("report", path, error))
    if failed:
        kind = StorageError if any(isinstance(error, StorageError) for error in failed) else UsageError
        raise kind("; ".join(map(str, failed)))


def _not_written(what: str, path: Path, error: OSError) -> StorageError | UsageError:
    kind = StorageError if error.errno in FULL else UsageError
    return kind(f"the {what} can't be written ({error.strerror}): {path}")


def sync_folder(folder: Path) -> None:
    """Have the names in `folder` on the disk, where the system can do that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # some file systems can't
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
