"""What a frozen backbone says about each picture, computed once: epochs on the head then cost next to nothing.

A frozen backbone gives the same features to the same input, so an epoch that sees a view again needn't compute it
again. View k of a picture is what epoch k would have seen; epoch e takes view e mod K.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.errors import DivergedError
from edgecxr.train import storage
from edgecxr.train.augment import augment_batch
from edgecxr.train.batches import BATCH, Source
from edgecxr.train.recipes import Augmentation


def compute(
    extractor: Any,
    pictures: npt.NDArray[np.uint8],
    rows: Sequence[int],
    views: int,
    augmentation: Augmentation,
    seed: int,
    file: Path,
    advance: Callable[[int], Any] = lambda done: None,
) -> npt.NDArray[np.float16]:
    """Features of `views` augmented views of each picture: a memory map float16 (views, len(rows), …) at `file`.

    float16 holds the backbone's activations to 0.05 %, less than bfloat16 arithmetic loses. A file that stands there
    is taken as it is: its name says what it holds. Raises StorageError, and DivergedError for features that aren't
    finite.
    """
    if not file.is_file():
        shape = (views, len(rows), *extractor.output_shape[1:])
        with storage.new_array(file, np.float16, shape, "the backbone's features") as array:
            for view in range(views):
                for begin in range(0, len(rows), BATCH):
                    end = min(begin + BATCH, len(rows))
                    array[view, begin:end] = _forward(
                        extractor, pictures, rows, range(begin, end), augmentation, seed, view
                    )
                    advance(view * len(rows) + end)
    features: npt.NDArray[np.float16] = np.load(file, mmap_mode="r")
    return features


def _forward(
    extractor: Any,
    pictures: npt.NDArray[np.uint8],
    rows: Sequence[int],
    places: range,
    augmentation: Augmentation,
    seed: int,
    view: int,
) -> npt.NDArray[np.float16]:
    images = augment_batch(pictures[[rows[place] for place in places]], augmentation, seed, view, places)
    # One shape for every batch, so that nothing is compiled twice.
    filled = np.concatenate([images, np.repeat(images[-1:], BATCH - len(images), axis=0)])[..., None]
    found = np.asarray(extractor.predict_on_batch(filled), dtype=np.float32)[: len(images)]
    if not np.isfinite(found).all() or np.abs(found).max() > np.finfo(np.float16).max:
        raise DivergedError("the backbone's features aren't finite numbers that float16 can hold; check its weights")
    return found.astype(np.float16)


def source(features: npt.NDArray[np.float16]) -> Source:
    """Training inputs from features (K, N, …): epoch e sees view e mod K."""

    def take(places: npt.NDArray[np.intp], epoch: int) -> npt.NDArray[np.float16]:
        view = features[epoch % len(features)]
        taken = np.empty((len(places), *view.shape[1:]), np.float16)
        for position, place in enumerate(places):
            taken[position] = view[place]
        return taken

    return take


def cache_name(**identity: Any) -> str:
    """A file name that holds everything the features depend on."""
    return f"features-{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]}.npy"
