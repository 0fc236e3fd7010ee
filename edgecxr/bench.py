"""`edgecxr bench`: latency and throughput of a bundle on this machine.

Every case is measured in several rounds and the cases take turns within a round, so that a machine that warms up or is
shared slows all of them and not the last one. Quick by design: a figure here is for orientation, with its spread.
"""

from __future__ import annotations

import io
import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgecxr import images, machine, pipeline
from edgecxr.bundle import Bundle
from edgecxr.engines import ort
from edgecxr.engines.select import Choice, choices, open_engine
from edgecxr.errors import PictureRejected, UnavailableError, UsageError

SCHEMA = 1
ROUNDS = 5
WARM_UP = 5  # calls before the first counted one: lazy allocation, first touch, clocks
MIN_SAMPLES = 20  # calls of a case, of one picture or batch each
# Fewest samples for a percentile to be given: below, a p99 is the largest value by another name.
LEAST = {50: 5, 90: 20, 99: 100}
MAX_PICTURES = 200  # of the folder that was given, evenly chosen


@dataclass(frozen=True)
class Result:
    """One measured case. Latency is a call's, in ms; throughput is pictures/s."""

    artifact: str
    precision: str
    engine: str
    provider: str
    device: str
    # model: inputs ready in memory, every CPU on one call; picture: one file at a time, read to prediction;
    # folder: files as `infer` takes them, which has a throughput and no latency of its own.
    what: str
    workers: int
    threads: int
    batch_size: int
    samples: int
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    throughput: float  # median over the rounds
    throughput_low: float  # slowest round
    throughput_high: float  # fastest round
    load_ms: float  # reading, checking and loading the artifact
    megabytes: float  # of the artifact, 10^6 bytes


@dataclass(frozen=True)
class Case:
    """Something to measure: each `call` does `pictures` pictures."""

    identity: dict[str, Any]
    pictures: int
    call: Callable[[], Any]


