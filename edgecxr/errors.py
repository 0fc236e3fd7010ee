"""What can go wrong, as a tree; the number is the exit code of the command line.

    EdgecxrError
    ├── UsageError         2   the call can't be carried out as it was made: a missing folder, an output that exists
    │   └── DataError      2   labelled data that can't be used: an unknown label, an unreadable training picture
    ├── BundleError        3   a bundle is refused: a wrong hash, an unknown schema or preprocessing contract
    ├── UnavailableError   4   a device, an engine or an optional extra that isn't there
    │   └── DeviceMemoryError 4  a GPU whose memory doesn't suffice for a batch
    ├── GateError          5   a quality gate failed: an artifact strays from its reference
    │   └── DivergedError  5   a fit whose loss isn't finite
    ├── StorageError      70   what has to be kept can't be written: a full disk
    ├── Interrupted  130/143   stopped by Ctrl-C or SIGTERM with everything saved
    ├── ReaderLeft       141   nobody reads stdout any more, as `| head` leaves it
    ├── ResultRefused      1   one film's result can't be told as DICOM; its record is there all the same
    └── PictureRejected    -   one picture can't be scored; it becomes a `rejected` record and never ends a run

Every message is one sentence that says what was expected and ends with what was received.
"""

from __future__ import annotations


class EdgecxrError(Exception):
    """Base of every error that edgecxr raises on purpose."""

    exit_code = 70


class UsageError(EdgecxrError):
    """The call can't be carried out as it was made."""

    exit_code = 2


class DataError(UsageError):
    """Labelled data that can't be used for training or evaluation."""


class BundleError(EdgecxrError):
    """A bundle that is refused before an engine sees it."""

    exit_code = 3


class UnavailableError(EdgecxrError):
    """A device, an engine or an optional extra that isn't there."""

    exit_code = 4


class DeviceMemoryError(UnavailableError):
    """A GPU whose memory doesn't suffice for a batch."""


class GateError(EdgecxrError):
    """A quality gate failed."""

    exit_code = 5


class DivergedError(GateError):
    """A fit whose loss isn't finite any more."""


class StorageError(EdgecxrError):
    """What has to be kept can't be written, as on a full disk."""


class Interrupted(EdgecxrError):  # noqa: N818  no error, and the shell's exit code
    """Stopped by a signal, with everything saved that is needed to go on."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal


class ReaderLeft(EdgecxrError):  # noqa: N818  no error, and the shell's exit code of a process that SIGPIPE ended
    """Nobody reads stdout any more; nothing is said of it."""

    exit_code = 141


class ResultRefused(EdgecxrError):  # noqa: N818  as PictureRejected
    """One film whose result can't be told as DICOM; the message holds nothing from the film's metadata."""

    exit_code = 1


class PictureRejected(EdgecxrError):  # noqa: N818  the name of what happened, and of the status it leads to
    """One picture that can't be scored.

    `code` is a stable identifier such as `not_an_image`; `message` is one sentence that holds nothing from the
    picture's own metadata.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
