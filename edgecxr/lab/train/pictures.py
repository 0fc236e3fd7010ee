"""The labelled pictures as one memory-mapped array of network inputs, decoded once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.errors import DataError, PictureRejected
from edgecxr.lab.dataset import Example
from edgecxr.lab.train import storage
from edgecxr.pictures import decode as images
from edgecxr.pictures import files
from edgecxr.pictures.preprocess import Contract
from edgecxr.system.machine import cpus

WINDOW = 512  # pictures in hand at a time: memory stays the same whatever the data's size
SIZE_SAMPLE = 200  # pictures whose size decides `source_size`


def fingerprint(examples: Sequence[Example]) -> str:
    """SHA-256 over (file, label, split, content) of every example: says which data a run was fitted on."""
    return fingerprints(examples)[0]


def fingerprints(examples: Sequence[Example]) -> tuple[str, str]:
    """(`fingerprint`, the same over the contents alone): pictures are decoded once whatever splits are made of them."""
    data, contents = hashlib.sha256(), hashlib.sha256()
    with ThreadPoolExecutor(cpus()) as pool:
        for example, content in zip(examples, pool.map(_content_hash, examples), strict=True):
            data.update(json.dumps([example.file, example.label, example.split, content]).encode())
            contents.update(content.encode())
    return data.hexdigest(), contents.hexdigest()


def _content_hash(example: Example) -> str:
    try:
        return hashlib.sha256(files.read(example.path)).hexdigest()
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
            picture = images.decode(files.read(example.path), contract)
        except PictureRejected as rejected:
            raise DataError(f"a labelled picture can't be used ({rejected.message}): {example.path}") from None
        sides.append(min(picture.width, picture.height))
    median = int(np.median(sides))
    return median if median < min(contract.width, contract.height) else None


def load(
    examples: Sequence[Example],
    contract: Contract,
    cache: Path,
    fingerprint: str,
    advance: Callable[[int], Any] = lambda done: None,
) -> npt.NDArray[np.uint8]:
    """The network inputs of `examples`: a read-only memory map, uint8 (N, H, W).

    Decoded once into `cache`, under a name that holds the contract's hash and `fingerprint`, which says what the
    pictures are and in which order; `advance` is told the number of pictures done. Raises DataError for a picture that
    can't be used, and StorageError.
    """
    contract_key = hashlib.sha256(json.dumps(contract.to_json(), sort_keys=True).encode()).hexdigest()
    file = cache / f"pictures-{fingerprint[:16]}-{contract_key[:8]}.npy"
    if not file.is_file():
        shape = (len(examples), contract.height, contract.width)
        with storage.new_array(file, np.uint8, shape, "the decoded pictures") as array:
            for begin in range(0, len(examples), WINDOW):
                window = examples[begin : begin + WINDOW]
                with ThreadPoolExecutor(cpus()) as pool:
                    prepared = pool.map(lambda example: _prepare(example, contract), window)
                    for index, image in enumerate(prepared, start=begin):
                        array[index] = image
                        advance(index + 1)
    pictures: npt.NDArray[np.uint8] = np.load(file, mmap_mode="r")
    return pictures


def _prepare(example: Example, contract: Contract) -> npt.NDArray[np.uint8]:
    try:
        return images.network_input(example.path, contract)
    except PictureRejected as rejected:
        raise DataError(f"a labelled picture can't be used ({rejected.message}): {example.path}") from None
