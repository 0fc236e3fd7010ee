"""Other people's programs as senders and targets: dcmtk and Orthanc. `pytest -m peers`; CONTRIBUTING says how to
install them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

import dicoms
from clinic.conftest import Begin
from clinic.ends import CR, SR, film, films, wait_for
from common import REAL
from edgecxr.clinic import spool
from edgecxr.clinic.node import Peer
from edgecxr.clinic.report import result_uid
from edgecxr.clinic.send import Target
from edgecxr.scoring.session import Session

pytestmark = pytest.mark.peers
# pynetdicom installs programs of dcmtk's names beside Python: they aren't who is to be met here.
PLACES = [p for p in os.get_exec_path() if Path(p).resolve() != Path(sys.executable).parent] + ["/usr/sbin"]


def program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join(PLACES))


ORTHANC = program("Orthanc") or "Orthanc"


@pytest.fixture(autouse=True)
def _installed() -> None:
    for name in ("storescu", "storescp", "echoscu", "findscu", "dsr2html", "Orthanc"):
        if program(name) is None:
            pytest.skip(f"no {name} here")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def call(*command: object) -> subprocess.CompletedProcess[str]:
    name, *arguments = map(str, command)
    return subprocess.run([program(name) or name, *arguments], check=False, capture_output=True, text=True, timeout=120)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[tuple[Target, Path]]:
    """dcmtk's target, and the folder into which it writes."""
    folder, port = tmp_path / "received", free_port()
    folder.mkdir()
    log = tmp_path / "storescp.log"
    with log.open("wb") as written:
        command = [program("storescp") or "storescp", "-v", "-aet", "DCMTK", "-od", str(folder), str(port)]
        process = subprocess.Popen(command, stdout=written, stderr=written)
    try:
        wait_for(lambda: listens(port), 60)
        yield Target("DCMTK", "127.0.0.1", port), folder
    finally:
        process.kill()
        process.wait(10)


