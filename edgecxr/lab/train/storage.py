"""Large files of a fit: room is looked for before the work, and a failed write is one sentence that loses nothing."""

from __future__ import annotations

import contextlib
import glob
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

try:
    import fcntl
except ImportError:  # Windows: what a killed run left stays there
    fcntl = None  # type: ignore[assignment]

from edgecxr.errors import StorageError, UsageError
from edgecxr.system.storage import FULL, replacing_bytes

PARTIAL = ".partial"  # a file that is being written, or that a killed run left


def make_room(folder: Path, size: int, what: str, hint: str = "") -> None:
    """Make `folder` and raise StorageError where it hasn't `size` bytes free; UsageError where it can't be made.

    The sentence ends with `hint`, which says how to need less.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UsageError(f"the folder can't be used ({error.strerror}): {folder}") from None
    if free < size:
        raise StorageError(f"{what} need {size / 1e9:.1f} GB, only {free / 1e9:.1f} GB are free: {folder}{hint}")


def check_place(folder: Path, size: int, what: str) -> None:
    """Raise before the work where `folder`, absent or not, can't be written to, or hasn't `size` bytes of room.

    Raises UsageError for the first, StorageError for the second. Nothing is left there.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place) as probe:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(probe.fileno(), 0, size)
    except OSError as error:
        if error.errno in FULL:
            raise StorageError(f"{what} need {size / 1e9:.1f} GB, and there is no room for them: {folder}") from None
        raise UsageError(f"the folder can't be written to ({error.strerror}): {folder}") from None


def check_room(file: Path, size: int, what: str) -> None:
    """Raise StorageError where `file` can't grow to `size` bytes: for a full disk, a quota, or a limit of the process.

    For writers that a failed write leaves in ruins, as it does HDF5 (the process ends in a segmentation fault).
    """
    make_room(file.parent, size, what)
    if not hasattr(os, "posix_fallocate"):
        return
    probe = file.with_name(f"{file.name}{PARTIAL}")
    try:
        with probe.open("wb") as opened:
            os.posix_fallocate(opened.fileno(), 0, size)
    except OSError as error:
        raise failed(what, file, error) from None
    finally:
        probe.unlink(missing_ok=True)


def failed(what: str, place: Path, error: OSError | RuntimeError) -> StorageError:
    """The sentence for a write that failed; HDF5 raises a RuntimeError where closing a file fails."""
    if isinstance(error, OSError) and error.errno is not None:
        full, reason = error.errno in FULL, error.strerror or str(error)
    else:
        full, reason = any(f"errno = {number}," in str(error) for number in FULL), str(error)
    return StorageError(f"{what} can't be written ({'no room left' if full else reason}): {place}")


def save_arrays(file: Path, arrays: Mapping[str, Any]) -> None:
    """Write `arrays` as .npz beside `file`, to the disk, and rename: either the new file stands, or the old one.

    Raises StorageError.
    """
    try:
        with replacing_bytes(file, file.with_name(f"{file.name}{PARTIAL}")) as opened:
            np.savez(opened, **arrays)
    except OSError as error:
        raise failed("the checkpoint", file, error) from None


def save_text(file: Path, text: str, what: str) -> None:
    """Write ASCII `text` beside `file` and rename: either the new file stands, or the old one. Raises StorageError."""
    partial = file.with_name(f"{file.name}.{os.getpid()}{PARTIAL}")
    try:
        partial.write_text(text, encoding="ascii")
        partial.replace(file)
    except OSError as error:
        raise failed(what, file.parent, error) from None
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def new_array(
    file: Path,
    dtype: npt.DTypeLike,
    shape: tuple[int, ...],
    what: str,
    hint: str = "",
    *,
    target: Callable[[], Path] | None = None,
) -> Iterator[npt.NDArray[Any]]:
    """A memory-mapped array to fill; `file` (.npy) stands once the block has ended, and not if it fails.

    Where only what was filled in says how it is called, `target` is asked for that at the end. Several processes may do
    this at once; what killed ones left is removed. Raises StorageError.
    """
    make_room(file.parent, math.prod(shape) * np.dtype(dtype).itemsize, what, hint)
    partial = file.with_name(f"{file.name}.{os.getpid()}{PARTIAL}")
    _remove_abandoned(file)
    try:
        with partial.open("wb") as held:
            _lock(held.fileno())
            array = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
            # Writing through a map into a hole ends in SIGBUS where the disk is full: take the room now.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(held.fileno(), 0, partial.stat().st_size)
            yield array
            array.flush()
            partial.replace(target() if target else file)
    except OSError as error:
        raise failed(what, file.parent, error) from None
    finally:
        partial.unlink(missing_ok=True)


def _remove_abandoned(file: Path) -> None:
    """Remove partial files of `file` whose writer is gone: nobody holds their lock."""
    if fcntl is None:
        return
    for partial in file.parent.glob(f"{glob.escape(file.name)}.*{PARTIAL}"):
        with contextlib.suppress(OSError), partial.open("rb") as left:
            _lock(left.fileno())
            partial.unlink()


def _lock(descriptor: int) -> None:
    """Raises OSError where another process holds the lock."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
