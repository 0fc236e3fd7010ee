"""The loop: read | decode | preprocess | run | record, in input order and bounded memory.

    path -> read -> bytes, sha256 -> decode -> grey -> prepare -> uint8 (H, W)
         -> run, N at a time -> Outputs: logits (N, K), evidence (N, h, w, K), ood (N, 1) -> predict -> Prediction

On a CPU a worker owns a batch from its bytes to its predictions, the fastest shape there is: each core decodes and runs
with one thread, nothing waits for another, and the next file is being read meanwhile. On a GPU a pool of decoders feeds
batches of a fixed size.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgecxr.engines import Outputs
from edgecxr.errors import DeviceMemoryError, PictureRejected
from edgecxr.pictures import checksums, files
from edgecxr.pictures import decode as images
from edgecxr.pictures.preprocess import Grey, bit_depth
from edgecxr.records.prediction import Prediction
from edgecxr.scoring.postprocess import is_finite, probabilities
from edgecxr.scoring.session import Session

log = logging.getLogger(__name__)  # names no picture

Source = Path | files.Reading | bytes | Grey

# Is shown each picture that was answered, with its evidence (h, w, K) of the run that gave its prediction; in whichever
# thread that is.
Look = Callable[[Prediction, images.Picture, npt.NDArray[np.float32]], object]


@dataclass
class Item:
    """What is known of a picture before the network ran: an image, or why there is none."""

    path: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    mtime_ns: int | None = None
    width: int | None = None
    height: int | None = None
    bits: int | None = None
    rendering: str | None = None
    image: npt.NDArray[np.uint8] | None = None  # (H, W)
    picture: images.Picture | None = None  # that the image was made of, kept where somebody is to see it
    rejected: PictureRejected | None = None


def stream(
    session: Session,
    paths: Iterable[Path | files.Reading],
    stop: Callable[[], bool] = lambda: False,
    look: Look | None = None,
) -> Iterator[Prediction]:
    """Predictions for `paths` in their order, in bounded memory: no further than two batches a worker are taken ahead.

    What is being read already has no path, and neither has its prediction.

    Once `stop()` is true no further batch begins; those in hand are finished and come out. `look` has seen a picture
    before its prediction comes out.
    """
    shape = _workers if session.engine.device == "cpu" else _batches
    yield from shape(session, iter(paths), stop, look)


def _workers(
    session: Session, paths: Iterator[Path | files.Reading], stop: Callable[[], bool], look: Look | None
) -> Iterator[Prediction]:
    """Each worker has a batch from its first byte to its last prediction, and finds that byte read already."""
    pending: deque[Future[list[Prediction]]] = deque()
    with ThreadPoolExecutor(session.plan.workers, thread_name_prefix="edgecxr") as pool:
        try:
            while not stop() and (batch := list(islice(paths, session.plan.batch_size))):
                pending.append(pool.submit(_score_read, session, batch, _begun(batch[0]), look))
                if len(pending) >= 2 * session.plan.workers:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            for future in pending:  # the reader went away, or a batch raised
                future.cancel()


def _begun(source: Path | files.Reading) -> files.Reading:
    return files.Reading(source) if isinstance(source, Path) else source


def _score_read(
    session: Session, batch: Sequence[Path | files.Reading], reading: files.Reading, look: Look | None
) -> list[Prediction]:
    """As `score`; the first file is being read, and each of the others is while the one before it is decoded."""
    prepared = []
    for path, following in zip_longest(batch, batch[1:]):
        now, reading = reading, _begun(following) if following is not None else reading
        prepared.append(_prepared(session, path, now, keep=look is not None))
    return _answer(session, prepared, look)


def _batches(
    session: Session, paths: Iterator[Path | files.Reading], stop: Callable[[], bool], look: Look | None
) -> Iterator[Prediction]:
    """A pool decodes, and feeds batches of one size to a device that would take long to adapt to another.

    The last batch is filled up with black. Two batches are ahead of the one that runs.
    """
    size = session.plan.batch_size
    device = _Device(session)
    pending: deque[tuple[list[Item], Future[Outputs | None]]] = deque()
    with (
        ThreadPoolExecutor(session.plan.workers, thread_name_prefix="edgecxr") as decoders,
        ThreadPoolExecutor(1, thread_name_prefix="edgecxr-run") as runner,
    ):
        preparing: deque[Future[Item]] = deque()
        try:
            while True:
                while len(preparing) < 2 * size and not stop() and (path := next(paths, None)) is not None:
                    preparing.append(decoders.submit(_prepared, session, path, keep=look is not None))
                if not preparing:
                    break
                batch = [preparing.popleft().result() for _ in range(min(size, len(preparing)))]
                pending.append((batch, runner.submit(device.run, batch)))
                if len(pending) > 1:
                    batch, running = pending.popleft()
                    yield from _predictions(session, batch, running.result(), look)
            while pending:
                batch, running = pending.popleft()
                yield from _predictions(session, batch, running.result(), look)
        finally:
            for unprepared in preparing:
                unprepared.cancel()
            for _, running in pending:
                running.cancel()


class _Device:
    """Runs prepared batches on a device whose memory may not suffice for them; for one thread."""

    def __init__(self, session: Session) -> None:
        self._session, self._size, self._halved = session, session.plan.batch_size, False

    def run(self, batch: Sequence[Item]) -> Outputs | None:
        """The network's outputs for a batch, or None where no picture of it can be used.

        Raises DeviceMemoryError where batches of half the size that was planned are still too large.
        """
        if all(item.image is None for item in batch):
            return None
        try:
            return self._run(batch)
        except DeviceMemoryError:
            if self._halved or self._size == 1:
                raise
            self._halved, self._size = True, self._size // 2
            self._session.say(
                f"the memory of the GPU doesn't suffice for batches of {self._session.plan.batch_size}; batches of "
                f"{self._size} are used from here on"
            )
            return self._run(batch)

    def _run(self, batch: Sequence[Item]) -> Outputs:
        parts = [batch[start : start + self._size] for start in range(0, len(batch), self._size)]
        return Outputs.joined(run(self._session, part, self._size)[: len(part)] for part in parts)


def score(session: Session, sources: Sequence[Source], look: Look | None = None) -> list[Prediction]:
    """Predictions for one batch, in its order. A picture that is rejected changes nothing for the others."""
    return _answer(session, [_prepared(session, source, keep=look is not None) for source in sources], look)


def explain(session: Session, source: Source) -> tuple[Prediction, npt.NDArray[np.float32] | None]:
    """The prediction for one picture and its evidence (h, w, K), of the same run; None where it is rejected."""
    item = _prepared(session, source)
    outputs = None if item.image is None else run(session, [item], 1)
    (prediction,) = _predictions(session, [item], outputs)
    return prediction, None if outputs is None or prediction.status == "rejected" else outputs.evidence[0]


def _answer(session: Session, items: Sequence[Item], look: Look | None = None) -> list[Prediction]:
    usable = any(item.image is not None for item in items)
    return _predictions(session, items, run(session, items, len(items)) if usable else None, look)


def _predictions(
    session: Session, items: Sequence[Item], outputs: Outputs | None, look: Look | None = None
) -> list[Prediction]:
    found = [predict(session, item, None if outputs is None else outputs[row]) for row, item in enumerate(items)]
    for row, (item, prediction) in enumerate(zip(items, found, strict=True)):
        if look is not None and outputs is not None and item.picture is not None and prediction.status != "rejected":
            look(prediction, item.picture, outputs.evidence[row])
        item.picture = None
    return found


def prepare_input(session: Session, source: Source) -> npt.NDArray[np.uint8]:
    """The network's input for one picture, uint8 (H, W); raises PictureRejected."""
    item = _prepared(session, source)
    if item.image is None:
        raise item.rejected or PictureRejected("corrupt", "the picture can't be used")
    return item.image


