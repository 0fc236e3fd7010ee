"""What a connection may take. The cap stands on an inner part of pynetdicom: these tests hold it to that."""

from __future__ import annotations

import logging
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.pdu import A_ASSOCIATE_AC

from clinic.conftest import Begin
from clinic.ends import CR, film, films, send, wait_for
from edgecxr.clinic.guard import MAX_PDU, MAX_REQUEST, Budget, Limits


def head(kind: int, length: int) -> bytes:
    return struct.pack(">BBL", kind, 0, length)


def is_closed(connection: socket.socket, seconds: float = 10.0) -> bool:
    """Whether the other side ends the connection within the time, whatever it says before."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def established(port: int) -> socket.socket:
    """A connection on which an association stands, for a sender of CR that then does what it likes."""
    asked: list[bytes] = []

    class Recorded(AE):
        pass

    ae = Recorded("MODALITY")
    ae.add_requested_context(CR)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(
        target=lambda: ae.associate("127.0.0.1", listener.getsockname()[1], ae_title="EDGECXR"), daemon=True
    )
    thread.start()
    caught, _ = listener.accept()
    asked.append(caught.recv(65536))
    caught.close()
    listener.close()
    thread.join(10)
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(asked[0])
    answer = connection.recv(65536)
    assert answer[0] == 2
    accepted = A_ASSOCIATE_AC()
    accepted.decode(answer)
    assert accepted.user_information.maximum_length == MAX_PDU
    return connection


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.WARNING, "edgecxr"):
        yield caplog


@pytest.mark.parametrize("length", [MAX_REQUEST + 1, 300 << 20, 0xFFFFFFFF])
def test_a_request_that_is_too_long_is_not_read(begin: Begin, said: pytest.LogCaptureFixture, length: int) -> None:
    node = begin()
    with socket.create_connection(("127.0.0.1", node.port)) as connection:
        connection.sendall(head(1, length))
        assert is_closed(connection)
    assert f"a PDU of {length} bytes" in said.text
    assert send(node.port, film("1.2.3")) == [0]


def test_a_pdu_that_is_longer_than_was_announced_is_not_read(begin: Begin, said: pytest.LogCaptureFixture) -> None:
    node = begin()
    with established(node.port) as connection:
        connection.sendall(head(4, 300 << 20))
        assert is_closed(connection)
    assert f"a PDU of {300 << 20} bytes" in said.text
    assert send(node.port, film("1.2.3")) == [0]


def test_a_film_without_end_is_not_read(begin: Begin, said: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    node = begin(limits=Limits(film_bytes=1 << 20))
    with established(node.port) as connection, pytest.raises(OSError):
        piece = b"\0" * (64 << 10)
        for _ in range(200):
            connection.sendall(head(4, len(piece) + 6) + struct.pack(">LBB", len(piece) + 2, 1, 1) + piece)
    assert "without waiting for an answer" in said.text
    assert send(node.port, film("1.2.3")) == [0]
    wait_for(lambda: films(tmp_path / "spool", "done") == 1)


def test_all_connections_together_have_a_limit(begin: Begin, said: pytest.LogCaptureFixture) -> None:
    node = begin(limits=Limits(film_bytes=8 << 20, unanswered_bytes=1 << 20))
    piece = b"\0" * (64 << 10)
    message = head(4, len(piece) + 6) + struct.pack(">LBB", len(piece) + 2, 1, 1) + piece
    with established(node.port) as first, established(node.port) as second, pytest.raises(OSError):
        for _ in range(200):
            first.sendall(message)
            second.sendall(message)
    assert "of all senders together" in said.text
    wait_for(lambda: send(node.port, film("1.2.3")) == [0])  # what was held is given back


@pytest.mark.parametrize("when", ["request", "film"])
def test_a_sender_that_dribbles_is_ended(begin: Begin, said: pytest.LogCaptureFixture, when: str) -> None:
    node = begin(limits=Limits(grace_seconds=1.0, quiet_seconds=30.0))
    connection = established(node.port) if when == "film" else socket.create_connection(("127.0.0.1", node.port))
    with connection:
        connection.sendall(head(4 if when == "film" else 1, 10_000))
        begun = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - begun < 20:
                connection.sendall(b"\0")
                time.sleep(0.05)
    assert time.monotonic() - begun < 10
    assert "dribbles" in said.text


def test_many_small_pdus_are_no_way_round_it(begin: Begin, said: pytest.LogCaptureFixture) -> None:
    """Each is whole in no time; together they are slower than a film may be."""
    node = begin(limits=Limits(grace_seconds=1.0, quiet_seconds=30.0))
    with established(node.port) as connection, pytest.raises(OSError):
        for _ in range(400):
            connection.sendall(head(4, 7) + struct.pack(">LBB", 3, 1, 1) + b"\0")
            time.sleep(0.05)
    assert "dribbles" in said.text


def test_a_sender_that_says_nothing_is_ended(begin: Begin) -> None:
    node = begin(limits=Limits(quiet_seconds=1.0))
    with established(node.port) as connection:
        assert is_closed(connection)


def test_a_sender_that_drops_half_way_leaves_nothing(begin: Begin, tmp_path: Path) -> None:
    node = begin()
    with established(node.port) as connection:
        connection.sendall(head(4, 1000) + b"\0" * 400)
    wait_for(lambda: not node._listener._server.active_associations)
    assert not list((tmp_path / "spool").rglob("*.dcm"))


def test_bytes_are_given_back_with_each_answer(begin: Begin) -> None:
    """Twenty films on one association take no more than one at a time would."""
    one = film("1.2.3")
    node = begin(limits=Limits(film_bytes=2 * len(one), unanswered_bytes=3 * len(one)))
    assert set(send(node.port, *(film(f"1.2.{n}") for n in range(20)))) == {0}
    wait_for(lambda: not node._listener._server.active_associations)
    assert node._listener._budget._held <= len(one)


def test_a_budget_is_never_overdrawn() -> None:
    budget = Budget(10)
    assert budget.take(6)
    assert not budget.take(5)
    budget.give_back(6)
    assert budget.take(10)


MEMORY = """
import resource, socket, struct, sys, threading
from edgecxr.bundle import load
from edgecxr.clinic.node import Address
from edgecxr.clinic.service import Node, Settings
from edgecxr.clinic.spool import Room, Spool
from edgecxr.scoring.session import open_session
from pathlib import Path
with Spool(Path(sys.argv[2]), Room(free_bytes=0)).held() as spool:
    node = Node(open_session(load(sys.argv[1]), workers=1), spool, Settings(Address(port=0)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    piece = b"\\0" * (1 << 20)
    for kind in (1, 4):
        with socket.create_connection(("127.0.0.1", node.port)) as peer:
            try:
                peer.sendall(struct.pack(">BBL", kind, 0, 300 << 20))
                for _ in range(300):
                    peer.sendall(piece)
            except OSError:
                pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    node.close()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KiB on Linux")
def test_three_hundred_megabytes_before_any_association_take_no_memory(tiny_bundle: Path, tmp_path: Path) -> None:
    """Without the guard they took 600 MB."""
    command = [sys.executable, "-c", MEMORY, str(tiny_bundle), str(tmp_path / "spool")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    assert int(done.stdout) < 20_000
