"""The labelled pictures as one memory-mapped array of network inputs: each file is read once, hashed and decoded.

In the cache lie, for each data set and contract, the array and beside it the SHA-256 of the file of each row. A file
whose hash has a row of the same contract, in whichever array, is read and hashed, and not decoded again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.errors import DataError, PictureRejected
from edgecxr.lab.dataset import Example
from edgecxr.lab.sources import Twins
from edgecxr.lab.train import storage
from edgecxr.pictures import decode as images
from edgecxr.pictures import files
from edgecxr.pictures.preprocess import Contract
from edgecxr.system.machine import cpus

WINDOW = 512  # pictures in hand at a time: memory stays the same whatever the data's size
SIZE_SAMPLE = 200  # pictures of each source whose size decides `source_size`
SAMPLE_BYTES = 128 << 20  # of those files, kept until they are decoded; where they are larger, fewer are looked at

Inputs = npt.NDArray[np.uint8]  # (N, H, W)
Row = tuple[Path, int]  # of an array in the cache


class Corpus:
    """Labelled pictures, and what is known of their files: whatever is asked for, in whichever order, it is kept.

    Not for several threads. Every method raises DataError for a picture that can't be used, and, where the sources are
    to be `apart`, for one whose content another source had before.
    """

    def __init__(self, examples: Sequence[Example], *, apart: bool = False) -> None:
        self.examples = tuple(examples)
        self._apart = apart
        self._sides: dict[Path, int] = {}  # the shorter one, px
        self._kept: dict[Path, bytes] = {}  # files that were read for their size and not hashed yet
        self._hashes: tuple[str, ...] = ()
        self._inputs: dict[Path, Inputs] = {}

    def source_size(self, learnt: Sequence[Example], contract: Contract) -> int | None:
        """Resolution of the pictures `learnt` in px (median shorter side), None where it isn't below the input's.

        Of several sources, the smallest one's: sharpness then tells no source. Goes into the contract: a device's
        sharper original is first reduced to it.
        """
        by_source: dict[str, list[Example]] = {}
        for example in learnt:
            by_source.setdefault(example.source, []).append(example)
        medians = [
            self._median_side(examples, contract, SAMPLE_BYTES // len(by_source)) for examples in by_source.values()
        ]
        return min(medians) if min(medians) < min(contract.width, contract.height) else None

    def _median_side(self, examples: Sequence[Example], contract: Contract, room: int) -> int:
        step = max(1, len(examples) // SIZE_SAMPLE)
        sides = []
        # In an order that has nothing to do with the manifest's: what there is no room for is missing everywhere.
        for example in sorted(examples[::step], key=_shuffled):
            if example.path not in self._sides:
                data = _read(example)
                room -= len(data)
                self._sides[example.path] = _side(example, data, contract)
                if not self._hashes:  # else nothing is left to do with them
                    self._kept[example.path] = data
            sides.append(self._sides[example.path])
            if room <= 0:
                break
        return int(np.median(sides))

    def hashes(self) -> tuple[str, ...]:
        """SHA-256 of each file, hexadecimal."""
        if not self._hashes:
            with ThreadPoolExecutor(cpus()) as pool:
                found = pool.map(lambda example: _hash(self._bytes(example)), self.examples)
                admit, hashes = self._admit(), tuple(found)
            for example, content in zip(self.examples, hashes, strict=True):
                admit(example, content)
            self._hashes = hashes
        return self._hashes

    def inputs(self, contract: Contract, cache: Path, advance: Callable[[int], Any] = lambda done: None) -> Inputs:
        """The network inputs of the pictures: a read-only memory map, uint8 (N, H, W).

        It lies in `cache`, under a name that holds the contract's hash and that of all contents in their order.
        `advance` is told the number of pictures done. Raises StorageError too.
        """
        key = hashlib.sha256(json.dumps(contract.to_json(), sort_keys=True).encode()).hexdigest()[:8]
        if not self._hashes or not self._file(cache, key).is_file():
            self._decode(contract, cache, key, advance)
        file = self._file(cache, key)
        if file not in self._inputs:
            self._inputs[file] = np.load(file, mmap_mode="r")
        return self._inputs[file]

    def _decode(self, contract: Contract, cache: Path, key: str, advance: Callable[[int], Any]) -> None:
        """Read and hash every file, decode those that no array of the contract holds, and let this data's stand."""
        known = _known(cache, key)
        admit = self._admit()
        hashes: list[str] = []

        def prepare(example: Example) -> tuple[str, Inputs | None]:
            data = self._bytes(example)
            found = _hash(data)
            return found, None if found in known else _prepare(example, data, contract)

        with ExitStack() as stack:
            array: Inputs | None = None

            def begin_array() -> Inputs:
                shape = (len(self.examples), contract.height, contract.width)
                place, what = cache / f"pictures-{key}.npy", "the decoded pictures"
                # What it is called is known once the last file is hashed.
                opened = storage.new_array(place, np.uint8, shape, what, target=lambda: self._file(cache, key))
                return stack.enter_context(opened)

            for begin in range(0, len(self.examples), WINDOW):
                with ThreadPoolExecutor(cpus()) as pool:
                    prepared = pool.map(prepare, self.examples[begin : begin + WINDOW])
                    for index, (found, image) in enumerate(prepared, start=begin):
                        hashes.append(found)
                        admit(self.examples[index], found)
                        if image is not None:
                            array = begin_array() if array is None else array
                            array[index] = image
                        advance(index + 1)
            self._hashes = tuple(hashes)
            if array is not None or not self._file(cache, key).is_file():
                _copy(known, hashes, begin_array() if array is None else array)
        listing = "".join(f"{found}\n" for found in hashes)
        storage.save_text(_listing(self._file(cache, key)), listing, "the hashes of the decoded pictures")

    def rows(self, examples: Iterable[Example]) -> list[int]:
        """The rows of `examples` in the array."""
        row_of = {example.file: row for row, example in enumerate(self.examples)}
        return [row_of[example.file] for example in examples]

    def fingerprint(self, examples: Sequence[Example]) -> str:
        """SHA-256 over (file, label, split, content) of `examples`: says which data a run was fitted on."""
        hashes, data = self.hashes(), hashlib.sha256()
        for example, row in zip(examples, self.rows(examples), strict=True):
            data.update(json.dumps([example.file, example.label, example.split, hashes[row]]).encode())
        return data.hexdigest()

    def _admit(self) -> Callable[[Example, str], None]:
        return Twins().add if self._apart else lambda example, content: None

    def _file(self, cache: Path, key: str) -> Path:
        return cache / f"pictures-{_hash(''.join(self._hashes).encode())[:16]}-{key}.npy"

    def _bytes(self, example: Example) -> bytes:
        kept = self._kept.pop(example.path, None)
        return _read(example) if kept is None else kept


