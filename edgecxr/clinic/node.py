"""The network edge: who may connect, what is taken, and which status each film gets. C-ECHO and C-STORE, nothing else.

connection -> host allowed? room? -> Guard -> association -> AET and host allowed? -> C-STORE -> spool -> status

0x0000  the film is on the disk, or was already
0x0111  another film has this SOP Instance UID
0x0117  what was given as a UID is none
0xA700  the disk is full, or fails
0xA900  the film says another UID than its sender
0xC000  it is no data set that can be read
"""

from __future__ import annotations

import hashlib
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time
from pynetdicom.transport import AssociationServer

from edgecxr.clinic.guard import MAX_PDU, Budget, Guard, Limits
from edgecxr.clinic.spool import Entry, Spool
from edgecxr.errors import PictureRejected, StorageError, UsageError
from edgecxr.pictures.dicom import decoder, elements, film, samples

log = logging.getLogger(__name__)  # names no picture

_UID = re.compile(r"(?=.{1,64}\Z)[0-9]+(\.[0-9]+)*")  # PS3.5, 9.1; some write a leading zero
_AET = re.compile(r"(?! )[\x20-\x5b\x5d-\x7e]{1,16}(?<! )")  # PS3.5, 6.2: no backslash, no control characters

# Explicit and implicit little endian first: what a sender can unpack itself, this device need not.
NATIVE = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", elements.DEFLATED, elements.BIG_ENDIAN)
CLASSES = (film.COMPUTED_RADIOGRAPHY, film.DX_PRESENTATION, *sorted(film.SECONDARY_CAPTURES))


@dataclass(frozen=True)
class Peer:
    """Somebody who may send films: AET@HOST."""

    aet: str
    host: str

    @classmethod
    def parse(cls, text: str) -> Peer:
        """Raises UsageError where `text` isn't AET@HOST."""
        aet, at, host = text.partition("@")
        if not (at and host):
            raise UsageError(f"expected AET@HOST, got: {text}")
        return cls(check_aet(aet), host)


def check_aet(aet: str) -> str:
    """The AE title itself; raises UsageError where it is none (PS3.5, 6.2)."""
    if not _AET.fullmatch(aet):
        raise UsageError(f"an AE title has 1 to 16 characters of ASCII and no backslash, got: {aet}")
    return aet


@dataclass(frozen=True)
class Address:
    """Where the node listens, as whom, and for whom."""

    aet: str = "EDGECXR"
    port: int = 11112  # 0: any that is free
    allowed: tuple[Peer, ...] = ()  # empty: whoever is on this machine, and nobody else
    tls: ssl.SSLContext | None = None
    limits: Limits = field(default_factory=Limits)


