"""Results go to their targets: one thread each, an association for many, again and again, or they are set aside.

A target that can't be reached is tried less and less often, and no result is given up for it within PATIENCE. A result
that a target refuses, or doesn't answer, is tried REFUSALS times. What was sent is never sent again; what has no answer
is, with the same bytes under the same UID, and is counted.
"""

from __future__ import annotations

import heapq
import logging
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
    Comprehensive3DSRStorage,
    SecondaryCaptureImageStorage,
)

from edgecxr.clinic.node import check_aet
from edgecxr.clinic.spool import Entry
from edgecxr.errors import UsageError

log = logging.getLogger(__name__)  # names no picture

EXPLICIT = "1.2.840.10008.1.2.1"  # in which results are written
WARNINGS = (0x0001, 0x0107, 0x0116)  # PS3.7, C.4, beside Bxxx: it was stored


@dataclass(frozen=True)
class Target:
    """Where results go: AET@HOST:PORT."""

    aet: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Target:
        """Raises UsageError where `text` isn't AET@HOST:PORT."""
        aet, at, address = text.partition("@")
        host, colon, port = address.rpartition(":")
        if not (at and colon and host and port.isdecimal() and 0 < int(port) < 65536):
            raise UsageError(f"expected AET@HOST:PORT, got: {text}")
        return cls(check_aet(aet), host, int(port))

    def __str__(self) -> str:
        return f"{self.aet}@{self.host}:{self.port}"


@dataclass(frozen=True)
class Patience:
    """How long a result is tried; times are of a clock that doesn't jump, counted from when this process had it."""

    first_seconds: float = 5.0  # before the second attempt, and twice as long before each further one
    most_seconds: float = 300.0
    refusals: int = 8  # of one result, or answers that didn't come
    seconds: float = 86_400.0  # for a target that can't be reached
    answer_seconds: float = 30.0  # for a connection, and for each answer

    def pause(self, failures: int) -> float:
        return min(self.first_seconds * 2.0 ** min(failures - 1, 32), self.most_seconds)