def _shuffled(example: Example) -> bytes:
    return hashlib.sha256(example.file.encode("utf-8", "surrogatepass")).digest()


def _known(cache: Path, key: str) -> dict[str, Row]:
    """Where the arrays of a contract have the picture of a file with that hash."""
    known: dict[str, Row] = {}
    for file in sorted(cache.glob(f"pictures-*-{key}.npy")):
        try:
            hashes = _listing(file).read_text(encoding="ascii").split()
            count = len(np.load(file, mmap_mode="r"))
        except (OSError, ValueError):  # an array of before there were such lists, or half of a pair
            continue
        if len(hashes) == count:
            known |= {found: (file, row) for row, found in enumerate(hashes)}
    return known


def _copy(known: dict[str, Row], hashes: Sequence[str], array: Inputs) -> None:
    """Put into `array` the rows that `known` has."""
    opened: dict[Path, Inputs] = {}
    for index, found in enumerate(hashes):
        if found in known:
            file, row = known[found]
            if file not in opened:
                opened[file] = np.load(file, mmap_mode="r")
            array[index] = opened[file][row]


def _listing(file: Path) -> Path:
    return file.with_suffix(".sha256")


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(example: Example) -> bytes:
    try:
        return files.read(example.path)
    except PictureRejected as rejected:
        raise _unusable(example, rejected) from None


def _side(example: Example, data: bytes, contract: Contract) -> int:
    try:
        picture = images.decode(data, contract)
    except PictureRejected as rejected:
        raise _unusable(example, rejected) from None
    return min(picture.width, picture.height)


def _prepare(example: Example, data: bytes, contract: Contract) -> Inputs:
    try:
        return images.prepare(images.decode(data, contract), contract)
    except PictureRejected as rejected:
        raise _unusable(example, rejected) from None


def _unusable(example: Example, rejected: PictureRejected) -> DataError:
    return DataError(f"a labelled picture can't be used ({rejected.message}): {example.path}")
