"""Frames that native libraries decode: in a process of their own, long-lived, with limits on its time and memory.

JPEG lossless and extended, JPEG-LS, JPEG 2000, HTJ2K and RLE are decoded by imagecodecs, which brings libjpeg-turbo,
CharLS, OpenJPEG and OpenJPH. A memory error in one of them ends that process, and is one record; the next frame gets a
new one. Started by `python -m`: a fork would copy the threads' locks of the program that embeds this.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from edgecxr.errors import PictureRejected

MODULE: Final = "edgecxr.pictures.dicom.child"
START_SECONDS = 60.0  # for the process to be there; half a second here, and a Raspberry Pi's card is slow
SECONDS = 20.0  # for a frame, and for each of its megapixels:
SECONDS_A_MEGAPIXEL = 5.0  # JPEG 2000, the slowest, takes 0.4 here of noise alone, and a small device five times that
MEMORY = 64 << 20  # bytes for a frame, and for each of its pixels:
MEMORY_A_PIXEL = 16  # OpenJPEG, the largest, did with 4 here

CODECS: Final = {"rle": 1, "jpeg": 2, "jpeg-ls": 3, "jpeg-2000": 4, "htj2k": 5}
REQUEST: Final = struct.Struct("<BQIIQ")  # codec, bytes of the frame, rows, columns, bytes of memory; then the frame
ANSWER: Final = struct.Struct("<B?Q2s")  # how it went, whether memory is limited, bytes and dtype; then samples
OK, UNREADABLE = 0, 1


def available() -> bool:
    """Whether the extra `dicom` is installed."""
    return find_spec("imagecodecs") is not None


def decode(codec: str, frame: bytes, rows: int, columns: int) -> tuple[npt.NDArray[np.generic], bool]:
    """Samples (rows, columns) of integers, and whether the decoder's memory was limited.

    `codec` is one of CODECS. Raises PictureRejected: `corrupt` where the frame can't be decoded, `decoder_failed` where
    the process ended or was ended.
    """
    seconds = SECONDS + SECONDS_A_MEGAPIXEL * rows * columns / 1e6
    request = REQUEST.pack(CODECS[codec], len(frame), rows, columns, MEMORY + MEMORY_A_PIXEL * rows * columns)
    child = _take()
    try:
        kind, content = child.ask(request, frame, seconds, 4 * rows * columns)
        samples = np.frombuffer(content, _KINDS[kind]).reshape(rows, columns) if kind else None
    except (OSError, EOFError, ValueError, KeyError, struct.error):
        reason = f"took longer than {seconds:.0f} seconds" if child.late else "ended before it was done"
        child.end()
        raise PictureRejected("decoder_failed", f"the decoder of the compressed picture {reason}") from None
    except BaseException:
        child.end()
        raise
    _idle.setdefault(os.getpid(), []).append(child)
    if samples is None:
        raise PictureRejected("corrupt", "the compressed picture is damaged or truncated")
    return samples, child.limited


# What a process may answer: it is no more to be relied on than the frame that it decoded.
_KINDS = {kind: np.dtype(f"<{kind.decode()}") for kind in (b"u1", b"u2", b"u4", b"i1", b"i2", b"i4")}


class _Child:
    """A decoding process and the pipes to it; for one thread at a time."""

    def __init__(self) -> None:
        # As this program finds its modules, so does the child; and in the working directory (-P) neither does.
        package = str(Path(__file__).parents[3])
        paths = [package, *(path for path in sys.path if path and path != package)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"}
        self.late = self.limited = False
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    def start(self) -> None:
        """Wait until it is there; raises OSError or EOFError where it isn't."""
        with self._within(START_SECONDS):
            _, self.limited, _, _ = self._answer()

    def ask(self, request: bytes, frame: bytes, seconds: float, most: int) -> tuple[bytes, bytes]:
        """(dtype, samples) of a frame, empty where it can't be decoded; raises OSError, EOFError or ValueError."""
        requests = self._process.stdin
        assert requests is not None
        with self._within(seconds):
            requests.write(request)
            requests.write(frame)
            requests.flush()
            how, _, size, kind = self._answer()
            if size > most:
                raise ValueError(size)
            return (kind, self._read(size)) if how == OK else (b"", b"")

    def end(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self._process.wait()

    def _answer(self) -> tuple[int, bool, int, bytes]:
        how, limited, size, kind = ANSWER.unpack(self._read(ANSWER.size))
        return how, limited, size, kind

    def _read(self, size: int) -> bytes:
        answers = self._process.stdout
        assert answers is not None
        content = answers.read(size)
        if len(content) < size:
            raise EOFError
        return content

    @contextlib.contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        """Kills the process where it takes longer, so that reading from it comes to an end."""

        def kill() -> None:
            self.late = True
            self._process.kill()

        clock = threading.Timer(seconds, kill)
        clock.daemon = True
        clock.start()
        try:
            yield
        finally:
            clock.cancel()


# By process: what a fork has copied belongs to the program that it was copied from.
_idle: dict[int, list[_Child]] = {}


def _take() -> _Child:
    """One that waits for work, or a new one; there are never more than threads that decode at a time."""
    with contextlib.suppress(KeyError, IndexError):
        return _idle[os.getpid()].pop()
    try:
        child = _Child()
    except OSError:
        raise _not_started() from None
    try:
        child.start()
    except (OSError, EOFError, struct.error):
        child.end()
        raise _not_started() from None
    return child


def _not_started() -> PictureRejected:
    return PictureRejected("decoder_failed", "the process that decodes compressed pictures doesn't start")


@atexit.register
def end() -> None:
    """End every process that waits for work."""
    for child in _idle.pop(os.getpid(), []):
        child.end()
