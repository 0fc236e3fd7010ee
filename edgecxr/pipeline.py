"""The loop: read | decode | preprocess | run | record, in input order and bounded memory.

    path -> bytes (read once, sha256) -> decode -> grey -> preprocess -> uint8 (N, H, W, 1)
         -> engine.run -> logits (N, K) -> postprocess -> Prediction

A worker owns a batch from its bytes to its predictions. On a CPU that is the fastest shape there is (each core decodes
and runs with one thread, nothing waits for anything); on a GPU it overlaps one batch's decoding with another's run.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgecxr import checksums, images, machine
from edgecxr.bundle import Artifact, Bundle
from edgecxr.engines import Engine, ort
from edgecxr.engines.select import choose, open_engine
from edgecxr.errors import PictureRejected, UsageError
from edgecxr.postprocess import is_finite, probabilities
from edgecxr.preprocess import bit_depth
from edgecxr.records import Prediction, Provenance

Source = Path | bytes | npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

BATCH_SIZE = {"cpu": 1, "cuda": 32}  # on a CPU a batch only moves the working set out of the caches


@dataclass(frozen=True)
class Plan:
    """How the work is spread. `workers` take a batch each, and one call of the engine uses `threads`.

    ONNX Runtime's workers share one pool of `threads`, and a worker that runs the network is itself one of them: at
    most workers + threads - 1 are busy. In the other engines each call has its own: at most workers * threads.
    """

    workers: int
    threads: int
    batch_size: int


@dataclass(frozen=True)
class Session:
    """A bundle's artifact, loaded on an engine, with a plan."""

    bundle: Bundle
    artifact: Artifact
    engine: Engine
    plan: Plan

    @property
    def provenance(self) -> Provenance:
        return Provenance(
            model=f"{self.bundle.name} {self.bundle.version}",
            bundle_sha256=self.bundle.digest,
            engine=self.engine.name,
            provider=self.engine.provider,
            device=self.engine.device,
            precision=self.engine.precision,
        )


