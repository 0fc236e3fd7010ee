"""The node: how much of `infer`'s rate is left, how long a result takes, and does memory stay where it is?

    python benchmarks/node.py FILM.dcm [-o benchmarks/results/node.json] [--films 40] [--rounds 3] [--memory 1000]

Each film is a copy of FILM.dcm with UIDs of its own, written before the clock starts. Rates are of FILMS films, in
turn ROUNDS times: `infer` over the files, `infer --dicom-out` over them, and the node from the first C-STORE to the
last result's arrival, its senders (two associations) and its target being on the same machine. CPU times are each
process's own, of `infer` without its start, so that senders, target and whatever else runs aren't in them. Times are of
films that are sent one after another, from the request to the result's arrival. Memory is the node's own while MEMORY
further small films come in, every tenth of them. With --films 0 memory alone is measured.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import re
import resource
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
    _config.STORE_SEND_CHUNKED_DATASET = True  # files as they are: a sender's own work isn't the node's
    film = dcmread(arguments.film)
    with tempfile.TemporaryDirectory() as scratch, Target() as target:
        node = Node(Path(scratch) / "spool", target.port)
        try:
            (first,) = copies(film, Path(scratch) / "first", "9", 1)
            Sender(node.port, film).send(first)  # whatever the first takes
            target.wait(1)
            measured = {}
            if arguments.films:
                measured["rates"] = rates(film, Path(scratch), node, target, arguments.films, arguments.rounds)
                measured["seconds_to_result"] = times(film, Path(scratch), node, target, arguments.films)
            measured["memory"] = memory(small(film), Path(scratch), node, target, arguments.memory)
            report = {
                "schema": 2,
                "film": {"bytes": arguments.film.stat().st_size, "rows": film.Rows, "columns": film.Columns},
                **measured,
                "machine": fingerprint(["numpy", "pydicom", "pynetdicom", "highdicom", "onnxruntime"]),
                "load_average": os.getloadavg(),
            }
        finally:
            node.end()
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(measured, indent=1))


def copies(film: Dataset, folder: Path, prefix: str, count: int) -> list[Path]:
    """Files of that many films, which differ in their UIDs."""
    folder.mkdir()
    paths = [folder / f"{number}.dcm" for number in range(count)]
    for number, path in enumerate(paths):
        write(film, path, f"2.25.{prefix}.{number}")
    return paths


def write(film: Dataset, path: Path, uid: str) -> None:
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = uid
    film.save_as(path)


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

    def cpu_seconds(self) -> float:
        """That the process has taken."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(60)


class Sender:
    """One association, on which films go to the node."""

    def __init__(self, port: int, film: Dataset) -> None:
        self._port, self._association = port, None
        self._context = film.SOPClassUID, film.file_meta.TransferSyntaxUID

    def send(self, path: Path) -> None:
        if self._association is None or not self._association.is_established:
            ae = AE("MODALITY")
            ae.add_requested_context(*self._context)
            self._association = ae.associate("127.0.0.1", self._port, ae_title="EDGECXR")
        status = self._association.send_c_store(path)
        assert status.Status == 0, status

    def close(self) -> None:
        if self._association is not None:
            self._association.release()


def rates(film: Dataset, scratch: Path, node: Node, target: Target, films: int, rounds: int) -> dict[str, Any]:
    """Films a second of each way and its CPU's milliseconds a film, and the node's as a share of the others', by
    medians of rounds."""
    folder = scratch / "films"
    copies(film, folder, "1", films)
    ways: dict[str, list[float]] = {"infer": [], "infer --dicom-out": [], "node": []}
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in ("infer", "infer --dicom-out"):
            rate, seconds = infer(way, folder, scratch / f"{number}")
            _, start = infer(way, folder, scratch / f"{number}-start", "--limit", "1")
            ways[way].append(rate)
            taken[way].append(1e3 * (seconds - start) / (films - 1))
        paths = copies(film, scratch / f"round{number}", f"2.{number}", films)
        before, cpu, begin = len(target.arrived), node.cpu_seconds(), time.perf_counter()
        threads = [threading.Thread(target=several, args=(film, node, paths[k::2])) for k in (0, 1)]
        for thread in threads:
            thread.start()
        ways["node"].append(films / (target.wait(before + films) - begin))
        for thread in threads:
            thread.join()
        taken["node"].append(1e3 * (node.cpu_seconds() - cpu) / films)
    others = ("infer", "infer --dicom-out")
    return {
        "films_a_second": ways,
        "cpu_ms_a_film": taken,
        "share": {f"of {other}": _ratio(ways["node"], ways[other]) for other in others},
        "share_by_cpu": {f"of {other}": _ratio(taken[other], taken["node"]) for other in others},
    }


def _ratio(these: list[float], those: list[float]) -> float:
    return statistics.median(this / that for this, that in zip(these, those, strict=True))


def several(film: Dataset, node: Node, paths: list[Path]) -> None:
    sender = Sender(node.port, film)
    for path in paths:
        sender.send(path)
    sender.close()


def infer(way: str, folder: Path, output: Path, *options: str) -> tuple[float, float]:
    """Films a second, by the command's own summary: without its start. And the seconds of a CPU that it took, with
    it."""
    command = [sys.executable, "-m", "edgecxr", "infer", str(folder), "-q", "--json", *options]
    command += ["-o", f"{output}.jsonl"] if way == "infer" else ["-o", f"{output}-r.jsonl", "--dicom-out", str(output)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return float(json.loads(done.stdout)["pictures_per_second"]), seconds


def times(film: Dataset, scratch: Path, node: Node, target: Target, films: int) -> dict[str, float]:
    sender, seconds = Sender(node.port, film), []
    for path in copies(film, scratch / "times", "3", films):
        before, begin = len(target.arrived), time.perf_counter()
        sender.send(path)
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


def memory(film: Dataset, scratch: Path, node: Node, target: Target, films: int) -> dict[str, Any]:
    """MiB of the node after each tenth of the films, of which no more than some dozens are on their way."""
    sender, found, before = Sender(node.port, film), [], len(target.arrived)
    for number in range(films):
        write(film, scratch / "small.dcm", f"2.25.4.{number}")
        sender.send(scratch / "small.dcm")
        target.wait(before + max(number - 30, 0))
        if (number + 1) % max(films // 10, 1) == 0:
            target.wait(before + number + 1)
            found.append(round(node.resident() / 1024, 1))
            print(f"{number + 1} films: {found[-1]} MiB", file=sys.stderr)
    sender.close()
    return {"films": films, "resident_mib": found}


if __name__ == "__main__":
    main()
