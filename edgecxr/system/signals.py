"""Being told to stop: remember it, finish what is in hand, then leave with the shell's exit code."""

import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from edgecxr.errors import Interrupted


class StopOnSignal:
    """While entered, SIGINT and SIGTERM are remembered; the run finishes the batches in hand and ends.

    `wake` is called from within the handler, for a loop that waits for something else: it may do no more than what a
    handler may.
    """

    signal: int | None = None

    def __init__(self, wake: Callable[[], object] = lambda: None) -> None:
        self._wake = wake

    def __enter__(self) -> "StopOnSignal":
        self._before = {number: signal.signal(number, self._remember) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self._wake()

    def check(self, when: str, folder: Path) -> Callable[[], None]:
        """A function that raises Interrupted once a signal has come, for work that the next call begins again.

        `when` says what was being done, `folder` is the run's.
        """

        def raise_if_told() -> None:
            if self.signal is not None:
                raise Interrupted(f"stopped {when}; the same call with --resume goes on: {folder}", self.signal)

        return raise_if_told

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
