"""Targets that refuse, hang, drop half-way, or aren't there; what was sent is never sent again."""

from __future__ import annotations

import hashlib
import socket
import threading
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import AE, evt
from pynetdicom.pdu import P_DATA_TF

from clinic.conftest import Begin
from clinic.ends import CR, QUICK, Archive, certificate, film, films, send, wait_for
from edgecxr.clinic import journal, score, spool
from edgecxr.clinic import node as inbound
from edgecxr.clinic.send import Line, Patience, Target, Unanswered, tls_context
from edgecxr.clinic.spool import named
from edgecxr.errors import UsageError
from edgecxr.scoring.session import Session


def result_of(folder: Path) -> bytes:
    (path,) = (path for path in folder.glob("*.dcm") if path.name != spool.FILM)
    return path.read_bytes()


def dataset(file: bytes) -> bytes:
    """What follows the meta header, whose length is its first element (PS3.10, 7.1)."""
    return file[144 + int.from_bytes(file[140:144], "little") :]


def test_a_target_that_refuses_is_tried_again_and_then_left(begin: Begin, archive: Archive, tmp_path: Path) -> None:
    archive.answer = lambda number: 0xA700
    node = begin(archive.target)
    assert send(node.port, film("1.2.3")) == [0]
    wait_for(lambda: films(tmp_path / "spool", "failed") == 1)
    history, _ = journal.read(tmp_path / "spool" / "failed" / named("1.2.3") / spool.JOURNAL)
    assert history.refusals.total() == QUICK.refusals
    assert history.again == 0  # it said each time that it hadn't kept it
    archive.answer = lambda number: 0x0000
    assert spool.request_requeue(tmp_path / "spool") == 1
    wait_for(lambda: films(tmp_path / "spool", "done") == 1)
    assert len(archive.got) == 1


def test_a_warning_says_that_it_was_stored(begin: Begin, archive: Archive, tmp_path: Path) -> None:
    archive.answer = lambda number: 0xB000
    node = begin(archive.target)
    assert send(node.port, film("1.2.3")) == [0]
    wait_for(lambda: films(tmp_path / "spool", "done") == 1)


def test_a_target_that_drops_before_it_answers_gets_the_same_object_once_more(
    begin: Begin, archive: Archive, tmp_path: Path
) -> None:
    archive.answer = lambda number: None if number == 0 else 0x0000
    node = begin(archive.target)
    assert send(node.port, film("1.2.3")) == [0]
    wait_for(lambda: films(tmp_path / "spool", "done") == 1)
    assert len(archive.got) == 2
    assert len(set(archive.got)) == 1  # one UID, the same bytes
    assert spool.status(tmp_path / "spool")["sent_again"] == 1


def test_a_target_that_hangs_is_left_after_a_while_and_the_others_go_on(
    begin: Begin, archive: Archive, tmp_path: Path
) -> None:
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        threading.Thread(target=_take, args=(silent, taken), daemon=True).start()
        hanging = Target("HANGS", "127.0.0.1", silent.getsockname()[1])
        patience = replace(QUICK, answer_seconds=1.0, seconds=3.0)
        node = begin(hanging, archive.target, patience=patience)
        assert send(node.port, film("1.2.3")) == [0]
        wait_for(lambda: films(tmp_path / "spool", "failed") == 1)
        found = spool.status(tmp_path / "spool")["targets"]
    for connection in taken:
        connection.close()
    assert len(archive.got) == 1
    assert found[str(hanging)] == {"waiting": 0, "sent": 0, "given_up": 1}
    assert found[str(archive.target)] == {"waiting": 0, "sent": 1, "given_up": 0}


def test_a_target_that_takes_an_object_and_never_answers_is_left_and_the_others_go_on(
    begin: Begin, archive: Archive, tmp_path: Path
) -> None:
    ended, silent = threading.Event(), Archive()
    silent.answer = lambda number: 0x0000 if ended.wait(60) else 0xC000
    silent.open()
    node = begin(silent.target, archive.target, patience=replace(QUICK, answer_seconds=1.0))
    assert send(node.port, film("1.2.3")) == [0]
    wait_for(lambda: films(tmp_path / "spool", "failed") == 1)
    found = spool.status(tmp_path / "spool")
    ended.set()
    silent.close()
    assert len(archive.got) == 1
    assert found["targets"][str(silent.target)] == {"waiting": 0, "sent": 0, "given_up": 1}
    assert found["targets"][str(archive.target)] == {"waiting": 0, "sent": 1, "given_up": 0}
    assert found["sent_again"] == QUICK.refusals - 1


def test_a_target_that_drops_half_way_has_the_object_once_whole(begin: Begin, archive: Archive, tmp_path: Path) -> None:
    """The connection ends in the midst of the object's data, twice."""
    pieces: list[int] = []

    def drop(event: evt.Event) -> None:
        if isinstance(event.pdu, P_DATA_TF) and len(pieces) < 14:
            pieces.append(event.pdu.pdu_length)
            if len(pieces) in (7, 14):  # of more than ten
                event.assoc.dul.socket.close()

    archive.close()
    archive.max_pdu, archive.handlers = 1024, [(evt.EVT_PDU_RECV, drop)]
    archive.open()
    node = begin(archive.target)
    assert send(node.port, film("1.2.3")) == [0]
    wait_for(lambda: films(tmp_path / "spool", "done") == 1)
    kept = dataset(result_of(tmp_path / "spool" / "done" / named("1.2.3")))
    assert len(kept) > 10 * 1024 > sum(pieces[:7])
    assert [digest for _, digest in archive.got] == [hashlib.sha256(kept).hexdigest()]
    assert spool.status(tmp_path / "spool")["sent_again"] == 2


