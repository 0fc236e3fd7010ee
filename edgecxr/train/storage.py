"""Large files of a fit: room is looked for before the work, and a failed write is one sentence that loses nothing."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgecxr.errors import StorageError, UsageError


def make_room(folder: Path, size: int, what: str) -> None:
    """Make `folder` and raise StorageError where it hasn't `size` bytes free; UsageError where it can't be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UsageError(f"the folder can't be used ({error.strerror}): {folder}") from None
    if free < size:
        raise StorageError(f"{what} need {size / 1e9:.1f} GB, only {free / 1e9:.1f} GB are free: {folder}")


def failed(what: str, place: Path, error: OSError) -> StorageError:
    """The sentence for a write that failed."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return StorageError(f"{what} can't be written ({'no room left' if full else error.strerror or error}): {place}")


def save_arrays(file: Path, arrays: Mapping[str, Any]) -> None:
    """Write `arrays` as .npz beside `file`, to the disk, and rename: either the new file stands, or the old one.

    Raises StorageError.
    """
    partial = file.with_name(f"{file.name}.partial")
    try:
        with partial.open("wb") as opened:
            np.savez(opened, **arrays)
            opened.flush()
            os.fsync(opened.fileno())
        partial.replace(file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise failed("the checkpoint", file, error) from None
