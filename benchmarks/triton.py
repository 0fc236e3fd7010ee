"""Triton: does the server answer as `infer`, and what are its rate and latency beside `infer --stdin`?

    python benchmarks/triton.py PICTURES [-m full] [-o benchmarks/results/triton.json] [--seconds 10] [--rounds 3]

The tritonserver of NVIDIA's pytriton wheel serves the Python model of a repository that is written for it, on this
machine, and tritonclient asks it over gRPC. Run it with the Python of an environment that docs/triton.md describes.

In turn ROUNDS times, with 1, 2, 4 and 8 requests at a time: pictures of the folder are sent for SECONDS seconds to the
server (the bytes of a file a request) and to `edgecxr infer --stdin` (its path), each answer timed from its request.
Processor time is that of the server and its backend, or of `infer`: it says what Triton costs on a busy machine too.
Answers to the golden inputs, as PNG, are compared with the bundle's where the contract leaves pictures of that size as
they are; records with those of `infer --stdin`.
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from edgecxr.bundle import Bundle, load
from edgecxr.system.machine import fingerprint
from edgecxr_export.triton import repository

AT_A_TIME = (1, 2, 4, 8)
PATIENCE = 480.0  # seconds for a server to come up on a machine that does other things as well


def installed() -> str:
    """Why a server can't be started here; "" where it can."""
    for module in ("pytriton", "tritonclient.grpc"):
        try:
            if find_spec(module) is None:
                return f"no {module} here"
        except ModuleNotFoundError:
            return f"no {module} here"
    return ""


class Server:
    """A tritonserver with a Python backend on loopback, offering `models` of a repository; a context manager."""

    def __init__(self, models: Path, *names: str) -> None:
        self._models, self._names = models, names

    def __enter__(self) -> Self:
        self._scratch = Path(tempfile.mkdtemp(prefix="edgecxr-triton-"))
        spec = find_spec("pytriton")
        assert spec is not None and spec.submodule_search_locations
        package = Path(spec.submodule_search_locations[0])
        shutil.copytree(package / "tritonserver" / "backends" / "python", self._scratch / "python")
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        stub = package / "tritonserver" / "python_backend_stubs" / python / "triton_python_backend_stub"
        shutil.copy(stub, self._scratch / "python")
        self.port = _free_port()
        options = {
            "--model-repository": self._models,
            "--backend-directory": self._scratch,
            "--grpc-address": "127.0.0.1",
            "--grpc-port": self.port,
            "--allow-http": "false",
            "--allow-metrics": "false",
            "--exit-on-error": "false",
            "--model-control-mode": "explicit",
        }
        command = [str(package / "tritonserver" / "bin" / "tritonserver")]
        command += [f"{name}={value}" for name, value in options.items()]
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(package.parent / "nvidia_pytriton.libs"),
            # The stub takes the Python whose folder is first.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        }
        log = (self._scratch / "log").open("wb")
        self.begun = time.perf_counter()
        self.process = subprocess.Popen(
            [*command, *(f"--load-model={name}" for name in self._names)],
            stdout=log, stderr=subprocess.STDOUT, env=environment,
        )  # fmt: skip
        log.close()
        from tritonclient import grpc

        self.client: Any = grpc.InferenceServerClient(f"127.0.0.1:{self.port}")
        end = time.monotonic() + PATIENCE
        while not self._live():
            if self.process.poll() is not None or time.monotonic() > end:
                said = self.log()
                self.__exit__()
                raise RuntimeError(f"the server didn't come up within {PATIENCE:g} s: {said}")
            time.sleep(0.1)
        self.seconds = time.perf_counter() - self.begun
        return self

    def _live(self) -> bool:
        """Whether it answers: once every model was loaded or refused."""
        from tritonclient.utils import InferenceServerException

        try:
            return bool(self.client.is_server_live())
        except InferenceServerException:
            return False

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self._scratch)

    def log(self) -> str:
        return (self._scratch / "log").read_text(errors="replace")

    def why(self, model: str) -> str:
        """The reason why the server doesn't offer a model, "" where it does."""
        index = self.client.get_model_repository_index(as_json=True).get("models", [])
        return next(str(row.get("reason", "")) for row in index if row["name"] == model)

    def ask(self, model: str, files: Sequence[bytes], client: Any = None) -> list[dict[str, Any]]:
        """The records of one request of several files."""
        from tritonclient import grpc

        array = np.array([[data] for data in files], dtype=np.object_)
        given = grpc.InferInput("FILE", array.shape, "BYTES")
        given.set_data_from_numpy(array)
        found = (client or self.client).infer(model, [given]).as_numpy("RECORD")
        return [json.loads(text) for text in found[:, 0]]

    def processes(self) -> dict[str, int]:
        """The server and its Python backend's programs, by name."""
        found = {"tritonserver": self.process.pid}
        for folder in Path("/proc").iterdir():
            try:
                stat = (folder / "stat").read_text()
            except OSError:
                continue
            name, _, rest = stat.partition("(")[2].rpartition(")")
            if int(rest.split()[1]) == self.process.pid:
                found[f"{name} {folder.name}"] = int(folder.name)
        return found

    def cpu_seconds(self) -> float:
        return sum(map(cpu_seconds, self.processes().values()))

    def memory(self) -> dict[str, float]:
        """MB that each of them holds."""
        pages = {name: int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for name, pid in self.processes().items()}
        return {name: round(count * os.sysconf("SC_PAGE_SIZE") / 1e6, 1) for name, count in pages.items()}


