"""What a connection may take before anybody is known to it: bytes of a PDU, bytes in all, and time.

pynetdicom 3.0.4 reads whatever length a PDU declares, and waits for it without end. Its server announces a connection
before the threads that read from it are started; from there on `recv` of that one socket is the one below. That is no
documented interface: `tests/clinic/test_guard.py` holds it, and the floor and the tested version of pynetdicom are one.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    from pynetdicom.association import Association

log = logging.getLogger(__name__)

MAX_REQUEST = 64 << 10  # bytes of a PDU before an association stands; dcmtk asks for 128 contexts in 15,000
MAX_PDU = 128 << 10  # bytes that are announced, dcmtk's own most
_BEFORE = ("Sta1", "Sta2", "Sta3", "Sta4", "Sta5")  # PS3.8, 9.2.1: states in which no association stands
_PIECE = 64 << 10  # bytes that are asked of the socket at a time


@dataclass(frozen=True)
class Limits:
    """What peers may take."""

    associations: int = 16
    film_bytes: int = 256 << 20  # as of a file
    unanswered_bytes: int = 512 << 20  # that all connections together have sent, and that are held in memory
    request_seconds: float = 10.0  # for a request for an association; what was closed before keeps its place so long
    grace_seconds: float = 60.0  # for a message, whatever its length, and beyond that:
    bytes_a_second: float = 50_000.0  # below which a sender dribbles
    quiet_seconds: float = 60.0  # between messages


class Budget:
    """Bytes that are held for all connections together."""

    def __init__(self, most: int) -> None:
        self._most, self._held, self._lock = most, 0, threading.Lock()

    def take(self, size: int) -> bool:
        with self._lock:
            if self._held + size > self._most:
                return False
            self._held += size
            return True

    def give_back(self, size: int) -> None:
        with self._lock:
            self._held -= size


class Guard:
    """Reads from one connection's socket, and ends it where it takes too much; its answers end the count."""

    def __init__(self, association: Association, limits: Limits, budget: Budget) -> None:
        self._association, self._limits, self._budget = association, limits, budget
        self._lock = threading.Lock()
        self._messages: deque[int] = deque()  # bytes of those that are whole and not answered yet
        self._growing = 0  # bytes of the one that is coming in
        self._held, self._shaken = 0, False
        self._began: float | None = time.monotonic()  # of it, or of the request for the association
        wrapper = association.dul.socket
        assert wrapper is not None and wrapper.socket is not None
        wrapper.socket.settimeout(limits.quiet_seconds)
        self._wrapper = wrapper
        wrapper.recv = self.recv  # type: ignore[method-assign]

    def recv(self, nr_bytes: int) -> bytearray:
        """`nr_bytes`, or fewer where the connection ended; raises OSError where they may not be had."""
        sock, size = self._wrapper.socket, nr_bytes
        if sock is None:
            raise ConnectionError("the connection was closed")
        # Some count the six bytes of a PDU's head, or a PDV's, to the length that was announced, and some don't.
        most = MAX_REQUEST if self._association.dul.state_machine.current_state in _BEFORE else MAX_PDU + 1024
        if size > most:
            raise self._refused(f"a PDU of {size} bytes, where {most} are the most")
        self._take(size)
        if self._began is None:
            self._began = time.monotonic()
        data = bytearray()
        try:
            if not self._shaken and isinstance(sock, ssl.SSLSocket):
                sock.settimeout(self._seconds_left())
                sock.do_handshake()
                self._shaken = True
            while len(data) < size:
                sock.settimeout(self._seconds_left())
                piece = sock.recv(min(size - len(data), _PIECE))
                if not piece:
                    break
                data += piece
        except TimeoutError:
            raise self._refused("a sender that dribbles") from None
        finally:
            self._settle(sock)
        return data

    def request_is_whole(self) -> None:
        """The request for the association came to its end."""
        with self._lock:
            size, self._growing, self._began = self._growing, 0, None
            self._held -= size
        self._budget.give_back(size)

    def message_is_whole(self) -> None:
        """A message came to its end, and will have an answer."""
        with self._lock:
            self._messages.append(self._growing)
            self._began, self._growing = None, 0

    def is_answered(self) -> None:
        """The eldest message that was whole has its answer."""
        with self._lock:
            size = self._messages.popleft() if self._messages else 0
            self._held -= size
        self._budget.give_back(size)

    def is_closed(self) -> None:
        """Nothing is held for this connection any more."""
        with self._lock:
            size, self._held = self._held, 0
            self._messages.clear()
        self._budget.give_back(size)

    def _take(self, size: int) -> None:
        if self._held + size > self._limits.film_bytes + (1 << 20):
            raise self._refused(f"more than {self._limits.film_bytes} bytes without waiting for an answer")
        if not self._budget.take(size):
            raise self._refused(f"more than {self._limits.unanswered_bytes} bytes of all senders together")
        with self._lock:
            self._held += size
            self._growing += size

    def _seconds_left(self) -> float:
        began = self._began if self._began is not None else time.monotonic()
        allowed = self._limits.grace_seconds + self._growing / self._limits.bytes_a_second
        left = began + allowed - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _settle(self, sock: socket.socket) -> None:
        with suppress(OSError):
            sock.settimeout(self._limits.quiet_seconds)  # of an answer that the other side doesn't take

    def _refused(self, reason: str) -> ConnectionError:
        log.warning("connection from %s closed: %s", self._association.requestor.address, reason)
        return ConnectionError(reason)