def reject(session: Session, rejected: PictureRejected) -> Prediction:
    """The prediction for what isn't even a name of a file."""
    return predict(session, Item(rejected=rejected), None)


def _prepared(session: Session, source: Source, reading: files.Reading | None = None, *, keep: bool = False) -> Item:
    """Read, decode and prepare one picture; a path may be being read already. `keep` what was decoded."""
    item = Item(path=str(source) if isinstance(source, Path) else None)
    try:
        picture = decode(session, item, read(item, source, reading))
        prepare(session, item, picture)
        item.picture = picture if keep else None
    except PictureRejected as rejected:
        item.rejected = rejected
    return item


def read(item: Item, source: Source, reading: files.Reading | None = None) -> bytes | Grey:
    """What is to be decoded: a file's bytes, hashed and as a SHA256SUMS has them, or pixels; raises PictureRejected."""
    if isinstance(source, np.ndarray):
        item.sha256 = hashlib.sha256(np.ascontiguousarray(source).data).hexdigest()
        return source
    if isinstance(source, (Path, files.Reading)):
        content = (reading or _begun(source)).content()
        data, item.mtime_ns = content.data, content.mtime_ns
    else:
        data = source
        if (rejected := files.unfit_size(len(data))) is not None:  # as a file of that size is
            raise rejected
    item.sha256, item.bytes = hashlib.sha256(data).hexdigest(), len(data)
    if isinstance(source, Path):
        checksums.check(source, item.sha256)
    return data