class Stdin:
    """`edgecxr infer --stdin`, asked by its lines; a context manager."""

    def __init__(self, model: str) -> None:
        self._command = [sys.executable, "-m", "edgecxr", "infer", "--stdin", "-q", "-m", model]
        self._command += ["--device", "cpu"]
        self._lock = threading.Lock()
        self._waiting: collections.deque[tuple[threading.Event, list[str]]] = collections.deque()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def cpu_seconds(self) -> float:
        return cpu_seconds(self._process.pid)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event, answer = self._waiting.popleft()
            answer.append(line)
            event.set()

    def ask(self, path: Path) -> dict[str, Any]:
        assert self._process.stdin is not None
        event, answer = threading.Event(), list[str]()
        with self._lock:
            self._waiting.append((event, answer))
            self._process.stdin.write(f"{path}\n")
            self._process.stdin.flush()
        assert event.wait(PATIENCE), "infer --stdin is silent"
        found: dict[str, Any] = json.loads(answer[0])
        return found


def cpu_seconds(pid: int) -> float:
    """Processor time of a process, all its threads (proc(5): utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("-m", "--model", default="full")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "triton.json")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-a-time", default=",".join(map(str, AT_A_TIME)))
    arguments = parser.parse_args()
    if reason := installed():
        sys.exit(f"tritonserver can't be run, see docs/triton.md: {reason}")
    bundle = load(arguments.model)
    pictures = sorted(path for path in arguments.pictures.rglob("*") if path.is_file())
    counts = [int(count) for count in arguments.at_a_time.split(",")]
    with tempfile.TemporaryDirectory() as scratch:
        name = repository.write(arguments.model, Path(scratch) / "models")[0]
        with Server(Path(scratch) / "models", name) as server, Stdin(arguments.model) as stdin:
            assert not server.why(name), server.why(name)
            report = {
                "schema": 1,
                "bundle_sha256": bundle.digest,
                "server": server.client.get_server_metadata(as_json=True),
                "seconds_until_ready": round(server.seconds, 1),
                "golden": golden(bundle, server, name),
                "records": records(server, name, stdin, pictures),
                "pictures": len(pictures),
                "rounds": arguments.rounds,
                "seconds": arguments.seconds,
                "measured": compare(server, name, stdin, pictures, counts, arguments.rounds, arguments.seconds),
                "memory_mb": server.memory(),
                "machine": fingerprint(["edgecxr", "numpy", "onnxruntime", "nvidia-pytriton", "tritonclient"]),
                "load_average": os.getloadavg(),
            }
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({key: report[key] for key in ("golden", "records", "measured", "memory_mb")}, indent=1))


def golden(bundle: Bundle, server: Server, name: str) -> dict[str, Any]:
    """The largest difference of a logit from the golden ones; None where the contract resizes such pictures."""
    contract, inputs = bundle.preprocessing, bundle.golden_inputs()
    limit = contract.source_size
    if limit is not None and limit < max(contract.height, contract.width):
        return {"max_difference": None, "why": f"pictures are first reduced to {limit} px, golden inputs are larger"}
    answers = server.ask(name, [png(image) for image in inputs])
    kind = (answers[0]["engine"], answers[0]["precision"])
    stored = {artifact.file: artifact.precision for artifact in bundle.artifacts}
    row = next(r for r in bundle.golden_expected() if (r.engine, r.precision or stored[r.artifact]) == kind)
    logits = np.array([[answer[f"logit_{label}"] for label in bundle.labels] for answer in answers])
    return {
        "pictures": len(inputs),
        "max_difference": float(np.abs(logits - row.logits).max()),
        "tolerance": row.tolerance,
    }


def records(server: Server, name: str, stdin: Stdin, pictures: Sequence[Path]) -> dict[str, int]:
    """How many files have the record of `infer --stdin`, path and times aside."""
    aside = ("path", "mtime_ns", "time_utc")

    def kept(record: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in record.items() if key not in aside}

    same = [kept(server.ask(name, [path.read_bytes()])[0]) == kept(stdin.ask(path)) for path in pictures]
    return {"pictures": len(same), "equal": sum(same)}


def compare(
    server: Server,
    name: str,
    stdin: Stdin,
    pictures: Sequence[Path],
    counts: Sequence[int],
    rounds: int,
    seconds: float,
) -> list[dict[str, Any]]:
    """Rate and latency of either, by how many requests are under way, and the server's rate as a share of stdin's."""
    from tritonclient import grpc

    data = [path.read_bytes() for path in pictures]
    clients = [grpc.InferenceServerClient(f"127.0.0.1:{server.port}") for _ in range(max(counts))]
    asks: dict[str, Callable[[int, int], object]] = {
        "triton": lambda worker, i: server.ask(name, [data[i % len(data)]], clients[worker]),
        "stdin": lambda worker, i: stdin.ask(pictures[i % len(pictures)]),
    }
    used = {"triton": server.cpu_seconds, "stdin": stdin.cpu_seconds}
    found: dict[tuple[int, str], list[Drive]] = collections.defaultdict(list)
    for turn in range(rounds):
        for count in counts:
            for who in ("triton", "stdin") if turn % 2 == 0 else ("stdin", "triton"):
                found[count, who].append(drive(asks[who], used[who], count, seconds))
    for client in clients:
        client.close()
    rows = []
    for count in counts:
        row: dict[str, Any] = {"at_a_time": count}
        for who in asks:
            times = sorted(t for each in found[count, who] for t in each.times)
            row[who] = {
                "pictures_per_second": [round(each.rate, 2) for each in found[count, who]],
                "cpu_ms_a_picture": round(1000 * sum(each.cpu for each in found[count, who]) / len(times), 1),
                "p50_ms": round(1000 * statistics.median(times), 1),
                "p95_ms": round(1000 * times[int(0.95 * (len(times) - 1))], 1),
                "requests": len(times),
            }
        shares = [a.rate / b.rate for a, b in zip(found[count, "triton"], found[count, "stdin"], strict=True)]
        row["share_of_stdin"] = {"median": round(statistics.median(shares), 3), "rounds": [round(s, 3) for s in shares]}
        rows.append(row)
        print(json.dumps(row), file=sys.stderr)
    return rows


@dataclass(frozen=True)
class Drive:
    """What one stretch gave."""

    rate: float  # answers a second
    times: list[float]  # s, of each
    cpu: float  # s, that who answered used


def drive(ask: Callable[[int, int], object], used: Callable[[], float], count: int, seconds: float) -> Drive:
    """Have `count` requests under way for `seconds`, after one that isn't measured."""
    ask(0, 0)
    before, begin = used(), time.perf_counter()

    def work(worker: int) -> Iterator[float]:
        i = worker
        while (start := time.perf_counter()) < begin + seconds:
            ask(worker, i)
            i += count
            yield time.perf_counter() - start

    with ThreadPoolExecutor(count) as pool:
        times = [t for each in pool.map(lambda worker: list(work(worker)), range(count)) for t in each]
    return Drive(len(times) / (time.perf_counter() - begin), times, used() - before)


def png(image: np.ndarray) -> bytes:
    """A network input (H, W, 1) as a file."""
    file = io.BytesIO()
    Image.fromarray(image[:, :, 0]).save(file, "PNG")
    return file.getvalue()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    main()
