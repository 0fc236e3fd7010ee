"""Films on disk, from before a sender is told that they are kept: each a folder of its own, named by a hash.

    films/NAME/      waits to be scored or sent; NAME is the SHA-256 of the film's SOP Instance UID
        film.dcm     as it was received
        journal.jsonl
        RESULT.dcm   named by the SHA-256 of its SOP Instance UID
    done/NAME/       has its answer, and every target has its results; removed by age, or where the disk gets full
    failed/NAME/     was given up; stays until somebody takes it up again or away
    incoming/        what a kill left half received; emptied at each start

A folder changes its place by one rename, and its journal says where it belongs: a rename that a power cut takes back is
made again. Everything is synced before the sender hears of it, and nothing that waits or failed is ever removed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgecxr.clinic import journal
from edgecxr.clinic.journal import History
from edgecxr.errors import StorageError, UsageError
from edgecxr.system import locks
from edgecxr.system.storage import sync_folder

log = logging.getLogger(__name__)  # names no picture: films are called by the beginning of their hash

FILM, JOURNAL, REQUEUE = "film.dcm", "journal.jsonl", "requeue"
PLACES = ("films", "done", "failed")
DAY = 86400.0

Receipt = Literal["new", "same", "other"]


@dataclass(frozen=True)
class Room:
    """What the spool may take of a disk."""

    keep_days: float = 3.0  # a film that is done
    free_bytes: int = 1 << 30  # that stay free: films are refused before, those that are done removed at twice it


class Entry:
    """A film in the spool; for one thread at a time, by its lock."""

    def __init__(self, folder: Path, history: History) -> None:
        self.folder, self.history, self.lock = folder, history, threading.RLock()
        self.begun = False  # whether this process has noted that it scores the film

    @property
    def name(self) -> str:
        """What a log calls it."""
        return self.folder.name[:12]

    @property
    def film(self) -> Path:
        return self.folder / FILM

    def result(self, uid: str) -> Path:
        return self.folder / f"{named(uid)}.dcm"

    def note(self, event: str, *, sync: bool = False, **facts: Any) -> None:
        """Add a line to its journal; raises OSError where it can't be kept."""
        with self.lock:
            journal.append(self.folder / JOURNAL, self.history, event, sync=sync, **facts)


class Spool:
    """A folder of films, held by one process. Raises StorageError or OSError where something can't be kept."""

    def __init__(self, folder: Path, room: Room = Room()) -> None:
        self.folder, self.room = folder, room
        self._moving = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[Spool]:
        """Make the folder where it is absent, for its owner alone, and hold it; raises UsageError where it isn't to be
        had."""
        with ExitStack() as stack:
            try:
                self._make()
                ours = stack.enter_context(locks.folder(self.folder))
                for left in (self.folder / "incoming").iterdir() if ours else ():
                    shutil.rmtree(left)
            except OSError as error:
                raise _unusable(self.folder, error) from None
            if not ours:
                raise UsageError(f"another node holds this spool: {self.folder}")
            yield self

    def _make(self) -> None:
        made = (self.folder / "films").is_dir()
        if not made and self.folder.exists() and any(self.folder.iterdir()):
            raise UsageError(f"a spool is a folder of its own, and this one holds something else: {self.folder}")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        for place in ("incoming", *PLACES):
            (self.folder / place).mkdir(mode=0o700, exist_ok=True)
        sync_folder(self.folder)

    def left(self) -> Iterator[Entry]:
        """What an earlier process left to do, in the order in which it was received."""
        found = [Path(entry.path) for entry in os.scandir(self.folder / "films")]
        for folder in sorted(found, key=_received):
            try:
                yield Entry(folder, journal.repair(folder / JOURNAL))
            except (OSError, ValueError):
                log.error("film %s has no readable journal, and is set aside", folder.name[:12])
                self._move(folder, "failed")

    def receive(self, uid: str, data: bytes, digest: str, caller: str) -> tuple[Receipt, Entry | None]:
        """Keep a film: it is on the disk when this returns, `new`, or was already: the `same` by its `digest`, or
        another one under its UID (`other`), which is not kept.

        Raises OSError, or StorageError where too little of the disk is free.
        """
        name = named(uid)
        if (receipt := self._known(name, digest)) is not None:
            return receipt, None
        if shutil.disk_usage(self.folder).free - len(data) < self.room.free_bytes:
            raise StorageError(f"less than {self.room.free_bytes} bytes of the disk would stay free: {self.folder}")
        scratch, place = self.folder / "incoming" / secrets.token_hex(8), self.folder / "films" / name
        scratch.mkdir(mode=0o700)
        try:
            write(scratch / FILM, data)
            history = History()
            facts = {"uid": uid, "digest": digest, "bytes": len(data), "caller": caller}
            journal.append(scratch / JOURNAL, history, "received", sync=True, **facts)
            sync_folder(scratch)
            with self._moving:
                known = self._known(name, digest)  # of another connection, meanwhile
                if known is None:
                    scratch.rename(place)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        if known is not None:
            shutil.rmtree(scratch, ignore_errors=True)
            return known, None
        sync_folder(self.folder / "films")
        return "new", Entry(place, history)

    def _known(self, name: str, digest: str) -> Receipt | None:
        for place in (*PLACES, *PLACES):  # twice: it may be moved while it is looked for
            path = self.folder / place / name / JOURNAL
            with suppress(FileNotFoundError):
                history, _ = journal.read(path)
                sync_folder(self.folder / place)  # whoever received it first may not have come so far
                return "same" if history.digest == digest else "other"
        return None

    def settle(self, entry: Entry) -> None:
        """Put a film that is done, or failed, where it belongs."""
        with entry.lock:
            stage = entry.history.stage
            if stage in ("done", "failed") and entry.folder.parent.name != stage:
                entry.folder = self._move(entry.folder, stage)

    def _move(self, folder: Path, place: str) -> Path:
        target = self.folder / place / folder.name
        with self._moving:
            folder.rename(target)
        return target

    def taken_up(self, targets: tuple[str, ...]) -> Iterator[Entry]:
        """What was given up and is wanted again, where `request_requeue` was called."""
        marker = self.folder / REQUEUE
        if not marker.exists():
            return
        for folder in sorted((self.folder / "failed").iterdir()):
            try:
                entry = Entry(folder, journal.repair(folder / JOURNAL))
            except (OSError, ValueError):
                log.error("film %s has no readable journal, and stays under failed", folder.name[:12])
                continue
            entry.note("requeued", sync=True, targets=targets)
            entry.folder = self._move(folder, "films")
            yield entry
        sync_folder(self.folder / "films")
        marker.unlink(missing_ok=True)

    def clean(self) -> int:
        """Remove films that are done: those that are old, and the oldest while little of the disk is free."""
        found = []
        for folder in (self.folder / "done").iterdir():
            with suppress(OSError):
                found.append(((folder / JOURNAL).stat().st_mtime, folder))
        removed = 0
        for since, folder in sorted(found):
            full = shutil.disk_usage(self.folder).free < 2 * self.room.free_bytes
            if not full and time.time() - since < self.room.keep_days * DAY:
                break
            with self._moving:  # under another name first: a film is there as a whole or not at all
                gone = folder.rename(self.folder / "incoming" / f"{secrets.token_hex(8)}.gone")
            shutil.rmtree(gone, ignore_errors=True)
            removed += 1
        return removed


def _received(folder: Path) -> float:
    try:
        return (folder / FILM).stat().st_mtime
    except OSError:
        return 0.0


def named(uid: str) -> str:
    """The name of what has this UID: whatever somebody writes as one, it names no other place."""
    return hashlib.sha256(uid.encode("utf-8", "surrogatepass")).hexdigest()


def write(path: Path, data: bytes) -> None:
    """Write a file that its owner alone may read, and have it on the disk; raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def request_requeue(folder: Path) -> int:
    """Have the node that holds the spool, now or next, try again what was given up; how many films that are."""
    _check(folder)
    try:
        failed = len(list((folder / "failed").iterdir()))
        if failed:
            write(folder / REQUEUE, b"")
    except OSError as error:
        raise _unusable(folder, error) from None
    return failed


def status(folder: Path) -> dict[str, Any]:
    """The queue in numbers, as `journal.add_up` has them, and the disk's; reads only."""
    _check(folder)
    histories: dict[str, History | None] = {}  # by name: one may go on to its next place meanwhile
    try:
        for place in PLACES:
            for entry in list(os.scandir(folder / place)):
                with suppress(FileNotFoundError):
                    histories[entry.name] = _readable(Path(entry.path) / JOURNAL)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise _unusable(folder, error) from None
    found = journal.add_up(history for history in histories.values() if history is not None)
    return {
        "schema": 1,
        **found,
        "unreadable": sum(history is None for history in histories.values()),
        "disk_free_bytes": free,
    }


def _readable(path: Path) -> History | None:
    try:
        return journal.read(path)[0]
    except ValueError:
        return None


def _unusable(folder: Path, error: OSError) -> UsageError:
    return UsageError(f"the spool can't be used ({error.strerror}): {folder}")


def _check(folder: Path) -> None:
    if not (folder / "films").is_dir():
        raise UsageError(f"no spool of a node: {folder}")