def tls_context(authorities: Path, own: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    """TLS 1.2 or later to targets whose certificates name their hosts and are of these authorities (PEM); one that asks
    is shown the `own` certificate with its key. Raises UsageError where they can't be used."""
    try:
        context = ssl.create_default_context(cafile=authorities)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if own is not None:
            context.load_cert_chain(*own)
    except (OSError, ssl.SSLError) as error:  # an SSLError's words are OpenSSL's
        raise UsageError(f"--send-tls takes certificates of authorities, as PEM ({error}): {authorities}") from None
    return context


class Unreachable(Exception):  # noqa: N818  nothing was sent
    """There is no association with the target."""


class Refused(Exception):  # noqa: N818
    """The target said that it hasn't kept the object."""


class Unanswered(Exception):  # noqa: N818
    """Nobody knows whether the target has the object."""


class Line:
    """An association with a target, opened where it is needed; for one thread."""

    def __init__(self, own: str, target: Target, seconds: float, tls: ssl.SSLContext | None = None) -> None:
        _config.LOG_HANDLER_LEVEL = "none"
        # A file's bytes as they are: read into elements and written anew, a report took 15 ms of a CPU.
        _config.STORE_SEND_CHUNKED_DATASET = True
        self._target = target
        self._tls = (tls, target.host) if tls is not None else None
        self._ae = AE(own)
        self._ae.acse_timeout = self._ae.dimse_timeout = self._ae.network_timeout = seconds
        self._ae.connection_timeout = seconds
        for kind in (Comprehensive3DSRStorage, SecondaryCaptureImageStorage):
            self._ae.add_requested_context(kind, EXPLICIT)
        self._association: Association | None = None

    def open(self) -> None:
        """Raises Unreachable."""
        if self._association is not None and self._association.is_established:
            return
        self.close()
        target = self._target
        association = self._ae.associate(target.host, target.port, ae_title=target.aet, tls_args=self._tls)
        if not association.is_established:
            what = "refuses the association" if association.is_rejected else "can't be reached"
            raise Unreachable(f"{target} {what}")
        self._association = association

    def send(self, path: Path) -> int:
        """The status of the object in a file that the target has; raises Refused and Unanswered."""
        assert self._association is not None
        try:
            status = self._association.send_c_store(path)
        except ValueError:
            raise Refused("the target takes no object of this kind") from None
        except RuntimeError:  # the association ended since it was looked at; nothing was sent
            raise Refused("the association ended") from None
        except OSError as error:  # perhaps half-way
            self._association.abort()
            self._association = None
            raise Unanswered(f"the result can't be read: {error.strerror}") from None
        if "Status" not in status:
            self.close()
            raise Unanswered("no answer")
        code = int(status.Status)
        if code == 0 or code in WARNINGS or 0xB000 <= code <= 0xBFFF:
            return code
        raise Refused(f"0x{code:04X}")

    def close(self) -> None:
        association, self._association = self._association, None
        if association is not None and association.is_established:
            association.release()
        elif association is not None:
            association.abort()


class Sender:
    """Sends what is added to it, until it is closed; `settled` is called with each film of which nothing is left."""

    def __init__(
        self,
        own: str,
        target: Target,
        patience: Patience,
        settled: Callable[[Entry], object],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.target, self._patience, self._settled = target, patience, settled
        self._line = Line(own, target, patience.answer_seconds, tls)
        self._waiting: list[tuple[float, int, float, Entry, str]] = []  # when it is due, number, since when, what
        self._number = 0
        self._changed, self._ended = threading.Condition(), False
        self._pauses = 0  # attempts to reach the target that failed in a row
        self._thread = threading.Thread(target=self._run, name=f"edgecxr-send-{target}", daemon=True)
        self._thread.start()

    def add(self, entry: Entry) -> None:
        """Send what of a film's results waits for this target."""
        with self._changed:
            for result, target in entry.history.waiting:
                if target == str(self.target):
                    self._push(time.monotonic(), time.monotonic(), entry, result)
            self._changed.notify()

    def close(self, seconds: float) -> None:
        """Begin nothing more; what is being sent has `seconds` to be answered."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join(seconds)

    def _push(self, due: float, since: float, entry: Entry, result: str) -> None:
        self._number += 1
        heapq.heappush(self._waiting, (due, self._number, since, entry, result))

    def _run(self) -> None:
        while (item := self._next()) is not None:
            since, entry, result = item
            try:
                again = self._attempt(since, entry, result)
            except OSError as error:  # the disk of the spool: nothing can be noted
                log.error("film %s: its journal can't be kept (%s)", entry.name, error.strerror)
                again = self._patience.most_seconds
            with self._changed:
                if again is not None:
                    self._push(time.monotonic() + again, since, entry, result)
        self._line.close()

    def _next(self) -> tuple[float, Entry, str] | None:
        """What is due next, waited for; None at the end. A line without work is closed."""
        with self._changed:
            while not self._ended:
                if self._waiting and self._waiting[0][0] <= time.monotonic():
                    _, _, since, entry, result = heapq.heappop(self._waiting)
                    return since, entry, result
                left = self._waiting[0][0] - time.monotonic() if self._waiting else None
                if not self._changed.wait(1.0 if left is None else min(left, 1.0)):
                    self._line.close()
            return None

    def _attempt(self, since: float, entry: Entry, result: str) -> float | None:
        """Seconds until the next one, or None where there is none; raises OSError where it can't be noted."""
        way = (result, str(self.target))
        facts: dict[str, Any] = {"result": result, "target": str(self.target)}
        try:
            self._line.open()
        except Unreachable as unreachable:
            if time.monotonic() - since < self._patience.seconds:
                self._pauses += 1
                if self._pauses == 1:
                    log.warning("%s; results wait, and it is tried again", unreachable)
                self._wait(self._patience.pause(self._pauses))
                return 0.0
            self._end(entry, "given_up", **facts, reason=str(unreachable))
            return None
        if self._pauses:
            log.warning("%s is reached again", self.target)
        self._pauses = 0
        path = entry.result(result)
        path.read_bytes()  # of a disk that fails nothing is begun
        entry.note("sending", **facts)
        try:
            status = self._line.send(path)
        except (Refused, Unanswered) as failure:
            kind = "refused" if isinstance(failure, Refused) else "unanswered"
            entry.note(kind, sync=True, **facts, reason=str(failure))
            failures = entry.history.refusals[way]
            log.warning("result of film %s to %s: %s, %s", entry.name, self.target, kind, failure)
            if failures < self._patience.refusals:
                return self._patience.pause(failures)
            self._end(entry, "given_up", **facts, reason=str(failure))
            return None
        self._end(entry, "sent", **facts, status=status)
        log.info("result of film %s sent to %s", entry.name, self.target)
        return None

    def _wait(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended, seconds)

    def _end(self, entry: Entry, event: str, **facts: Any) -> None:
        entry.note(event, sync=True, **facts)
        if event == "given_up":
            log.error("result of film %s to %s is given up", entry.name, self.target)
        self._settled(entry)