def decode(session: Session, item: Item, content: bytes | Grey) -> images.Picture:
    """The grey picture that was read; raises PictureRejected."""
    if isinstance(content, bytes):
        picture = images.decode(content, session.bundle.preprocessing)
        item.width, item.height = picture.width, picture.height
    else:
        item.height, item.width = content.shape
        if min(content.shape) < images.MIN_SIDE:
            raise PictureRejected("too_small", f"smaller than {images.MIN_SIDE} px: {item.width} x {item.height}")
        picture = images.Picture(content, item.width, item.height, bit_depth(content))
    item.bits, item.rendering = picture.bits, picture.rendering
    return picture


def prepare(session: Session, item: Item, picture: images.Picture) -> None:
    """Make the picture the network's input, `item.image`; raises PictureRejected."""
    item.image = images.prepare(picture, session.bundle.preprocessing)


def run(session: Session, items: Sequence[Item], size: int) -> Outputs:
    """The network's outputs for a batch of `size`, filled up with black.

    A rejected picture leaves a black one in its place: in a batch of another size the others would meet other kernels,
    and their last bits would depend on it.
    """
    contract = session.bundle.preprocessing
    inputs = np.zeros((size, contract.height, contract.width, 1), dtype=np.uint8)
    for row, item in zip(inputs, items, strict=False):
        if item.image is not None:
            row[..., 0] = item.image
    return session.engine.run(inputs)


def predict(session: Session, item: Item, outputs: Outputs | None) -> Prediction:
    """What is recorded of a picture; `outputs` are those for it alone, None where the network wasn't run."""
    labels, rejected = session.bundle.labels, item.rejected
    logits = None if outputs is None else outputs.logits  # (K,)
    ood = None if outputs is None else outputs.ood  # (1,), of networks that have it
    if rejected is None and (logits is None or not is_finite(logits) or (ood is not None and not is_finite(ood))):
        rejected = PictureRejected("not_finite", "the network's answer is not a finite number")
    by_label: dict[str, float] = {}
    share: dict[str, float] = {}
    if rejected is None and logits is not None:
        by_label = dict(zip(labels, logits.tolist(), strict=True))
        share = dict(zip(labels, probabilities(logits, session.bundle.temperature).tolist(), strict=True))
    ood_score = None if rejected or ood is None else float(ood[0])
    abstained = session.rule.abstains(ood_score)
    return Prediction(
        path=item.path,
        sha256=item.sha256,
        bytes=item.bytes,
        mtime_ns=item.mtime_ns,
        status="rejected" if rejected else "abstained" if abstained else "scored",
        label=max(share, key=share.__getitem__) if share and not abstained else None,
        probabilities=share,
        logits=by_label,
        ood_score=ood_score,
        error_code=rejected.code if rejected else None,
        error_message=rejected.message if rejected else None,
        width=item.width,
        height=item.height,
        bits=item.bits,
        rendering=item.rendering,
        provenance=session.provenance,
        time_utc=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )
