"""What a frozen backbone says about each picture, computed once: epochs on the head then cost next to nothing.

A frozen backbone gives the same features to the same input, so an epoch that sees a view again needn't compute it
again. View k of a picture is what its k-th draw would have seen; the e-th draw takes view e mod K.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.errors import DivergedError
from edgecxr.lab.train import storage
from edgecxr.lab.train.augment import augment_batch
from edgecxr.lab.train.batches import BATCH, Places, Source
from edgecxr.lab.train.recipes import Augmentation
from edgecxr.system.machine import cpus

Part = tuple[int, range]  # a view, and the places of a batch


def compute(
    extractor: Any,
    pictures: npt.NDArray[np.uint8],
    rows: Sequence[int],
    views: int,
    augmentation: Augmentation,
    seed: int,
    file: Path,
    advance: Callable[[int], Any] = lambda done: None,
    *,
    workers: int = 1,
) -> npt.NDArray[np.float16]:
    """Features of `views` augmented views of each picture: a memory map float16 (views, len(rows), …) at `file`.

    float16 holds the backbone's activations to 0.05 %, less than bfloat16 arithmetic loses. A file that stands there
    is taken as it is: its name says what it holds. `workers` threads augment while the backbone computes. Raises
    StorageError, and DivergedError for features that aren't finite.
    """
    if not file.is_file():
        shape = (views, len(rows), *extractor.output_shape[1:])
        parts = [
            (view, range(begin, min(begin + BATCH, len(rows))))
            for view in range(views)
            for begin in range(0, len(rows), BATCH)
        ]

        def images(part: Part) -> npt.NDArray[np.uint8]:
            view, places = part
            return augment_batch(pictures[[rows[p] for p in places]], augmentation, seed, [view] * len(places), places)

        hint = "; --feature-views takes fewer views, or with 0 computes each epoch's own"
        with storage.new_array(file, np.float16, shape, "the backbone's features", hint) as array:
            for (view, places), batch in zip(parts, _ahead(images, parts, workers), strict=True):
                array[view, places.start : places.stop] = _forward(extractor, batch)
                advance(view * len(rows) + places.stop)
    features: npt.NDArray[np.float16] = np.load(file, mmap_mode="r")
    return features


def _ahead(
    make: Callable[[Part], npt.NDArray[np.uint8]], parts: Sequence[Part], workers: int
) -> Iterator[npt.NDArray[np.uint8]]:
    """What `make` makes of each part, in order; threads are at work on the next ones meanwhile.

    No more of them than CPUs: what is made ahead waits in memory.
    """
    workers = min(workers, cpus())
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[npt.NDArray[np.uint8]]] = deque()
        try:
            for part in parts:
                pending.append(pool.submit(make, part))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _forward(extractor: Any, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
    # One shape for every batch, so that nothing is compiled twice.
    filled = np.concatenate([images, np.repeat(images[-1:], BATCH - len(images), axis=0)])[..., None]
    found = np.asarray(extractor.predict_on_batch(filled), dtype=np.float32)[: len(images)]
    if not np.isfinite(found).all() or np.abs(found).max() > np.finfo(np.float16).max:
        raise DivergedError("the backbone's features aren't finite numbers that float16 can hold; check its weights")
    return found.astype(np.float16)


def source(features: npt.NDArray[np.float16]) -> Source:
    """Training inputs from features (K, N, …): a picture's e-th turn sees view e mod K."""

    def take(places: Places, turns: Places) -> npt.NDArray[np.float16]:
        taken = np.empty((len(places), *features.shape[2:]), np.float16)
        for position, (place, turn) in enumerate(zip(places, turns, strict=True)):
            taken[position] = features[turn % len(features), place]
        return taken

    return take


def cache_name(**identity: Any) -> str:
    """A file name that holds everything the features depend on."""
    return f"features-{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]}.npy"
