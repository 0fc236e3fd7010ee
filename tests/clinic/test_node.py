"""The node from C-STORE to the target: what is taken, what is refused and how, and what a restart goes on with."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread, filewriter
from pydicom.dataset import Dataset
from pynetdicom import AE

import dicoms
from clinic.conftest import Begin
from clinic.ends import Archive, certificate, film, films, send, wait_for
from edgecxr.clinic import score, spool
from edgecxr.clinic.guard import Limits
from edgecxr.clinic.node import NATIVE, Peer, check_aet, tls_context, transfer_syntaxes
from edgecxr.clinic.report import result_uid
from edgecxr.clinic.send import Target
from edgecxr.clinic.spool import named
from edgecxr.errors import UsageError
from edgecxr.pictures.dicom import decoder
from edgecxr.scoring.session import Session


def test_a_film_comes_in_is_scored_and_its_result_goes_out_once(
    begin: Begin, archive: Archive, session: Session, tmp_path: Path
) -> None:
    node = begin(archive.target)
    sent = [film(f"1.2.{n}", seed=n) for n in range(3)]
    assert send(node.port, *sent, sent[0]) == [0, 0, 0, 0]
    wait_for(lambda: films(tmp_path / "spool", "done") == 3)
    assert send(node.port, sent[1]) == [0]
    expected = {result_uid(f"1.2.{n}", session.bundle.digest) for n in range(3)}
    assert {uid for uid, _ in archive.got} == expected
    assert len(archive.got) == 3
    found = spool.status(tmp_path / "spool")
    assert found["statuses"] == {"scored": 3}
    assert found["targets"][str(archive.target)] == {"waiting": 0, "sent": 3, "given_up": 0}
    assert found["sent_again"] == 0


def test_a_result_is_of_the_patient_whose_film_it_answers(begin: Begin, archive: Archive, tmp_path: Path) -> None:
    """Each film its own patient, all at once: none is told of another."""
    node = begin(archive.target)
    numbers = range(8)
    senders = [
        threading.Thread(
            target=send, args=(node.port, film(f"1.2.{n}", n, PatientID=f"P{n}", StudyInstanceUID=f"1.9.{n}"))
        )
        for n in numbers
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    wait_for(lambda: films(tmp_path / "spool", "done") == 8)
    for n in numbers:
        folder = tmp_path / "spool" / "done" / named(f"1.2.{n}")
        (result,) = (path for path in folder.glob("*.dcm") if path.name != "film.dcm")
        said = dcmread(result)
        assert (said.PatientID, said.StudyInstanceUID) == (f"P{n}", f"1.9.{n}")
        assert said.CurrentRequestedProcedureEvidenceSequence[0].StudyInstanceUID == f"1.9.{n}"


def test_what_cannot_be_scored_has_its_reason_and_no_result(begin: Begin, archive: Archive, tmp_path: Path) -> None:
    node = begin(archive.target)
    assert send(node.port, film("1.2.3", ViewPosition="LL")) == [0]
    wait_for(lambda: films(tmp_path / "spool", "done") == 1)
    assert spool.status(tmp_path / "spool")["reasons"] == {"not_frontal": 1}
    assert archive.got == []


def test_a_film_of_which_no_result_can_be_told_is_set_aside_with_its_reason(
    begin: Begin, archive: Archive, tmp_path: Path
) -> None:
    node = begin(archive.target)
    assert send(node.port, film("1.2.3", StudyInstanceUID=None), film("1.2.4")) == [0, 0]
    wait_for(lambda: films(tmp_path / "spool", "failed") == 1 and films(tmp_path / "spool", "done") == 1)
    assert spool.status(tmp_path / "spool")["reasons"] == {"no_result": 1}


def test_echo_is_answered_and_nothing_but_films_is_taken(begin: Begin, tmp_path: Path) -> None:
    node = begin()
    ae = AE("MODALITY")
    ae.add_requested_context("1.2.840.10008.1.1")
    ae.add_requested_context("1.2.840.10008.5.1.4.1.2.1.1")  # Patient Root Query, Find
    ae.add_requested_context("1.2.840.10008.5.1.4.1.1.2")  # CT
    ae.add_requested_context("1.2.3.4")
    association = ae.associate("127.0.0.1", node.port, ae_title="EDGECXR")
    assert association.send_c_echo().Status == 0
    assert [context.abstract_syntax for context in association.accepted_contexts] == ["1.2.840.10008.1.1"]
    association.release()


def test_another_ae_title_is_refused_and_said(begin: Begin, caplog: pytest.LogCaptureFixture) -> None:
    node = begin()
    with caplog.at_level(logging.WARNING, "edgecxr"):
        assert send(node.port, film(), called="OTHER") == []
        wait_for(lambda: "it asked for OTHER, and this is EDGECXR" in caplog.text)


def test_who_is_not_allowed_is_refused_and_said(begin: Begin, caplog: pytest.LogCaptureFixture) -> None:
    node = begin(allowed=(Peer("MODALITY", "127.0.0.1"), Peer("OTHER", "127.0.0.2")))
    with caplog.at_level(logging.WARNING, "edgecxr"):
        assert send(node.port, film("1.2.3")) == [0]
        assert send(node.port, film("1.2.4"), calling="OTHER") == []  # from another host than is allowed
        assert send(node.port, film("1.2.5"), bind_address=("127.0.0.3", 0)) == []
        wait_for(lambda: "association of OTHER from 127.0.0.1 refused" in caplog.text)
        wait_for(lambda: "connection from 127.0.0.3 refused" in caplog.text)


def test_without_allow_the_node_is_there_for_this_machine_alone(begin: Begin) -> None:
    listening = begin()._listener._server
    assert listening.server_address[0] == "127.0.0.1"


@pytest.mark.filterwarnings("ignore")  # pydicom's, of such a UID
@pytest.mark.parametrize("uid", ["../../../x", "/etc/passwd", "1.2.3;rm", "1..2", ""])
def test_a_uid_that_is_a_path_is_refused(begin: Begin, tmp_path: Path, uid: str) -> None:
    node = begin()
    data = dcmread(BytesIO(film("1.2.3")))
    data.SOPInstanceUID = uid
    ae = AE("MODALITY")
    ae.dimse_timeout = 3  # an empty UID is no request that pynetdicom answers
    ae.add_requested_context(data.SOPClassUID, data.file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", node.port, ae_title="EDGECXR")
    status = association.send_c_store(data)
    association.release()
    assert status.get("Status", 0xC000) in (0x0117, 0xC000)
    assert films(tmp_path / "spool", "received") == films(tmp_path / "spool", "done") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spool"]


def test_a_film_that_says_another_uid_than_its_sender_is_refused(begin: Begin) -> None:
    node = begin()
    data = dcmread(BytesIO(film("1.2.3")))
    ae = AE("MODALITY")
    ae.add_requested_context(data.SOPClassUID, data.file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", node.port, ae_title="EDGECXR")
    request = association.send_c_store
    from pynetdicom import dimse, dimse_primitives

    class Lies(dimse_primitives.C_STORE):
        @property
        def AffectedSOPInstanceUID(self) -> str:  # noqa: N802
            return "1.2.999"

        @AffectedSOPInstanceUID.setter
        def AffectedSOPInstanceUID(self, value: str) -> None:  # noqa: N802
            pass

    import pynetdicom.association

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pynetdicom.association, "C_STORE", Lies)
        patch.setitem(dimse._RQ_TO_MESSAGE, Lies, dimse._RQ_TO_MESSAGE[dimse_primitives.C_STORE])
        status = request(data)
    association.release()
    assert status.Status == 0xA900


def test_two_films_with_one_uid_and_other_pixels_are_the_first_and_a_refusal(
    begin: Begin, archive: Archive, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = begin(archive.target)
    with caplog.at_level(logging.WARNING, "edgecxr"):
        assert send(node.port, film("1.2.3", seed=1), film("1.2.3", seed=2)) == [0, 0x0111]
        wait_for(lambda: "another film has this SOP Instance UID (0x0111)" in caplog.text)
    wait_for(lambda: films(tmp_path / "spool", "done") == 1)
    assert send(node.port, film("1.2.3", seed=2), film("1.2.3", seed=1)) == [0x0111, 0]
    assert len(archive.got) == 1
    kept = (tmp_path / "spool" / "done" / named("1.2.3") / "film.dcm").read_bytes()
    assert dcmread(BytesIO(kept)).PixelData == dcmread(BytesIO(film("1.2.3", seed=1))).PixelData


def test_no_patient_stands_in_the_log(
    begin: Begin, archive: Archive, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "edgecxr"):
        node = begin(archive.target)
        send(node.port, film("1.2.3", PatientID="CANARY"), film("1.2.3", seed=2), film("1.2.4", ViewPosition="LL"))
        wait_for(lambda: films(tmp_path / "spool", "done") == 2)
    assert "received" in caplog.text
    assert "CANARY" not in caplog.text
    for path in (tmp_path / "spool").rglob("journal.jsonl"):
        assert b"CANARY" not in path.read_bytes()


def test_a_full_disk_is_out_of_resources_and_nothing_is_half_there(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = begin()
    real = spool.write

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(spool, "write", full)
    assert send(node.port, film("1.2.3")) == [0xA700]
    monkeypatch.setattr(spool, "write", real)
    assert send(node.port, film("1.2.3")) == [0]
    wait_for(lambda: films(tmp_path / "spool", "done") == 1)


def test_results_that_cannot_be_kept_are_made_again_once_there_is_room(
    begin: Begin, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgecxr.clinic import service

    monkeypatch.setattr(service, "DISK_SECONDS", 0.01)
    node, real, failures = begin(archive.target), spool.write, []

    def full_for_results(path: Path, data: bytes) -> None:
        if path.name != "film.dcm" and len(failures) < 2 * score.MAX_ATTEMPTS:
            failures.append(path)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, data)

    monkeypatch.setattr(spool, "write", full_for_results)
    assert send(node.port, film("1.2.3")) == [0]
    wait_for(lambda: len(archive.got) == 1)
    assert len(failures) == 2 * score.MAX_ATTEMPTS


def test_a_restart_goes_on_with_what_waits(begin: Begin, archive: Archive, tmp_path: Path) -> None:
    archive.close()
    node = begin(archive.target)
    assert send(node.port, film("1.2.3"), film("1.2.4", seed=1)) == [0, 0]
    wait_for(lambda: films(tmp_path / "spool", "scored") == 2)
    node.end()  # type: ignore[attr-defined]
    archive.open()
    begin(archive.target)
    wait_for(lambda: films(tmp_path / "spool", "done") == 2)
    assert len(archive.got) == 2
    assert spool.status(tmp_path / "spool")["sent_again"] == 0


def test_a_film_that_ends_the_program_again_and_again_is_set_aside(
    begin: Begin, archive: Archive, tmp_path: Path
) -> None:
    with spool.Spool(tmp_path / "spool", spool.Room(free_bytes=0)).held() as held:
        _, entry = held.receive("1.2.3", film("1.2.3"), "d", "X")
        assert entry is not None
        for _ in range(score.MAX_ATTEMPTS):
            entry.note("scoring")
    node = begin(archive.target)
    assert send(node.port, film("1.2.4")) == [0]
    wait_for(lambda: films(tmp_path / "spool", "failed") == 1 and films(tmp_path / "spool", "done") == 1)
    assert spool.status(tmp_path / "spool")["reasons"] == {"ended_the_program": 1}


def test_a_target_that_is_none_any_more_leaves_its_results_under_failed(
    begin: Begin, archive: Archive, tmp_path: Path
) -> None:
    archive.close()
    node = begin(archive.target)
    assert send(node.port, film("1.2.3")) == [0]
    wait_for(lambda: films(tmp_path / "spool", "scored") == 1)
    node.end()  # type: ignore[attr-defined]
    archive.port = 0
    archive.open()
    begin(archive.target)
    wait_for(lambda: films(tmp_path / "spool", "failed") == 1)
    assert archive.got == []
    spool.request_requeue(tmp_path / "spool")
    wait_for(lambda: films(tmp_path / "spool", "done") == 1)
    assert len(archive.got) == 1


def test_with_a_heat_map_a_picture_goes_beside_the_report(begin: Begin, archive: Archive, tmp_path: Path) -> None:
    node = begin(archive.target, heat_map=True)
    assert send(node.port, film("1.2.3")) == [0]
    wait_for(lambda: films(tmp_path / "spool", "done") == 1)
    assert len({uid for uid, _ in archive.got}) == 2


@pytest.mark.parametrize("syntax", NATIVE)
def test_every_plain_transfer_syntax_is_taken_and_scored(begin: Begin, tmp_path: Path, syntax: str) -> None:
    node = begin()
    assert send(node.port, film("1.2.3", syntax=syntax)) == [0]
    wait_for(lambda: films(tmp_path / "spool", "done") == 1)
    assert spool.status(tmp_path / "spool")["statuses"] == {"scored": 1}


def test_compressed_films_are_taken_where_they_can_be_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dicoms.JPEG_LOSSLESS_FIRST in transfer_syntaxes()
    monkeypatch.setattr(decoder, "available", lambda: False)
    assert set(transfer_syntaxes()) == {*NATIVE, dicoms.JPEG_BASELINE}


def test_a_crash_of_a_result_is_one_film(begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = filewriter.dcmwrite

    def sometimes(file: object, data: Dataset, **more: object) -> None:
        if data.PatientID == "BAD":
            raise KeyError("of a library")
        real(file, data, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(filewriter, "dcmwrite", sometimes)
    node = begin()
    assert send(node.port, film("1.2.3", PatientID="BAD"), film("1.2.4")) == [0, 0]
    wait_for(lambda: films(tmp_path / "spool", "failed") == 1 and films(tmp_path / "spool", "done") == 1)
    assert spool.status(tmp_path / "spool")["reasons"] == {"no_result": 1}


def test_a_node_needs_a_bundle_that_reads_dicom(begin: Begin, session: Session) -> None:
    import dataclasses

    from edgecxr.clinic.service import Node, Settings

    old = dataclasses.replace(session.bundle.preprocessing, version=1)
    with pytest.raises(UsageError, match="contract version 2"):
        Node(
            dataclasses.replace(session, bundle=dataclasses.replace(session.bundle, preprocessing=old)),
            None,  # type: ignore[arg-type]  # it isn't come to
            Settings(),
        )


def test_a_port_that_is_taken_is_said(begin: Begin, archive: Archive, session: Session, tmp_path: Path) -> None:
    from edgecxr.clinic.node import Address
    from edgecxr.clinic.service import Node, Settings

    other = spool.Spool(tmp_path / "other", spool.Room(free_bytes=0))
    with other.held() as held, pytest.raises(UsageError, match="can't be listened on"):
        Node(session, held, Settings(Address(port=archive.port)))


def test_titles_and_addresses_are_checked() -> None:
    for text in ("A", "@host", "A@", "a" * 17 + "@h", "A\\B@h"):
        with pytest.raises(UsageError):
            Peer.parse(text)
    for text in ("A@h", "A@h:0", "A@h:x", "A@:104", "@h:104", "A@h:70000"):
        with pytest.raises(UsageError):
            Target.parse(text)
    assert Target.parse("PACS@10.0.0.1:104") == Target("PACS", "10.0.0.1", 104)
    assert check_aet("MY NODE") == "MY NODE"


def test_over_tls_films_come_in_and_without_it_nothing_does(begin: Begin, archive: Archive, tmp_path: Path) -> None:
    import socket
    import ssl
    import time

    paths = certificate(tmp_path)
    limits = Limits(request_seconds=5)
    node = begin(archive.target, tls=tls_context(*paths), limits=limits)
    trusting = ssl.create_default_context(cafile=str(paths[0]))
    silent = socket.create_connection(("127.0.0.1", node.port))  # says nothing, and holds nobody up
    began = time.monotonic()
    assert send(node.port, film("1.2.3"), tls_args=(trusting, "localhost")) == [0]
    assert time.monotonic() - began < 4
    assert send(node.port, film("1.2.4")) == []
    silent.close()
    wait_for(lambda: films(tmp_path / "spool", "done") == 1)
    with pytest.raises(UsageError, match="as PEM"):
        tls_context(paths[1], paths[0])


def test_an_association_flood_leaves_room_for_the_next_sender(
    begin: Begin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Connections that say nothing are closed; beyond twice the associations they aren't looked at."""
    import socket

    node = begin(limits=Limits(associations=3, request_seconds=1.0))
    before = threading.active_count()
    with caplog.at_level(logging.WARNING, "edgecxr"):
        flood = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(60)]
        wait_for(lambda: "6 are open" in caplog.text)
        assert threading.active_count() <= before + 2 * 6
        wait_for(lambda: send(node.port, film("1.2.3")) == [0])
    for connection in flood:
        connection.close()
    wait_for(lambda: films(tmp_path / "spool", "done") == 1)