def make_plan(
    device: str,
    cpus: int,
    *,
    workers: int | None = None,
    threads: int | None = None,
    batch_size: int | None = None,
    shared_pool: bool = True,
) -> Plan:
    """Fill in what wasn't asked for: on a CPU a one-threaded worker a CPU, on a GPU a few that decode ahead."""
    for name, value in (("workers", workers), ("threads", threads), ("batch size", batch_size)):
        if value is not None and not 1 <= value <= 4096:
            raise UsageError(f"{name} must be between 1 and 4096, got {value}")
    if device != "cpu":
        workers, threads = workers or min(8, cpus), threads or 1
    elif shared_pool:
        workers = workers or max(1, cpus - (threads or 1) + 1)
        threads = threads or max(1, cpus - workers + 1)
    else:
        workers = workers or max(1, cpus // (threads or 1))
        threads = threads or max(1, cpus // workers)
    return Plan(workers, threads, batch_size or BATCH_SIZE[device])


def open_session(
    bundle: Bundle,
    *,
    device: str = "auto",
    engine: str = "auto",
    precision: str = "auto",
    workers: int | None = None,
    threads: int | None = None,
    batch_size: int | None = None,
) -> Session:
    """Choose engine, device and artifact, load it, or raise UnavailableError before the first picture."""
    choice = choose(bundle, engine=engine, device=device, precision=precision)
    plan = make_plan(
        choice.device,
        machine.cpus(),
        workers=workers,
        threads=threads,
        batch_size=batch_size,
        shared_pool=choice.engine == ort.NAME,
    )
    return Session(bundle, choice.artifact, open_engine(bundle, choice, plan.threads, plan.workers), plan)


def stream(session: Session, paths: Iterable[Path], stop: Callable[[], bool] = lambda: False) -> Iterator[Prediction]:
    """Predictions for `paths` in their order, at most two batches a worker ahead of the reader.

    Once `stop()` is true no further batch begins; those in hand are finished and come out.
    """
    remaining = iter(paths)
    pending: deque[Future[list[Prediction]]] = deque()
    with ThreadPoolExecutor(session.plan.workers, thread_name_prefix="edgecxr") as pool:
        try:
            while not stop() and (batch := list(islice(remaining, session.plan.batch_size))):
                pending.append(pool.submit(score, session, batch))
                if len(pending) >= 2 * session.plan.workers:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            for future in pending:  # the reader went away, or a batch raised
                future.cancel()


def score(session: Session, sources: Sequence[Source]) -> list[Prediction]:
    """Predictions for one batch, in its order. A picture that is rejected changes nothing for the others."""
    prepared = [_prepare(session, source) for source in sources]
    if all(item.image is None for item in prepared):
        return [_predict(session, item, None) for item in prepared]
    # A rejected picture leaves a black one in its place: in a batch of another size the others would meet other
    # kernels, and their last bits would depend on it.
    contract = session.bundle.preprocessing
    inputs = np.zeros((len(prepared), contract.height, contract.width, 1), dtype=np.uint8)
    for row, item in zip(inputs, prepared, strict=True):
        if item.image is not None:
            row[..., 0] = item.image
    logits = session.engine.run(inputs)  # (N, H, W, 1) -> (N, K)
    return [_predict(session, item, row) for item, row in zip(prepared, logits, strict=True)]


def prepare_input(session: Session, source: Source) -> npt.NDArray[np.uint8]:
    """The network's input for one picture, uint8 (H, W); raises PictureRejected."""
    item = _prepare(session, source)
    if item.image is None:
        raise item.rejected or PictureRejected("corrupt", "the picture can't be used")
    return item.image


def reject(session: Session, rejected: PictureRejected) -> Prediction:
    """The prediction for what isn't even a name of a file."""
    return _predict(session, _Prepared(rejected=rejected), None)


@dataclass
class _Prepared:
    """What is known of a picture before the network ran: an image, or why there is none."""

    path: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    mtime_ns: int | None = None
    width: int | None = None
    height: int | None = None
    bits: int | None = None
    image: npt.NDArray[np.uint8] | None = None  # (H, W)
    rejected: PictureRejected | None = None


def _prepare(session: Session, source: Source) -> _Prepared:
    item = _Prepared(path=str(source) if isinstance(source, Path) else None)
    contract = session.bundle.preprocessing
    try:
        if isinstance(source, np.ndarray):
            item.sha256 = hashlib.sha256(np.ascontiguousarray(source).data).hexdigest()
            item.height, item.width = source.shape
            if min(source.shape) < images.MIN_SIDE:
                raise PictureRejected("too_small", f"smaller than {images.MIN_SIDE} px: {item.width} x {item.height}")
            picture = images.Picture(source, item.width, item.height, bit_depth(source))
        else:
            if isinstance(source, Path):
                content = images.read_file(source)
                data, item.mtime_ns = content.data, content.mtime_ns
            else:
                data = source
            item.sha256, item.bytes = hashlib.sha256(data).hexdigest(), len(data)
            if isinstance(source, Path):
                checksums.check(source, item.sha256)
            picture = images.decode(data, contract)
            item.width, item.height = picture.width, picture.height
        item.bits = picture.bits
        item.image = images.prepare(picture, contract)
    except PictureRejected as rejected:
        item.rejected = rejected
    return item


def _predict(session: Session, item: _Prepared, logits: npt.NDArray[np.float32] | None) -> Prediction:
    labels, rejected = session.bundle.labels, item.rejected
    if rejected is None and (logits is None or not is_finite(logits)):
        rejected = PictureRejected("not_finite", "the network's answer is not a finite number")
    by_label: dict[str, float] = {}
    share: dict[str, float] = {}
    if rejected is None and logits is not None:
        by_label = dict(zip(labels, logits.tolist(), strict=True))
        share = dict(zip(labels, probabilities(logits, session.bundle.temperature).tolist(), strict=True))
    return Prediction(
        path=item.path,
        sha256=item.sha256,
        bytes=item.bytes,
        mtime_ns=item.mtime_ns,
        status="rejected" if rejected else "scored",
        label=max(share, key=share.__getitem__) if share else None,
        probabilities=share,
        logits=by_label,
        ood_score=None,
        error_code=rejected.code if rejected else None,
        error_message=rejected.message if rejected else None,
        width=item.width,
        height=item.height,
        bits=item.bits,
        provenance=session.provenance,
        time_utc=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )
