"""The node as a whole: what an earlier one left is taken up, films come in, are scored and told, until it is drained.

    Listener -> Spool -> scoring threads -> Spool -> a Sender for each target -> done/ or failed/

Each arrow is a file that was synced: a kill between any two loses nothing, and the next start goes on.
"""

from __future__ import annotations

import logging
import queue
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edgecxr.clinic import score
from edgecxr.clinic.node import Address, Listener
from edgecxr.clinic.send import Patience, Sender, Target
from edgecxr.clinic.spool import Entry, Spool
from edgecxr.errors import UsageError
from edgecxr.scoring.session import Session

log = logging.getLogger(__name__)  # names no picture

CLEAN_SECONDS = 60.0  # between looks at what is old, and at the disk
LOOK_SECONDS = 1.0  # between looks for what is wanted again
DISK_SECONDS = 10.0  # before a film is tried again whose results couldn't be kept
DRAIN_SECONDS = 5.0  # for connections that are open


@dataclass(frozen=True)
class Settings:
    """What a node does with films."""

    address: Address = field(default_factory=Address)
    targets: tuple[Target, ...] = ()
    patience: Patience = field(default_factory=Patience)
    heat_map: bool = False
    send_tls: ssl.SSLContext | None = None  # by which results go out


class Node:
    """A running node; `close` it. Raises UsageError where it can't begin."""

    def __init__(self, session: Session, spool: Spool, settings: Settings) -> None:
        if not session.bundle.preprocessing.reads_dicom:
            raise UsageError(f"a node needs a bundle of contract version 2, got: {session.bundle.path}")
        self._session, self._spool, self._settings = session, spool, settings
        self._targets = tuple(map(str, settings.targets))
        self._to_score: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        own, patience, tls = settings.address.aet, settings.patience, settings.send_tls
        self._senders = [Sender(own, target, patience, spool.settle, tls) for target in settings.targets]
        for entry in sorted(spool.left(), key=lambda entry: entry.history.attempts):  # what may end it once more, last
            self._go_on(entry)
        self._workers = [
            threading.Thread(target=self._score, name=f"edgecxr-{number}", daemon=True)
            for number in range(session.plan.workers + 1)  # one keeps its results while the others score
        ]
        for worker in self._workers:
            worker.start()
        try:
            self._listener = Listener(settings.address, spool, self._to_score.put)
        except BaseException:
            self._end_work()
            raise

    @property
    def port(self) -> int:
        return self._listener.port

    def keep_going(self, stopped: Callable[[float], bool]) -> None:
        """Look after the spool until `stopped(seconds)`, which waits so long, is true; raises what ended a worker."""
        cleaned = time.monotonic() - CLEAN_SECONDS
        while not stopped(LOOK_SECONDS) and self._failure is None:
            try:
                for entry in self._spool.taken_up(self._targets):
                    self._go_on(entry)
                if time.monotonic() - cleaned >= CLEAN_SECONDS:
                    cleaned = time.monotonic()
                    if removed := self._spool.clean():
                        log.info("%d films that were done are removed from the spool", removed)
            except OSError as error:
                log.error("the spool can't be looked after: %s", error.strerror)
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Take no more, and finish what is in hand; everything else is in the spool, for the next start."""
        self._stopping.set()
        self._listener.close(DRAIN_SECONDS)
        self._end_work()

    def _end_work(self) -> None:
        self._stopping.set()
        for _ in self._workers:
            self._to_score.put(None)
        for worker in self._workers:
            worker.join()
        for sender in self._senders:
            sender.close(self._settings.patience.answer_seconds)

    def _go_on(self, entry: Entry) -> None:
        """Take a film from where it stands."""
        stage = entry.history.stage
        if stage == "received":
            self._to_score.put(entry)
        elif stage == "scored":
            self._send(entry)
        else:
            self._spool.settle(entry)

    def _send(self, entry: Entry) -> None:
        for result, target in entry.history.waiting:
            if target not in self._targets:
                entry.note("given_up", result=result, target=target, reason="it is no target any more")
        for sender in self._senders:
            sender.add(entry)
        self._spool.settle(entry)

    def _score(self) -> None:
        while (entry := self._to_score.get()) is not None and not self._stopping.is_set():
            try:
                score.score(self._session, entry, self._targets, heat_map=self._settings.heat_map)
                self._send(entry)
            except OSError as error:
                log.error("film %s: its results can't be kept (%s); tried again", entry.name, error.strerror)
                self._stopping.wait(DISK_SECONDS)
                self._to_score.put(entry)
            except BaseException as error:
                self._failure = error
                return
