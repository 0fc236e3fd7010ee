"""Both ends of a node, in this process and on the loopback: a sender and a target, of pynetdicom."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pynetdicom import AE, evt
from pynetdicom.transport import AssociationSocket

import dicoms
from edgecxr.clinic import spool
from edgecxr.clinic.send import Patience, Target

QUICK = Patience(first_seconds=0.05, most_seconds=0.2, refusals=3, seconds=60.0, answer_seconds=2.0)
CR = "1.2.840.10008.5.1.4.1.1.1"
SR = "1.2.840.10008.5.1.4.1.1.88.34"


_shutdown = AssociationSocket._shutdown_socket


def _shutdown_and_closed(self: AssociationSocket) -> None:
    """pynetdicom leaves a socket to the collector whose connection was refused, or that its peer closed first."""
    own = self.socket
    _shutdown(self)
    if own is not None:
        own.close()


AssociationSocket._shutdown_socket = _shutdown_and_closed  # type: ignore[method-assign]


def film(uid: str = "1.2.3", seed: int = 0, **elements: Any) -> bytes:
    """A film as `dicoms.film`, of somebody, with a UID of its own."""
    said = {"PatientID": "P1", "PatientName": "CANARY^NAME", "StudyInstanceUID": "1.2.4", "SeriesInstanceUID": "1.2.5"}
    return dicoms.film(dicoms.values(seed=seed), **{**said, "SOPInstanceUID": uid, **elements})


@dataclass
class Archive:
    """A target that keeps what it gets, and answers as `answer` says: a status, or None for no answer at all."""

    port: int = 0
    got: list[tuple[str, str]] = field(default_factory=list)  # (SOP Instance UID, SHA-256 of its data set)
    answer: Callable[[int], int | None] = lambda number: 0x0000
    server: Any = None
    tls: ssl.SSLContext | None = None
    handlers: list[Any] = field(default_factory=list)  # further ones, of pynetdicom's events
    max_pdu: int = 16382

    def open(self) -> None:
        ae = AE("ARCHIVE")
        ae.add_supported_context(SR)
        ae.add_supported_context("1.2.840.10008.5.1.4.1.1.7")
        ae.add_supported_context(CR)
        ae.maximum_pdu_size = self.max_pdu
        handlers: list[Any] = [(evt.EVT_C_STORE, self._store), *self.handlers]
        self.server = ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=handlers, ssl_context=self.tls
        )
        assert self.server is not None
        self.port = self.server.server_address[1]

    def close(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server = None

    def _store(self, event: Any) -> int:
        data = event.encoded_dataset(include_meta=False)
        code = self.answer(len(self.got))
        if code in (0x0000, None):
            self.got.append((str(event.request.AffectedSOPInstanceUID), hashlib.sha256(data).hexdigest()))
        if code is None:
            event.assoc.abort()
            return 0xC000
        return code

    @property
    def target(self) -> Target:
        return Target("ARCHIVE", "127.0.0.1", self.port)


def send(port: int, *films: bytes, called: str = "EDGECXR", calling: str = "MODALITY", **options: Any) -> list[int]:
    """The status that each film gets, on one association; 0x10000 where none came, [] where there was no
    association."""
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    datasets = [dcmread(BytesIO(data)) for data in films]
    for syntax in {(str(d.SOPClassUID), str(d.file_meta.TransferSyntaxUID)) for d in datasets}:
        ae.add_requested_context(*syntax)
    association = ae.associate("127.0.0.1", port, ae_title=called, **options)
    if not association.is_established:
        return []
    try:
        return [int(association.send_c_store(data).get("Status", 0x10000)) for data in datasets]
    except (RuntimeError, ValueError):
        return [0x10000]
    finally:
        association.release()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-made certificate for this machine, and its key."""
    folder.mkdir(exist_ok=True)
    paths = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    more = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", str(paths[0]), "-keyout", str(paths[1])]
    try:
        subprocess.run([*command, *more], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl here")
    return paths


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something is so; fails where it doesn't become so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it didn't come to that in time"
        time.sleep(0.01)


def films(folder: Path, stage: str) -> int:
    """How many films have come to a stage; `done` and `failed` once they lie there."""
    if stage in ("done", "failed"):
        return len(list((folder / stage).iterdir()))
    return int(spool.status(folder)["films"][stage])