def test_more_associations_than_are_allowed_are_refused(begin: Begin) -> None:
    node = begin(limits=Limits(associations=2))
    ae = AE("MODALITY")
    ae.add_requested_context("1.2.840.10008.1.1")
    many = [ae.associate("127.0.0.1", node.port, ae_title="EDGECXR") for _ in range(3)]
    assert [association.is_established for association in many] == [True, True, False]
    for association in many[:2]:
        association.release()
    wait_for(lambda: send(node.port, film("1.2.3")) == [0])


def test_closing_waits_for_what_is_in_hand_and_takes_nothing_more(
    begin: Begin, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()
    real: Callable[..., object] = score.answer

    def slow(*rest: object, **more: object) -> object:
        begun.release()
        assert go_on.wait(20)
        return real(*rest, **more)

    monkeypatch.setattr(score, "answer", slow)
    node = begin(archive.target)
    films = [film(f"1.2.{number}", seed=number) for number in (3, 4, 6)]
    assert send(node.port, *films) == [0, 0, 0]
    for _ in range(2):  # threads that score, one more than workers
        assert begun.acquire(timeout=20)
    ending = threading.Thread(target=node.end)  # type: ignore[attr-defined]
    ending.start()
    wait_for(lambda: send(node.port, film("1.2.5")) == [])
    go_on.set()
    ending.join(30)
    assert not ending.is_alive()
    found = spool.status(tmp_path / "spool")["films"]
    assert found["received"] == 1
    assert found["scored"] + found["done"] == 2