def orthanc(folder: Path, modalities: dict[str, Any], more: str = "") -> tuple[subprocess.Popen[bytes], int, int]:
    """Orthanc on the loopback: the process, its DICOM port and its HTTP port."""
    folder.mkdir()
    dicom, http = free_port(), free_port()
    script = folder / "route.lua"
    script.write_text(more)
    settings = {
        "Name": "peer", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
        "DicomAet": "ORTHANC", "DicomPort": dicom, "HttpPort": http, "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False, "DicomModalities": modalities, "LuaScripts": [str(script)] if more else [],
        "DicomCheckCalledAet": True, "Plugins": [],
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    log = (folder / "log").open("wb")
    process = subprocess.Popen([ORTHANC, str(folder / "orthanc.json")], stdout=log, stderr=log)
    log.close()
    wait_for(lambda: listens(dicom) and listens(http), 60)
    return process, dicom, http


def get(http: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{http}{path}", timeout=20) as answer:
        return answer.read()


def test_dcmtk_sends_and_takes(begin: Begin, storescp: tuple[Target, Path], session: Session, tmp_path: Path) -> None:
    target, folder = storescp
    node = begin(target, allowed=(Peer("STORESCU", "127.0.0.1"),))
    assert call("echoscu", "-aec", "EDGECXR", "-aet", "STORESCU", "127.0.0.1", node.port).returncode == 0
    for number in range(3):
        (tmp_path / f"{number}.dcm").write_bytes(
            film(f"1.2.{number}", number, PatientName="Müller^Änne", SpecificCharacterSet="ISO_IR 192")
        )
    sent = call(
        "storescu", "-v", "-aec", "EDGECXR", "-aet", "STORESCU", "127.0.0.1", node.port, *tmp_path.glob("*.dcm")
    )
    assert sent.returncode == 0, sent.stderr
    wait_for(lambda: films(tmp_path / "spool", "done") == 3)
    received = [dcmread(path) for path in folder.iterdir()]
    assert {data.SOPInstanceUID for data in received} == {
        result_uid(f"1.2.{n}", session.bundle.digest) for n in range(3)
    }
    shown = call("dsr2html", "-Ee", *list(folder.iterdir())[:1])
    assert "COVID-19" in shown.stdout


def test_dcmtk_is_refused_where_it_may_not(begin: Begin, tmp_path: Path) -> None:
    node = begin(allowed=(Peer("STORESCU", "127.0.0.1"),))
    (tmp_path / "a.dcm").write_bytes(film("1.2.3"))
    query = ("-P", "-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientName=*")
    found = call("findscu", "-v", "-aec", "EDGECXR", "-aet", "STORESCU", *query, "127.0.0.1", node.port)
    assert "No Acceptable Presentation Contexts" in found.stdout + found.stderr
    for titles in (("-aec", "OTHER", "-aet", "STORESCU"), ("-aec", "EDGECXR", "-aet", "SOMEBODY")):
        assert call("storescu", *titles, "127.0.0.1", node.port, tmp_path / "a.dcm").returncode != 0
    assert not list((tmp_path / "spool").rglob("*.dcm"))


@pytest.mark.parametrize(
    ("option", "syntax"),
    [("-xe", "1.2.840.10008.1.2.1"), ("-xi", dicoms.IMPLICIT), ("-xb", dicoms.BIG_ENDIAN), ("-xd", dicoms.DEFLATED),
     ("-xs", dicoms.JPEG_LOSSLESS_FIRST), ("-xt", dicoms.JPEG_LS), ("-xv", dicoms.JPEG_2000), ("-xr", dicoms.RLE)],
)  # fmt: skip
def test_dcmtk_sends_each_transfer_syntax(begin: Begin, tmp_path: Path, option: str, syntax: str) -> None:
    node = begin()
    samples = dicoms.values()
    frame = dicoms.compressed(samples).get(syntax)
    said = {"SOPInstanceUID": "1.2.3", "PatientID": "P", "StudyInstanceUID": "1.2.4", "SeriesInstanceUID": "1.2.5"}
    data = dicoms.film(frame if frame is not None else samples, syntax=syntax, **said)
    (tmp_path / "a.dcm").write_bytes(data)
    sent = call("storescu", "-v", option, "-aec", "EDGECXR", "127.0.0.1", node.port, tmp_path / "a.dcm")
    assert sent.returncode == 0, sent.stderr
    wait_for(lambda: films(tmp_path / "spool", "done") == 1)
    assert spool.status(tmp_path / "spool")["statuses"] == {"scored": 1}


def test_orthanc_sends_and_takes(begin: Begin, session: Session, tmp_path: Path) -> None:
    """An archive that has films sends them to the node, and gets the results into the films' own study."""
    port = free_port()
    process, dicom, http = orthanc(tmp_path / "orthanc", {"node": ["EDGECXR", "127.0.0.1", port]})
    try:
        node = begin(Target("ORTHANC", "127.0.0.1", dicom), port=port)
        for number in range(3):
            (tmp_path / f"{number}.dcm").write_bytes(film(f"1.2.{number}", number))
        assert call("storescu", "-aec", "ORTHANC", "127.0.0.1", dicom, *tmp_path.glob("*.dcm")).returncode == 0
        (study,) = json.loads(get(http, "/studies"))
        request = urllib.request.Request(f"http://127.0.0.1:{http}/modalities/node/store", data=study.encode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200
        wait_for(lambda: films(tmp_path / "spool", "done") == 3)
        (study,) = json.loads(get(http, "/studies"))  # still one
        instances = json.loads(get(http, f"/studies/{study}/instances"))
        found = {instance["MainDicomTags"]["SOPInstanceUID"] for instance in instances}
        assert found == {f"1.2.{n}" for n in range(3)} | {
            result_uid(f"1.2.{n}", session.bundle.digest) for n in range(3)
        }
        for instance in instances:
            kept = dcmread(BytesIO(get(http, f"/instances/{instance['ID']}/file")))
            assert kept.SOPClassUID in (CR, SR)
            assert kept.PatientName == "CANARY^NAME"
    finally:
        process.terminate()
        process.wait(30)
    assert node.port == port


def test_orthanc_that_is_stopped_and_started_has_each_result_once(
    begin: Begin, session: Session, tmp_path: Path
) -> None:
    folder = tmp_path / "orthanc"
    process, dicom, http = orthanc(folder, {})
    node = begin(Target("ORTHANC", "127.0.0.1", dicom))
    process.terminate()
    process.wait(60)
    for number in range(4):
        (tmp_path / f"{number}.dcm").write_bytes(film(f"1.2.{number}", number))
    assert call("storescu", "-aec", "EDGECXR", "127.0.0.1", node.port, *tmp_path.glob("*.dcm")).returncode == 0
    wait_for(lambda: films(tmp_path / "spool", "scored") == 4)
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([ORTHANC, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        wait_for(lambda: films(tmp_path / "spool", "done") == 4, 60)
        wait_for(lambda: listens(http), 30)
        instances = json.loads(get(http, "/instances?expand"))
        found = [instance["MainDicomTags"]["SOPInstanceUID"] for instance in instances]
        assert sorted(found) == sorted(result_uid(f"1.2.{n}", session.bundle.digest) for n in range(4))
    finally:
        process.terminate()
        process.wait(30)


def test_real_films_by_the_embedded_model(
    begin: Callable[..., Any], storescp: tuple[Target, Path], tmp_path: Path
) -> None:
    """Films as they are found, sent by storescu, their results taken by storescp and shown by dsr2html."""
    from edgecxr.bundle import load
    from edgecxr.scoring.session import open_session

    data = REAL / "dicom" / "real"
    if not data.is_dir():
        pytest.skip("no real DICOM films here")
    target, folder = storescp
    node = begin(target, session=open_session(load(), workers=1))
    chosen = [path for path in sorted(data.iterdir()) if "RG1" in path.name or "CR-MONO1" in path.name]
    assert chosen
    sent = 0
    for path in chosen:
        done = call("storescu", "-xf", _proposals(tmp_path), "Films", "-aec", "EDGECXR", "127.0.0.1", node.port, path)
        sent += done.returncode == 0
    assert sent
    wait_for(lambda: films(tmp_path / "spool", "done") + films(tmp_path / "spool", "failed") >= 1, 120)
    wait_for(lambda: films(tmp_path / "spool", "received") + films(tmp_path / "spool", "scored") == 0, 120)
    found = spool.status(tmp_path / "spool")
    print(json.dumps(found), os.listdir(folder), time.monotonic())
    for result in folder.iterdir():
        assert call("dsr2html", "-Ee", result).returncode == 0


def _proposals(folder: Path) -> Path:
    """dcmtk's own list of what a sender proposes, of CR and DX in every transfer syntax that the node takes."""
    from edgecxr.clinic.node import CLASSES, transfer_syntaxes

    path = folder / "storescu.cfg"
    syntaxes = [f"TransferSyntax{n + 1} = {uid}" for n, uid in enumerate(transfer_syntaxes())]
    contexts = [
        f"PresentationContext{len(transfer_syntaxes()) * c + n + 1} = {sop_class}\\T{n}"
        for c, sop_class in enumerate(CLASSES[:2])
        for n in range(len(transfer_syntaxes()))
    ]
    lists = [f"[T{n}]\nTransferSyntax1 = {uid}" for n, uid in enumerate(transfer_syntaxes())]
    assert syntaxes
    path.write_text(
        "\n".join(["[[TransferSyntaxes]]", *lists, "[[PresentationContexts]]", "[C]", *contexts,
                   "[[Profiles]]", "[Films]", "PresentationContexts = C", ""])
    )  # fmt: skip
    return path
