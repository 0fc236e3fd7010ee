"""Where results may be written: checked before the work begins, so that nothing is lost at its end."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from edgecxr.errors import EdgecxrError, StorageError, UsageError
from edgecxr.journal import sync_folder

REPORT_SUFFIXES = (".json",)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def resolve(path: Path) -> Path:
    """The file that `path` stands for, through links; raises UsageError where they lead in a circle."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():
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
    try:
        with tempfile.TemporaryFile(dir=resolve(path).parent):
            pass
    except OSError as error:
        raise _not_written("output", path, error) from None


@contextmanager
def replacing(path: Path, scratch: Path, newline: str | None = "\n") -> Iterator[TextIO]:
    """A text file that takes the place of `path` at the end, whole or not at all; it is written as `scratch`.

    Raises OSError where that fails, and whatever is raised within; `path` is then as it was.
    """
    try:
        with scratch.open("w", newline=newline, encoding="utf-8", errors="surrogateescape") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_report(path: Path, report: object) -> None:
    """Write a report as JSON; raises UsageError where the place can't be written, StorageError where it is full.

    What was there stays then.
    """
    write_text(path, json.dumps(report, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a report as it is, its line ends too; raises what `write_report` does."""
    target = resolve(path)
    try:
        with replacing(target, target.with_name(f"{target.name}.tmp"), newline="") as file:
            file.write(text)
    except OSError as error:
        raise _not_written("report", path, error) from None


def _not_written(what: str, path: Path, error: OSError) -> EdgecxrError:
    kind = StorageError if error.errno in _FULL else UsageError
    return kind(f"the {what} can't be written ({error.strerror}): {path}")
