"""Standard streams as devices have them: closed, full, non-blocking, unbuffered, or left by whoever read them.

What is written to stdout arrives, all of it, or ends the command; what is written to stderr arrives where it can, and
never decides how a command ends. Nothing is kept in Python's own buffers, whose flush at the end would fail past us.
"""

from __future__ import annotations

import io
import os
import select
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from edgecxr.errors import EdgecxrError, ReaderLeft, StorageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDIN, STDOUT, STDERR = range(3)
STUCK_SECONDS = 1.0  # how long a stderr that takes nothing is waited for, once


def prepare() -> None:
    """Make this process's standard streams such as the above says; once, before anything else is opened.

    A descriptor that is closed is opened on the null device, so that no other file becomes it.
    """
    _occupy()
    if sys.stdin is None:
        sys.stdin = open(STDIN, closefd=False)  # noqa: SIM115  for as long as the process lives
    # What somebody has put in their place (a test, a notebook) is theirs.
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(sys.stdout, _Stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(sys.stderr, _Stderr)


def check_stdout() -> None:
    """Raise StorageError where there is no stdout at all: for results that nobody could have from anywhere else."""
    if isinstance(sys.stdout, io.TextIOWrapper) and type(sys.stdout.buffer) is _Absent:
        raise StorageError("records are to be written to stdout, and there is none: it is closed")


def read_stdin(size: int) -> bytes:
    """The next bytes of stdin, at most `size`, waited for; b"" at its end. Raises EdgecxrError where that fails."""
    while True:
        try:
            return os.read(STDIN, size)
        except BlockingIOError:
            _wait(STDIN)
        except OSError as error:
            raise EdgecxrError(f"paths are read from stdin, and it can't be read ({error.strerror})") from None


def _occupy() -> None:
    """Open the null device as each of the descriptors 0 to 2 that is closed."""
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest that is free
        if descriptor > STDERR:
            os.close(descriptor)
            return
        os.set_inheritable(descriptor, True)  # as standard streams are


def _text(stream: TextIO | None, kind: type[_Whole]) -> io.TextIOWrapper:
    """A text stream that holds nothing back, over the descriptor of `stream`, in its encoding.

    A terminal or pipe of another encoding gets a substitute for what it can't show, and not a crash.
    """
    if not isinstance(stream, io.TextIOWrapper):
        return io.TextIOWrapper(_Absent(), encoding="utf-8", errors="backslashreplace", write_through=True)
    stream.flush()
    raw: Any = getattr(stream.buffer, "raw", stream.buffer)  # without a buffer where Python was told to be unbuffered
    return io.TextIOWrapper(kind(raw), encoding=stream.encoding, errors="backslashreplace", write_through=True)


class _Absent(io.RawIOBase):
    """A stream that isn't there: what is written is dropped, as Python's own `print` does then."""

    name = "standard stream"

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        return memoryview(data).nbytes


class _Whole(_Absent):
    """A stream of which each write is whole, though the descriptor below takes only a part, or nothing for now."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()

    def write(self, data: ReadableBuffer, /) -> int:
        rest = memoryview(data).cast("B")
        size = rest.nbytes
        try:
            while rest:
                written = self._raw.write(rest)
                if written is None:  # it doesn't block, and is full
                    if not self.wait():
                        break
                else:
                    rest = rest[written:]
        except OSError as error:
            self.fail(error)
        return size

    def wait(self) -> bool:
        """Wait until there is room; False where the rest is to be dropped."""
        raise NotImplementedError

    def fail(self, error: OSError) -> None:
        """What follows from an error of the system."""
        raise NotImplementedError


class _Stdout(_Whole):
    def wait(self) -> bool:
        _wait(self.fileno())
        return True

    def fail(self, error: OSError) -> None:
        if isinstance(error, BrokenPipeError):
            raise ReaderLeft from None
        raise StorageError(f"the output can't be written to stdout ({error.strerror})") from None


class _Stderr(_Whole):
    _stuck = False

    def wait(self) -> bool:
        # Once and not for every line: a bar that nobody reads mustn't slow the work down.
        ready = _wait(self.fileno(), 0 if self._stuck else STUCK_SECONDS)
        self._stuck = not ready
        return ready

    def fail(self, error: OSError) -> None:
        pass


def _wait(descriptor: int, seconds: float | None = None) -> bool:
    """Whether a descriptor that doesn't block is ready, which is waited for `seconds` at most (None: for ever)."""
    if not hasattr(select, "poll"):  # Windows
        time.sleep(0.01)
        return seconds is None
    poll = select.poll()
    poll.register(descriptor, select.POLLIN if descriptor == STDIN else select.POLLOUT)
    return bool(poll.poll(None if seconds is None else 1000 * seconds))
