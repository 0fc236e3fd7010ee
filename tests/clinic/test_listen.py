"""`edgecxr listen` as whoever runs it sees it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from clinic.ends import Archive, film, films, send, wait_for
from edgecxr.cli import extras
from edgecxr.clinic import spool

Run = Callable[..., CompletedProcess[str]]


def start(*arguments: object) -> tuple[subprocess.Popen[str], int]:
    """A node in a process of its own, and its port, once it says that it is ready."""
    command = [
        sys.executable,
        "-m",
        "edgecxr",
        "listen",
        "--port",
        "0",
        "--engine",
        "onnxruntime",
        *map(str, arguments),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("ready: EDGECXR on port "), (line, process.communicate(timeout=30))
    return process, int(line.split()[-1])


@pytest.mark.parametrize("how", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_it_says_when_it_is_ready_and_a_signal_drains_it(
    tiny_bundle: Path, archive: Archive, tmp_path: Path, edgecxr: Run, how: signal.Signals
) -> None:
    place = tmp_path / "spool"
    process, port = start("--spool", place, "-m", tiny_bundle, "--send", archive.target, "--keep-free", 0)
    name = "CANARY^PATIENT"
    assert send(port, film("1.2.3", PatientName=name), film("1.2.3", 1, PatientName=name)) == [0, 0x0111]
    wait_for(lambda: films(place, "done") == 1)
    done = edgecxr("listen", "--spool", place, "--status")
    assert done.returncode == 0
    assert f"{archive.target}: 1 sent, 0 wait, 0 given up" in done.stdout
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + how
    assert out == ""
    assert "another film has this SOP Instance UID (0x0111)" in err
    assert "CANARY" not in err + done.stdout
    assert not (place / ".lock").exists()
    found = json.loads(edgecxr("listen", "--spool", place, "--status", "--json").stdout)
    assert found["films"] == {"received": 0, "scored": 0, "done": 1, "failed": 0}
    assert found["targets"] == {str(archive.target): {"waiting": 0, "sent": 1, "given_up": 0}}


def test_what_was_given_up_is_shown_and_asked_for_again(tmp_path: Path, edgecxr: Run) -> None:
    place = tmp_path / "spool"
    with spool.Spool(place, spool.Room(free_bytes=0)).held() as held:
        _, entry = held.receive("1.2.3", film("1.2.3"), "d", "X")
        assert entry is not None
        entry.note("given_up", code="no_result")
        held.settle(entry)
    shown = edgecxr("listen", "--spool", place, "--status").stdout
    assert "failed     1\n  1 no_result\n" in shown
    assert edgecxr("listen", "--spool", place, "--requeue").stdout == "1 films are tried again\n"
    with spool.Spool(place, spool.Room(free_bytes=0)).held() as held:
        assert [entry.history.stage for entry in held.taken_up(())] == ["received"]
    assert edgecxr("listen", "--spool", place, "--requeue").stdout == "nothing was given up\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--send", "PACS"], "expected AET@HOST:PORT, got: PACS"),
        (["--allow", "PACS"], "expected AET@HOST, got: PACS"),
        (["--allow", "A@host.invalid"], "without an IPv4 address: host.invalid"),
        (["--aet", "A" * 17], "an AE title has 1 to 16 characters"),
        (["--tls", "no.pem", "no.key"], "--tls takes a certificate and its key"),
        (["--send-tls", "no.pem"], "--send-tls takes certificates of authorities"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_taken(
    edgecxr: Run, tiny_bundle: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    done = edgecxr("listen", "--spool", tmp_path / "spool", "--port", 0, "-m", tiny_bundle, *options)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_spool_is_said(edgecxr: Run, tmp_path: Path) -> None:
    for look in ("--status", "--requeue"):
        done = edgecxr("listen", "--spool", tmp_path, look)
        assert done.returncode == 2
        assert "no spool of a node" in done.stderr


def test_without_the_extra_it_says_which_to_install(
    edgecxr: Run, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str, *rest: Any) -> Any:
        if name == "edgecxr.clinic.service":
            raise ImportError("No module named 'pynetdicom'")
        return import_module(name, *rest)

    monkeypatch.setattr(extras, "import_module", absent)
    done = edgecxr("listen", "--spool", tmp_path / "spool", "-m", tiny_bundle)
    assert done.returncode == 4
    assert "pip install 'edgecxr[cpu,node]'" in done.stderr
