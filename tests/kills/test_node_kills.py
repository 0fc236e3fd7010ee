"""SIGKILL at any moment of the node while films come in: every film that was acknowledged has its one result."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from clinic.ends import Archive, film, films, send, wait_for
from edgecxr.bundle import load
from edgecxr.clinic import journal, spool
from edgecxr.clinic.report import result_uid
from kills.nodes import Nodes


class Modality(threading.Thread):
    """Sends one film after another, each until it is acknowledged."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port, self.acknowledged, self.ended, self.tries = port, [], threading.Event(), 0
        self.acknowledged: list[str] = []

    def run(self) -> None:
        number = 0
        while not self.ended.is_set():
            uid = f"1.2.{number}"
            self.tries += 1
            try:
                statuses = send(self.port, film(uid, number % 50))
            except (OSError, AttributeError):  # the node was killed while pynetdicom looked at its connection
                statuses = []
            if statuses == [0]:
                self.acknowledged.append(uid)
                number += 1
            else:
                assert statuses in ([], [0x10000]), statuses
                self.ended.wait(0.02)


def kill(bundle: Path, tmp_path: Path, kills: int, seed: int) -> str:
    rng, digest = random.Random(seed), load(bundle).digest
    archive = Archive()
    archive.open()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    call = ["listen", "--spool", tmp_path / "spool", "--port", port, "--send", archive.target, "-m", bundle]
    call += ["--engine", "onnxruntime", "--keep-free", "0", "-j", "1"]
    modality = Modality(port)
    begun = 0
    with Nodes(tmp_path, bundle) as nodes:
        number = nodes.start(*call)
        wait_for(nodes.ready, 120)
        modality.start()
        wait_for(lambda: films(tmp_path / "spool", "done") >= 1, 120)
        start = time.monotonic()
        wait_for(lambda: films(tmp_path / "spool", "done") >= 4, 120)
        each = (time.monotonic() - start) / 3  # seconds from one result to the next on this machine
        for _ in range(kills):
            # From its very start, or once it works: at any moment of either.
            if rng.random() < 0.7:
                wait_for(nodes.ready, 120)
                begun += 1
            time.sleep(rng.random() * max(0.5, 4 * each))
            nodes.kill(number)
            number = nodes.start(*call)
        modality.ended.set()
        modality.join(60)
        wait_for(lambda: films(tmp_path / "spool", "done") == len(list((tmp_path / "spool").glob("*/*/film.dcm"))), 300)
        found = spool.status(tmp_path / "spool")
        nodes.kill(number, 15)
    archive.close()
    objects = Counter(archive.got)
    assert len(modality.acknowledged) >= begun / 2
    assert set(modality.acknowledged) <= {f"1.2.{n}" for n in range(len(modality.acknowledged) + 1)}
    uids = [uid for uid, _ in objects]
    assert len(set(uids)) == len(uids), "one UID with two contents"
    lost = {result_uid(uid, digest) for uid in modality.acknowledged} - set(uids)
    assert not lost, f"{len(lost)} films that were acknowledged have no result"
    again = sum(objects.values()) - len(objects)
    assert again <= found["sent_again"] <= kills
    for path in (tmp_path / "spool").glob("*/*/journal.jsonl"):  # once more for each kill in between, and not otherwise
        history, _ = journal.read(path)
        copies = sum(count for (uid, _), count in objects.items() if uid in history.results)
        assert 1 <= copies <= 1 + history.again
    assert found["films"]["failed"] == found["unreadable"] == 0
    return (
        f"{kills} kills, {begun} of them once it was ready: {len(modality.acknowledged)} films acknowledged, each with "
        f"its result; {again} objects came twice, {found['sent_again']} were sent again"
    )


@pytest.mark.slow
def test_three_kills(tiny_bundle: Path, tmp_path: Path) -> None:
    kill(tiny_bundle, tmp_path, kills=3, seed=1)


@pytest.mark.long
def test_a_hundred_kills(tiny_bundle: Path, tmp_path: Path) -> None:
    print(kill(tiny_bundle, tmp_path, kills=100, seed=2))
