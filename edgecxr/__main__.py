"""`edgecxr` and `python -m edgecxr`."""

import signal
import sys
from types import FrameType


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def main() -> None:
    """Entry point of the console script."""
    # Before anything slow is imported: Ctrl-C where nothing is in hand yet ends with the shell's code and no traceback.
    # What has something in hand (scoring, training) takes signals itself, see `signals`. An ignored signal, as under
    # nohup, stays ignored.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    # And before anything opens a file, which would become a standard stream that is closed.
    from edgecxr.system import streams

    streams.prepare()
    from edgecxr.cli import main as run

    run()


if __name__ == "__main__":
    main()