class Listener:
    """Takes films into a spool for as long as it is open; `received` is called with each new one."""

    def __init__(self, address: Address, spool: Spool, received: Callable[[Entry], object]) -> None:
        """Begin to listen; raises UsageError where the port can't be had, or an allowed host has no address."""
        self._spool, self._received, self._aet = spool, received, address.aet
        self._allowed = _addresses(address.allowed)
        self._guards: dict[Any, Guard] = {}
        self._limits, self._budget = address.limits, Budget(address.limits.unanswered_bytes)
        # pynetdicom's own handlers format every PDU and every data set for a log that nobody reads.
        _config.LOG_HANDLER_LEVEL = "none"
        ae = AE(address.aet)
        ae.require_called_aet = True
        ae.maximum_associations = address.limits.associations
        ae.maximum_pdu_size = MAX_PDU
        ae.network_timeout = ae.dimse_timeout = address.limits.quiet_seconds
        ae.acse_timeout = address.limits.request_seconds
        ae.add_supported_context(Verification)
        for sop_class in CLASSES:
            ae.add_supported_context(sop_class, list(transfer_syntaxes()))
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_DIMSE_RECV, lambda event: self._guards[event.assoc].message_is_whole()),
            (evt.EVT_DIMSE_SENT, lambda event: self._guards[event.assoc].is_answered()),
            (evt.EVT_C_ECHO, lambda event: 0x0000),
            (evt.EVT_C_STORE, self._store),
        ]
        host = "" if self._allowed else "127.0.0.1"
        try:
            self._server: Any = ae.make_server(
                (host or "0.0.0.0", address.port),
                ssl_context=address.tls,
                evt_handlers=handlers,
                server_class=_Server,
                may_connect=self._may_connect,
            )
        except OSError as error:
            raise UsageError(f"the port can't be listened on ({error.strerror}): {address.port}") from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="edgecxr-listen", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self, seconds: float) -> None:
        """Take no more connections, let those that are open end within `seconds`, and end the others."""
        self._server.stop()
        end = time.monotonic() + seconds
        for association in self._server.active_associations:
            if association.is_established:
                association.join(max(0.0, end - time.monotonic()))
        for association in self._server.active_associations:
            log.warning("connection from %s ended, the node stops", association.requestor.address)
            if association.is_established:
                association.abort()
            elif association.dul.socket is not None:
                association.dul.socket.close()
            association.dul.kill_dul()  # its thread would keep the process; the association's own doesn't

    def _may_connect(self, host: str) -> bool:
        """Whether a connection is looked at: before any byte of it is read, or any thread is begun."""
        if self._allowed and host not in self._allowed:
            log.warning("connection from %s refused: no --allow names this host", host)
            return False
        open_now = self._server.active_associations
        for association in self._guards.keys() - set(open_now):
            self._guards.pop(association).is_closed()
        if len(open_now) >= 2 * self._limits.associations:
            log.warning("connection from %s refused: %d are open", host, len(open_now))
            return False
        return True

    def _opened(self, event: Any) -> None:
        self._guards[event.assoc] = Guard(event.assoc, self._limits, self._budget)

    def _requested(self, event: Any) -> None:
        self._guards[event.assoc].request_is_whole()
        requestor = event.assoc.requestor
        aet, host = str(requestor.primitive.calling_ae_title).strip(), requestor.address
        if self._allowed and aet not in self._allowed.get(host, ()):
            log.warning("association of %s from %s refused: no --allow names the two", _shown(aet), host)
            event.assoc.acse.send_reject(0x01, 0x01, 0x03)  # calling AE title not recognised
            event.assoc.kill()

    def _rejected(self, event: Any) -> None:
        primitive = event.assoc.requestor.primitive
        calling, called = (_shown(str(title)) for title in (primitive.calling_ae_title, primitive.called_ae_title))
        log.warning(
            "association of %s from %s refused: it asked for %s, and this is %s with at most %d associations",
            calling, event.assoc.requestor.address, called, self._aet, self._limits.associations,
        )  # fmt: skip

    def _store(self, event: Any) -> Dataset:
        """Keep a film, and only then say so."""
        uid, caller = str(event.request.AffectedSOPInstanceUID), event.assoc.requestor.ae_title
        if not _UID.fullmatch(uid):
            return self._refused(event, 0x0117, "the SOP Instance UID isn't one")
        data = event.encoded_dataset()
        digest = hashlib.sha256(event.context.transfer_syntax.encode() + event.encoded_dataset(include_meta=False))
        try:
            sop_class, said = elements.sop_class_and_instance(data)
        except PictureRejected as rejected:
            return self._refused(event, 0xC000, rejected.message)
        if said != uid or sop_class != str(event.request.AffectedSOPClassUID):
            return self._refused(event, 0xA900, "the film says another UID than its sender")
        try:
            receipt, entry = self._spool.receive(uid, data, digest.hexdigest(), caller)
        except StorageError:
            return self._refused(event, 0xA700, "the disk is full")
        except OSError as error:
            return self._refused(event, 0xA700, f"the film can't be kept: {error.strerror}")
        if receipt == "other":
            return self._refused(event, 0x0111, "another film has this SOP Instance UID")
        if entry is not None:
            log.info("film %s received, %d bytes", entry.name, len(data))
            self._received(entry)
        return _status(0x0000)

    def _refused(self, event: Any, code: int, reason: str) -> Dataset:
        peer = event.assoc.requestor
        log.warning("film of %s from %s refused: %s (0x%04X)", _shown(peer.ae_title), peer.address, reason, code)
        return _status(code, reason)


class _Server(AssociationServer):
    """Asks before it takes a connection; a TLS handshake is for the connection's own thread."""

    request_queue_size = 64

    def __init__(self, *rest: Any, may_connect: Callable[[str], bool], **more: Any) -> None:
        self._may_connect = may_connect
        super().__init__(*rest, **more)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self._may_connect(str(client_address[0]))

    def get_request(self) -> tuple[socket.socket, Any]:
        assert self.socket is not None
        request, address = self.socket.accept()
        if self.ssl_context is not None:
            request = self.ssl_context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        return request, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.warning("connection from %s failed before it was taken", client_address[0])

    def stop(self) -> None:
        """As `shutdown`, of a server that its AE doesn't list."""
        super(AssociationServer, self).shutdown()
        self.server_close()


def transfer_syntaxes() -> Sequence[str]:
    """Those in which films are taken, the preferred first: compressed ones where this device can decode them."""
    compressed = [uid for uid, (_, codec, _) in samples.COMPRESSED.items() if codec == "pillow" or decoder.available()]
    return (*NATIVE, *compressed)


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 or later, as the server that `certificate` names; raises UsageError where the two can't be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:  # an SSLError's words are OpenSSL's
        raise UsageError(f"--tls takes a certificate and its key, as PEM ({error}): {certificate}, {key}") from None
    return context


def _addresses(peers: Iterable[Peer]) -> Mapping[str, frozenset[str]]:
    """AE titles by the addresses of their hosts, looked up once."""
    found: dict[str, set[str]] = {}
    for peer in peers:
        try:
            infos = socket.getaddrinfo(peer.host, None, socket.AF_INET)
        except OSError:
            raise UsageError(f"--allow names a host without an IPv4 address: {peer.host}") from None
        for *_, address in infos:
            found.setdefault(str(address[0]), set()).add(peer.aet)
    return {host: frozenset(aets) for host, aets in found.items()}


def _status(code: int, comment: str = "") -> Dataset:
    status = Dataset()
    status.Status = code
    if comment:
        status.ErrorComment = comment[:64]
    return status


def _shown(text: str) -> str:
    """What somebody else wrote, as it may stand in a log."""
    return "".join(c if c.isprintable() else "?" for c in text[:16])
