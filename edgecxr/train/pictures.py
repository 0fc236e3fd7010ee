"""The training pictures as one memory-mapped array, decoded once, and the batches that are drawn from it."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from edgecxr import images
from edgecxr.dataset import Example
from edgecxr.errors import DataError, PictureRejected
from edgecxr.preprocess import Contract
from edgecxr.train.augment import augment
from edgecxr.train.recipes import Augmentation

SIZE_SAMPLE = 200  # pictures whose size decides `source_size`


def fingerprint(examples: Sequence[Example]) -> str:
    """SHA-256 over (file, label, split, content) of every example: says which data a run was fitted on."""
    digest = hashlib.sha256()
    with ThreadPoolExecutor() as pool:
        for example, content in zip(examples, pool.map(_content_hash, examples), strict=True):
            digest.update(json.dumps([example.file, example.label, example.split, content]).encode())
    return digest.hexdigest()


def _content_hash(example: Example) -> str:
    try:
        return hashlib.sha256(images.read(example.path)).hexdigest()
    except PictureRejected as rejected:
        raise DataError(f"a labelled picture can't be used ({rejected.message}): {example.path}") from None


def source_size(examples: Sequence[Example], contract: Contract) -> int | None:
    """Resolution of the training pictures in px (median shorter side), or None where the network's input is smaller.

    Goes into the contract: a device's sharper original is first reduced to it.
    """
    step = max(1, len(examples) // SIZE_SAMPLE)
    sides = []
    for example in examples[::step]:
        try:
            picture = images.decode(images.read(example.path), contract)
        except PictureRejected as rejected:
            raise DataError(f"a labelled picture can't be used ({rejected.message}): {example.path}") from None
        sides.append(min(picture.width, picture.height))
    median = int(np.median(sides))
    return median if median < min(contract.width, contract.height) else None


def load(
    examples: Sequence[Example],
    contract: Contract,
    cache: Path,
    data_fingerprint: str,
    advance: Callable[[int], Any] = lambda done: None,
) -> npt.NDArray[np.uint8]:
    """The network inputs of `examples`: a read-only memory map, uint8 (N, H, W).

    Decoded once into `cache`, under a name that holds the data's and the contract's fingerprint; `advance` is told
    the number of pictures done. Raises DataError for a picture that can't be used.
    """
    contract_key = hashlib.sha256(json.dumps(contract.to_json(), sort_keys=True).encode()).hexdigest()
    file = cache / f"pictures-{data_fingerprint[:16]}-{contract_key[:8]}.npy"
    if not file.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        # Written beside and renamed: a run that is killed leaves no half-filled cache that looks whole.
        partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
        try:
            shape = (len(examples), contract.height, contract.width)
            array = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
            with ThreadPoolExecutor() as pool:
                prepared = pool.map(lambda example: _prepare(example, contract), examples)
                for index, image in enumerate(prepared):
                    array[index] = image
                    advance(index + 1)
            array.flush()
            del array
            partial.rename(file)
        finally:
            partial.unlink(missing_ok=True)
    pictures: npt.NDArray[np.uint8] = np.load(file, mmap_mode="r")
    return pictures


def _prepare(example: Example, contract: Contract) -> npt.NDArray[np.uint8]:
    try:
        return images.network_input(example.path, contract)
    except PictureRejected as rejected:
        raise DataError(f"a labelled picture can't be used ({rejected.message}): {example.path}") from None


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # keras brings no types
    """Batches of (inputs uint8 (B, H, W, 1), one-hot labels float32 (B, K)[, class weights float32 (B,)]).

    Shuffling and augmentation depend on (seed, epoch) alone, so a run can be repeated whatever the worker count.
    Without an augmentation the order is that of `rows`, and nothing is changed.
    """

    def __init__(
        self,
        pictures: npt.NDArray[np.uint8],
        rows: Sequence[int],
        classes: Sequence[int],
        class_count: int,
        batch_size: int,
        *,
        augmentation: Augmentation | None = None,
        class_weights: npt.NDArray[np.float32] | None = None,
        seed: int = 0,
        first_epoch: int = 0,
        workers: int = 1,
    ) -> None:
        super().__init__(workers=workers, use_multiprocessing=False, max_queue_size=8)
        self.pictures, self.rows = pictures, np.asarray(rows)
        self.one_hot = np.eye(class_count, dtype=np.float32)[np.asarray(classes)]
        self.batch_size, self.augmentation, self.class_weights = batch_size, augmentation, class_weights
        self.seed, self.epoch = seed, first_epoch
        self._order = self._shuffled()

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def __getitem__(self, batch: int) -> tuple[Any, ...]:
        chosen = self._order[batch * self.batch_size : (batch + 1) * self.batch_size]
        inputs = self.pictures[self.rows[chosen]]  # (B, H, W)
        if self.augmentation is not None:
            inputs = np.stack(
                [
                    augment(image, self.augmentation, (self.seed, self.epoch, int(index)))
                    for image, index in zip(inputs, chosen, strict=True)
                ]
            )
        labels = self.one_hot[chosen]
        if self.class_weights is None:
            return inputs[..., None], labels
        return inputs[..., None], labels, labels @ self.class_weights

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._order = self._shuffled()

    def _shuffled(self) -> npt.NDArray[np.intp]:
        if self.augmentation is None:
            return np.arange(len(self.rows))
        return np.random.default_rng((self.seed, self.epoch)).permutation(len(self.rows))
