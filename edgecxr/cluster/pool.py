"""Ray: a cluster is joined, or begun on this machine, and parts pass through Ray Data to a pool of workers."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import secrets
import shutil
import socket
import tempfile
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from edgecxr import errors
from edgecxr.cluster.output import Part
from edgecxr.cluster.store import NEEDED
from edgecxr.cluster.worker import Parcel, Settings, Worker
from edgecxr.errors import EdgecxrError, UnavailableError, UsageError
from edgecxr.system import machine

log = logging.getLogger(__name__)  # names no picture

LOCAL = "local"
ANSWER_SECONDS = 5.0  # for a Ray to answer at all
# A part is scored again where its worker died. One that kills each of them (a decoder dies of a file) ends the run.
MAX_RETRIES = 10
STARTS = 3  # Ray gives its own processes half a minute, which a busy machine may exceed
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(\d{1,5})")


@dataclass(frozen=True)
class Size:
    """What a cluster has to give."""

    cpus: int
    gpus: int


def check_address(address: str) -> None:
    """Raise UsageError for what is no address of a Ray."""
    found = _ADDRESS.fullmatch(address)
    if address != LOCAL and not (found and 0 < int(found[2]) < 65536):
        raise UsageError(f"expected --ray HOST:PORT, where the head of a Ray listens, or --ray local, got: {address}")


@contextmanager
def joined(address: str) -> Iterator[Size]:
    """A cluster, until the block is left. `local` is one on this machine alone, which ends with the block.

    Raises UnavailableError without Ray, where no Ray answers at the address within ANSWER_SECONDS, and where it is of
    another version or doesn't let this process in.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # What still waits for a part when this one leaves would otherwise begin a Ray of its own.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else its C++ tells stderr of each actor
    folder = None
    if address == LOCAL:
        folder = tempfile.mkdtemp(prefix="edgecxr-ray-")
        # By default Ray leaves a token in the home folder, and takes it for one of every cluster from then on.
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    try:
        ray = _ray()
        if folder is None:
            _probe(address)
        with redirect_stdout(_Said()):
            _init(ray, address, folder)
            try:
                found = ray.cluster_resources()
                yield Size(int(found.get("CPU", 0)), int(found.get("GPU", 0)))
            finally:
                ray.shutdown()
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


class _Said(io.TextIOBase):
    """Ray tells of dead workers on stdout, on which the run's summary stands; it goes into the log."""

    def write(self, text: str) -> int:
        if text.strip():
            log.info("ray: %s", text.strip())
        return len(text)


def _ray() -> Any:
    try:
        import grpc
        import ray.data
    except ImportError as error:
        raise UnavailableError(NEEDED.format(error)) from None
    assert grpc
    return ray


def _probe(address: str) -> None:
    """Ask the head whether it is one: `ray.init` waits for minutes where nothing, or something else, is there."""
    import grpc

    what = f"no Ray answers at {address}"
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except OSError as error:
        raise UnavailableError(f"{what}: {error.strerror or error}") from None
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")
        try:
            call(b"", timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            # Another error is an answer: one that wants a token gives it to `ray.init`, which tells.
            silent = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNIMPLEMENTED)
            if error.code() in silent:
                raise UnavailableError(f"{what}: something else listens there") from None


def _init(ray: Any, address: str, folder: str | None) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if folder is not None:
        options |= {"num_cpus": machine.cpus(), "include_dashboard": False, "_temp_dir": folder}
        options["_node_ip_address"] = "127.0.0.1"
    for start in range(1, STARTS + 1):
        try:
            with _unnoticed():
                ray.init(address=address, **options)
            break
        except Exception as error:  # Ray raises what it likes, a bare Exception for a start that took too long
            ray.shutdown()
            if folder is None or "timed out" not in str(error) or start == STARTS:
                where = "on this machine" if folder is not None else f"at {address}"
                raise UnavailableError(f"expected to join the Ray {where}, it says: {_first_line(error)}") from None
            log.warning("Ray's start took too long, and is tried again")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # a part may take its time on a slow store; each read has its limit
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    logging.getLogger("ray").setLevel(logging.ERROR)