def test_results_go_by_tls_to_whom_the_authorities_vouch_for_and_to_nobody_else(
    begin: Begin, archive: Archive, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own, other = (certificate(tmp_path / name) for name in ("own", "other"))
    archive.close()
    archive.tls = inbound.tls_context(*own)
    archive.open()
    quick = replace(QUICK, answer_seconds=5.0)
    with caplog.at_level("WARNING", "edgecxr"):
        first = begin(archive.target, patience=quick, send_tls=tls_context(other[0]))
        assert send(first.port, film("1.2.3")) == [0]
        wait_for(lambda: "can't be reached; results wait" in caplog.text)
    first.end()  # type: ignore[attr-defined]
    assert archive.got == []
    begin(archive.target, patience=quick, send_tls=tls_context(own[0], other))
    wait_for(lambda: films(tmp_path / "spool", "done") == 1)
    assert len(archive.got) == 1
    with pytest.raises(UsageError, match="as PEM"):
        tls_context(own[1])


def test_over_tls_nothing_goes_to_a_target_without_it(
    begin: Begin, archive: Archive, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authorities, _ = certificate(tmp_path / "own")
    with caplog.at_level("WARNING", "edgecxr"):
        node = begin(archive.target, patience=replace(QUICK, answer_seconds=0.5), send_tls=tls_context(authorities))
        assert send(node.port, film("1.2.3")) == [0]
        wait_for(lambda: "can't be reached; results wait" in caplog.text)
    assert archive.got == []


def test_a_result_that_cannot_be_read_ends_the_association_and_not_the_line(
    archive: Archive, session: Session, tmp_path: Path
) -> None:
    line = Line("EDGECXR", archive.target, 5.0)
    line.open()
    with pytest.raises(Unanswered, match="can't be read: No such file"):
        line.send(tmp_path / "absent.dcm")
    _, (result,) = score.answer(session, film("1.2.3"), heat_map=False)
    (tmp_path / "there.dcm").write_bytes(result.data)
    line.open()
    assert line.send(tmp_path / "there.dcm") == 0
    line.close()
    assert [uid for uid, _ in archive.got] == [result.sop_instance_uid]


def _take(server: socket.socket, taken: list[socket.socket]) -> None:
    try:
        while True:
            taken.append(server.accept()[0])
    except OSError:
        return


def test_a_target_that_is_away_costs_no_result_its_tries(begin: Begin, archive: Archive, tmp_path: Path) -> None:
    archive.close()
    node = begin(archive.target)
    assert send(node.port, *(film(f"1.2.{n}", n) for n in range(5))) == [0] * 5
    wait_for(lambda: films(tmp_path / "spool", "scored") == 5)
    archive.open()
    wait_for(lambda: films(tmp_path / "spool", "done") == 5)
    assert len(archive.got) == len(set(archive.got)) == 5
    for path in (tmp_path / "spool" / "done").rglob(spool.JOURNAL):
        assert journal.read(path)[0].refusals.total() == 0


def test_a_target_without_reports_is_no_target(begin: Begin, tmp_path: Path) -> None:
    ae = AE("FILMS")
    ae.add_supported_context(CR)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda event: 0)])
    assert server is not None
    target = Target("FILMS", "127.0.0.1", server.server_address[1])
    node = begin(target, patience=replace(QUICK, seconds=0.5))
    assert send(node.port, film("1.2.3")) == [0]
    wait_for(lambda: films(tmp_path / "spool", "failed") == 1)
    server.shutdown()


@pytest.mark.parametrize("at", ["sending", "sent"])
def test_a_kill_about_the_targets_answer_sends_the_same_object_at_most_once_more(
    begin: Begin, archive: Archive, tmp_path: Path, at: str
) -> None:
    """The journal as a kill leaves it: with the line that the object goes out, or with the one that it was taken."""
    node = begin(archive.target)
    assert send(node.port, film("1.2.3")) == [0]
    wait_for(lambda: films(tmp_path / "spool", "done") == 1)
    node.end()  # type: ignore[attr-defined]
    done, waits = (tmp_path / "spool" / place / named("1.2.3") for place in ("done", "films"))
    done.rename(waits)
    lines = (waits / spool.JOURNAL).read_bytes().splitlines(keepends=True)
    last = next(n for n, line in enumerate(lines) if b'"event": "%s"' % at.encode() in line)
    (waits / spool.JOURNAL).write_bytes(b"".join(lines[: last + 1]))
    begin(archive.target)
    wait_for(lambda: films(tmp_path / "spool", "done") == 1)
    again = 1 if at == "sending" else 0
    assert len(archive.got) == 1 + again
    assert len(set(archive.got)) == 1
    assert spool.status(tmp_path / "spool")["sent_again"] == again


def test_what_is_sent_is_what_the_spool_holds(begin: Begin, archive: Archive, tmp_path: Path) -> None:
    node = begin(archive.target)
    assert send(node.port, film("1.2.3")) == [0]
    wait_for(lambda: films(tmp_path / "spool", "done") == 1)
    kept = result_of(tmp_path / "spool" / "done" / named("1.2.3"))
    uid = dcmread(BytesIO(kept)).SOPInstanceUID
    assert archive.got == [(uid, hashlib.sha256(dataset(kept)).hexdigest())]


def test_pauses_grow_to_a_most() -> None:
    patience = Patience()
    assert [patience.pause(n) for n in (1, 2, 3, 7, 1000)] == [5.0, 10.0, 20.0, 300.0, 300.0]
