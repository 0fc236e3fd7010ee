"""The node: how much of `infer`'s rate is left, how long a result takes, and does memory stay where it is?

    python benchmarks/node.py FILM.dcm [-o benchmarks/results/node.json] [--films 40] [--rounds 3] [--memory 1000]

Each film is a copy of FILM.dcm with UIDs of its own. Rates are of FILMS films, in turn ROUNDS times: `infer` over the
files, `infer --dicom-out` over them, and the node from the first C-STORE to the last result's arrival, its senders (two
associations) and its target being on the same machine. Times are of films that are sent one after another, from the
request to the result's arrival. Memory is the node's own while MEMORY further small films come in, every tenth of them.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pynetdicom import AE, _config, evt

from edgecxr.system.machine import fingerprint

HERE = Path(__file__).parent
SR = "1.2.840.10008.5.1.4.1.1.88.34"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "node.json")
    parser.add_argument("--films", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, default=1000)
    arguments = parser.parse_args()
    _config.LOG_HANDLER_LEVEL = "none"
    film = dcmread(arguments.film)
    with tempfile.TemporaryDirectory() as scratch, Target() as target:
        node = Node(Path(scratch) / "spool", target.port)
        try:
            Sender(node.port).send(film, "9.0")  # whatever the first takes
            target.wait(1)
            report = {
                "schema": 1,
                "film": {"bytes": arguments.film.stat().st_size, "rows": film.Rows, "columns": film.Columns},
                "rates": rates(film, Path(scratch), node, target, arguments.films, arguments.rounds),
                "seconds_to_result": times(film, node, target, arguments.films),
                "memory": memory(small(film), node, target, arguments.memory),
                "machine": fingerprint(["numpy", "pydicom", "pynetdicom", "highdicom", "onnxruntime"]),
                "load_average": os.getloadavg(),
            }
        finally:
            node.end()
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({key: report[key] for key in ("rates", "seconds_to_result", "memory")}, indent=1))


class Target:
    """An archive that remembers when it got how many objects."""

    def __init__(self) -> None:
        self.arrived: list[float] = []
        self._changed = threading.Condition()
        ae = AE("ARCHIVE")
        ae.add_supported_context(SR)
        self._server: Any = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._got)])
        self.port = self._server.server_address[1]

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def _got(self, event: Any) -> int:
        with self._changed:
            self.arrived.append(time.perf_counter())
            self._changed.notify_all()
        return 0x0000

    def wait(self, count: int) -> float:
        """When the `count`-th object arrived, waited for."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.arrived) >= count, 600), "no result came"
            return self.arrived[count - 1]


class Node:
    """`edgecxr listen` in a process of its own."""

    def __init__(self, spool: Path, target: int) -> None:
        command = [sys.executable, "-m", "edgecxr", "listen", "--spool", str(spool), "--port", "0", "--keep-days", "1"]
        self.process = subprocess.Popen(
            [*command, "--send", f"ARCHIVE@127.0.0.1:{target}"], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().split()[-1])

    def resident(self) -> int:
        """KiB that the process has in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        assert found
        return int(found[1])

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(60)


class Sender:
    """One association, on which films go to the node."""

    def __init__(self, port: int) -> None:
        self._port, self._association = port, None

    def send(self, film: Dataset, number: str) -> None:
        one = copy.deepcopy(film)  # a copy of it alone shares its elements with the other sender's
        one.SOPInstanceUID = f"2.25.{number}"
        if self._association is None or not self._association.is_established:
            ae = AE("MODALITY")
            ae.add_requested_context(film.SOPClassUID, film.file_meta.TransferSyntaxUID)
            self._association = ae.associate("127.0.0.1", self._port, ae_title="EDGECXR")
        status = self._association.send_c_store(one)
        assert status.Status == 0, status

    def close(self) -> None:
        if self._association is not None:
            self._association.release()


def rates(film: Dataset, scratch: Path, node: Node, target: Target, films: int, rounds: int) -> dict[str, Any]:
    """Films a second of each way, and the node's as a share of the others', by medians of rounds."""
    folder = scratch / "films"
    folder.mkdir()
    for number in range(films):
        one = copy.deepcopy(film)
        one.SOPInstanceUID = f"2.25.1.{number}"
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
        one.save_as(folder / f"{number}.dcm")
    ways: dict[str, list[float]] = {"infer": [], "infer --dicom-out": [], "node": []}
    for number in range(rounds):
        ways["infer"].append(infer(folder, scratch / f"a{number}.jsonl"))
        out = scratch / f"results{number}"
        ways["infer --dicom-out"].append(infer(folder, scratch / f"b{number}.jsonl", "--dicom-out", str(out)))
        before, begin = len(target.arrived), time.perf_counter()
        threads = [threading.Thread(target=several, args=(film, node, f"2.{number}.{k}", films, k)) for k in (0, 1)]
        for thread in threads:
            thread.start()
        ways["node"].append(films / (target.wait(before + films) - begin))
        for thread in threads:
            thread.join()
    share = {
        f"of {way}": statistics.median(n / other for n, other in zip(ways["node"], ways[way], strict=True))
        for way in ("infer", "infer --dicom-out")
    }
    return {"films_a_second": ways, "share": share}


def several(film: Dataset, node: Node, prefix: str, films: int, which: int) -> None:
    sender = Sender(node.port)
    for number in range(which, films, 2):
        sender.send(film, f"{prefix}.{number}")
    sender.close()


def infer(folder: Path, output: Path, *options: str) -> float:
    """Films a second, by the command's own summary: without its start."""
    command = [sys.executable, "-m", "edgecxr", "infer", str(folder), "-o", str(output), "-q", "--json", *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["pictures_per_second"])


def times(film: Dataset, node: Node, target: Target, films: int) -> dict[str, float]:
    sender, seconds = Sender(node.port), []
    for number in range(films):
        before, begin = len(target.arrived), time.perf_counter()
        sender.send(film, f"3.{number}")
        seconds.append(target.wait(before + 1) - begin)
    sender.close()
    return {"films": films, "p50": float(np.percentile(seconds, 50)), "p99": float(np.percentile(seconds, 99))}


def small(film: Dataset) -> Dataset:
    """A film of the same patient with few pixels."""
    one = copy.deepcopy(film)
    rng = np.random.default_rng(0)
    one.Rows = one.Columns = 128
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 12, 11, 0
    one.PixelData = rng.integers(0, 4096, (128, 128)).astype("<u2").tobytes()
    one["PixelData"].VR = "OW"
    one.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    return one


def memory(film: Dataset, node: Node, target: Target, films: int) -> dict[str, Any]:
    """MiB of the node after each tenth of the films."""
    sender, found = Sender(node.port), []
    for number in range(films):
        before = len(target.arrived)
        sender.send(film, f"4.{number}")
        target.wait(before + 1)
        if (number + 1) % max(films // 10, 1) == 0:
            found.append(round(node.resident() / 1024, 1))
    sender.close()
    return {"films": films, "resident_mib": found}


if __name__ == "__main__":
    main()