def sample_files(paths: Sequence[Path]) -> tuple[Path, ...]:
    """At most MAX_PICTURES of the pictures found under `paths`, evenly chosen."""
    found = images.find(paths).paths
    return tuple(found[place] for place in spread(len(found), MAX_PICTURES))


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` places out of `count`, at even distances."""
    wanted = min(count, wanted)
    return [i * count // wanted for i in range(wanted)]


def golden_files(bundle: Bundle, folder: Path) -> tuple[Path, ...]:
    """The golden inputs as PNG files in `folder`: what there is to decode where no pictures are given."""
    files = []
    for index, picture in enumerate(bundle.golden_inputs()):
        path = folder / f"golden-{index}.png"
        encoded = io.BytesIO()
        Image.fromarray(picture[:, :, 0]).save(encoded, "PNG")
        path.write_bytes(encoded.getvalue())
        files.append(path)
    return tuple(files)


def bench(
    bundle: Bundle,
    files: Sequence[Path],
    *,
    device: str = "auto",
    engine: str = "auto",
    precision: str = "auto",
    batch_sizes: Sequence[int] | None = None,
    seconds: float = 30.0,
    advance: Callable[[int, int], Any] = lambda done, total: None,
) -> dict[str, Any]:
    """Measure each artifact on each installed engine, model only and from files, in about `seconds`.

    Returns the report as JSON-able data.

    Raises UsageError where the files hold no picture that can be scored, UnavailableError where nothing can run.
    """
    usable, inputs = _usable(bundle, files)
    cases = []
    for choice in _choices(bundle, device, engine, precision):
        cases += _cases(bundle, choice, usable, inputs, batch_sizes)
    samples, rates = _measure(cases, seconds, advance)
    results = [_result(*row).__dict__ for row in zip(cases, samples, rates, strict=True)]
    return {
        "schema": SCHEMA,
        "kind": "quick",  # not a measurement by MLPerf's rules
        "bundle": {"name": bundle.name, "version": bundle.version, "sha256": bundle.digest},
        "pictures": len(usable),
        "left_out": len(files) - len(usable),  # files that would be rejected, faster than any picture is scored
        "rounds": ROUNDS,
        "machine": machine.fingerprint(),
        "results": results,
    }


def _usable(bundle: Bundle, files: Sequence[Path]) -> tuple[list[Path], npt.NDArray[np.uint8]]:
    """The files that can be scored, and up to 64 of their network inputs, uint8 (N, H, W, 1), evenly chosen."""
    usable, ready = [], []
    for file in files:
        try:
            ready.append(images.network_input(file, bundle.preprocessing))
        except PictureRejected:
            continue
        usable.append(file)
    if not ready:
        raise UsageError("none of the pictures can be scored, there is nothing to measure")
    return usable, np.stack([ready[place] for place in spread(len(ready), 64)])[..., None]


def _choices(bundle: Bundle, device: str, engine: str, precision: str) -> list[Choice]:
    found, not_run = choices(bundle, device=device, engine=engine, precision=precision)
    # ONNX Runtime computes halves in software on a CPU.
    chosen = [c for c in found if (c.engine, c.precision, c.device) != (ort.NAME, "fp16", "cpu")]
    if not chosen:
        why = f": {'; '.join(not_run)}" if not_run else ""
        raise UnavailableError(
            f"the bundle holds nothing that can be measured with precision {precision} on {device}{why}"
        )
    return chosen


def _cases(
    bundle: Bundle,
    choice: Choice,
    files: Sequence[Path],
    inputs: npt.NDArray[np.uint8],
    batch_sizes: Sequence[int] | None,
) -> list[Case]:
    latency, folder = _open(bundle, choice, workers=1), _open(bundle, choice)
    # Long enough that the pool's start and end don't count for much.
    portion = 8 * max(4, folder.session.plan.workers * folder.session.plan.batch_size)
    sizes = batch_sizes or ([1, 8] if choice.device == "cpu" else [1, 8, 32, 128])
    return [
        *(Case(latency.identity("model", n), n, _model_call(latency.session, _batches(inputs, n))) for n in sizes),
        Case(latency.identity("picture", 1), 1, _picture_call(latency.session, files)),
        Case(
            folder.identity("folder", folder.session.plan.batch_size),
            portion,
            _folder_call(folder.session, files, portion),
        ),
    ]


@dataclass(frozen=True)
class _Opened:
    session: pipeline.Session
    load_ms: float

    def identity(self, what: str, batch_size: int) -> dict[str, Any]:
        artifact, plan, engine = self.session.artifact, self.session.plan, self.session.engine
        return {
            "artifact": artifact.file,
            "precision": engine.precision,
            "engine": engine.name,
            "provider": engine.provider,
            "device": engine.device,
            "what": what,
            "workers": plan.workers,
            "threads": plan.threads,
            "batch_size": batch_size,
            "load_ms": self.load_ms,
            "megabytes": artifact.bytes / 1e6,
        }


def _open(bundle: Bundle, choice: Choice, workers: int | None = None) -> _Opened:
    plan = pipeline.make_plan(choice.device, machine.cpus(), workers=workers, shared_pool=choice.engine == ort.NAME)
    begin = time.perf_counter()
    engine = open_engine(bundle, choice, plan.threads, plan.workers)
    load_ms = 1e3 * (time.perf_counter() - begin)
    return _Opened(pipeline.Session(bundle, choice.artifact, engine, plan), load_ms)


def _batches(inputs: npt.NDArray[np.uint8], size: int) -> list[npt.NDArray[np.uint8]]:
    count = max(1, len(inputs) // size)
    return [np.take(inputs, range(i * size, (i + 1) * size), axis=0, mode="wrap") for i in range(count)]


def _model_call(session: pipeline.Session, batches: Sequence[npt.NDArray[np.uint8]]) -> Callable[[], Any]:
    turns = itertools.cycle(batches)
    return lambda: session.engine.run(next(turns))


def _picture_call(session: pipeline.Session, files: Sequence[Path]) -> Callable[[], Any]:
    turns = itertools.cycle(files)
    return lambda: pipeline.score(session, [next(turns)])


def _folder_call(session: pipeline.Session, files: Sequence[Path], portion: int) -> Callable[[], Any]:
    turns = itertools.cycle(files)
    return lambda: deque(pipeline.stream(session, itertools.islice(turns, portion)), maxlen=0)


def _measure(
    cases: Sequence[Case], seconds: float, advance: Callable[[int, int], Any]
) -> tuple[list[list[float]], list[list[float]]]:
    """Latencies (s) of each case, and its throughput (pictures/s) in each round."""
    for case in cases:
        for _ in range(WARM_UP if case.pictures == 1 else 1):
            case.call()
    samples: list[list[float]] = [[] for _ in cases]
    rates: list[list[float]] = [[] for _ in cases]
    share = seconds / (ROUNDS * len(cases))
    for turn in range(ROUNDS):
        for index, case in enumerate(cases):
            latencies: list[float] = []
            least = MIN_SAMPLES // ROUNDS if case.identity["what"] != "folder" else 1
            while sum(latencies) < share or len(latencies) < least:
                begin = time.perf_counter()
                case.call()
                latencies.append(time.perf_counter() - begin)
            rates[index].append(len(latencies) * case.pictures / sum(latencies))
            samples[index] += latencies
            advance(turn * len(cases) + index + 1, ROUNDS * len(cases))
    return samples, rates


def _result(case: Case, latencies: Sequence[float], rates: Sequence[float]) -> Result:
    is_latency = case.identity["what"] != "folder"
    percentiles = [
        1e3 * float(np.percentile(latencies, q)) if is_latency and len(latencies) >= least else None
        for q, least in LEAST.items()
    ]
    return Result(
        **case.identity,
        samples=len(latencies),
        p50_ms=percentiles[0],
        p90_ms=percentiles[1],
        p99_ms=percentiles[2],
        throughput=float(np.median(rates)),
        throughput_low=min(rates),
        throughput_high=max(rates),
    )