@contextmanager
def _unnoticed() -> Iterator[None]:
    """Ray's C++ tells stderr that a level was set, before that level counts. What else is said there is passed on."""
    try:
        kept = os.dup(2)
    except OSError:  # closed
        yield
        return
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            with suppress(OSError):
                os.write(2, b"".join(line for line in said if b"RAY_BACKEND_LOG_LEVEL" not in line))


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".:")[:300]


class Pool:
    """What a worker is, and how many there are; `results` has them score."""

    def __init__(
        self, settings: Settings, name: str, digest: str, files: Mapping[str, bytes], workers: int, *, gpu: bool
    ) -> None:
        import ray

        # Each file once for all workers, and only while it is written down does a worker hold it.
        parcels = {file: partial(ray.get, ray.put(data)) for file, data in files.items()}
        self._arguments = (settings, Parcel(name, digest, parcels))
        self._workers, self._cpus, self._gpu = workers, settings.threads if not gpu else settings.workers, gpu

    def results(self, parts: Iterable[tuple[int, bytes]], size: int) -> Iterator[tuple[int, Part]]:
        """(number, part of the records) of parts of the listing, as they are finished.

        Nothing is written on the cluster: what a worker has made comes back at once, so that no write waits behind the
        map. Raises what a worker raised while it opened, and UnavailableError where the cluster fails.
        """
        import pyarrow as pa
        import ray
        from ray.data import ActorPoolStrategy

        options: dict[str, Any] = {
            "num_cpus": self._cpus,
            "num_gpus": 1 if self._gpu else None,
            "compute": ActorPoolStrategy(min_size=1, max_size=self._workers, initial_size=self._workers),
            "ray_remote_args_fn": partial(dict, max_task_retries=MAX_RETRIES),
            "fn_constructor_args": (*self._arguments, size),
            "batch_size": None,  # a block is a part
            "batch_format": "pyarrow",
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a later Ray has other names for some of these
            # The driver holds all that is to do, and paths are much alike.
            waiting = [pa.table({"part": [number], "lines": [zlib.compress(lines, 1)]}) for number, lines in parts]
            scored = ray.data.from_arrow(waiting).map_batches(_Scorer, **options)
        del waiting
        try:
            for batch in scored.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for row in batch.to_pylist():
                    if row["raised"]:
                        raise getattr(errors, row["raised"])(row["message"])
                    yield row["part"], Part(row["parquet"], **json.loads(row["rest"]))
        except ray.exceptions.RayError as error:
            raise UnavailableError(f"the cluster failed, --resume goes on; it says: {_first_line(error)}") from None


class _Scorer:
    """A worker as Ray Data calls it: a row of a table becomes a row of a table. What is raised on purpose is a row too,
    since Ray would wrap it in a page of its own."""

    def __init__(self, settings: Settings, parcel: Parcel, size: int) -> None:
        self._size = size
        self._raised: EdgecxrError | None = None
        try:
            self._worker = Worker(settings, parcel)
        except EdgecxrError as error:
            self._raised = error

    def __call__(self, batch: Any) -> Any:
        import pyarrow as pa

        (row,) = batch.to_pylist()
        made: dict[str, Any] = {"part": row["part"], "raised": "", "message": "", "parquet": b"", "rest": ""}
        try:
            if self._raised is not None:
                raise self._raised
            part = self._worker.score(row["part"], self._size, zlib.decompress(row["lines"]))
            rest = {key: value for key, value in part.__dict__.items() if key != "parquet"}
            made |= {"parquet": part.parquet, "rest": json.dumps(rest)}
        except EdgecxrError as error:
            made |= {"raised": type(error).__name__, "message": str(error)}
        return pa.table({name: [value] for name, value in made.items()})
