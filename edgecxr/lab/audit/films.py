"""Every picture read once: hashes, header, border and grey statistics, a 64 px thumbnail, a perceptual hash.

Pictures are decoded by `edgecxr.images` and prepared by `edgecxr.preprocess`, as everywhere; only what is kept here
stays in memory: about 4.5 kB a picture.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn  # type: ignore[import-untyped]

from edgecxr.errors import PictureRejected
from edgecxr.lab.audit.headers import FORMATS, read_header
from edgecxr.lab.dataset import Example
from edgecxr.pictures import decode as images
from edgecxr.pictures import files
from edgecxr.pictures.preprocess import Contract, to_uint8

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

SIDE = 64  # px of the thumbnail
# Decoded in full (jpeg_scale 0): two files of the same content are the same, whatever their formats.
THUMBNAIL = Contract(height=SIDE, width=SIDE, jpeg_scale=0)

# Where sharpness is measured: near what a network sees, and the same number of frequencies for every film.
DETAIL_SIDE = 256
DETAIL = Contract(height=DETAIL_SIDE, width=DETAIL_SIDE, jpeg_scale=0)
OCTAVES = (1 / 4, 1 / 2)  # of the highest frequency: energy beyond each

STRIP = 1 / 32  # of a side: the outermost strip, whose grey is the border's
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)

# What one question may look at; every column is a number that is known without looking at anatomy.
COLUMNS: dict[str, tuple[str, ...]] = {
    "size": ("width", "height", "aspect", "log pixels"),
    "format": (*FORMATS, "one component", "three components", "more than 8 bits", "progressive"),
    "compression": ("log bytes", "bytes per pixel", "log bytes per pixel", "JPEG quantization"),
    "border": tuple(
        f"{side} {what}" for side in ("top", "bottom", "left", "right") for what in ("mean", "deviation", "flat")
    ),
    "mean grey": ("mean",),
    "grey statistics": (
        "mean", "deviation", *(f"percentile {p}" for p in PERCENTILES), "black", "white", "entropy",
    ),
    "contrast": ("deviation", "percentiles 1 to 99", "percentiles 5 to 95", "percentiles 25 to 75"),
    "sharpness": tuple(f"log share of energy beyond {octave:g} of the highest frequency" for octave in OCTAVES),
}  # fmt: skip
# Told from what other questions look at already; left out where all are asked together.
PARTS = ("mean grey", "contrast")


@dataclass(frozen=True)
class Film:
    """What is kept of one picture. `properties` has a float32 vector for each key of `COLUMNS`."""

    sha256: bytes  # of the file
    content: bytes  # sha256 of the decoded pixels and their shape
    properties: dict[str, Floats]
    thumbnail: Bytes  # (64, 64)
    phash: np.uint64


@dataclass(frozen=True)
class Films:
    """The N pictures that could be read, in the order of their examples, and those that couldn't, with the reason."""

    examples: tuple[Example, ...]
    sha256: tuple[bytes, ...]
    content: tuple[bytes, ...]
    properties: dict[str, Floats]  # each (N, columns)
    thumbnails: Bytes  # (N, 64, 64)
    phashes: npt.NDArray[np.uint64]  # (N,)
    rejected: tuple[tuple[Example, str, str], ...]  # the example, the code, one sentence

    def __len__(self) -> int:
        return len(self.examples)


def read_films(examples: Sequence[Example], workers: int, advance: Callable[[], None] = lambda: None) -> Films:
    """Read every picture, `workers` at a time; one that can't be read is listed and ends nothing."""
    kept: list[Example] = []
    rejected: list[tuple[Example, str, str]] = []
    digests: list[tuple[bytes, bytes]] = []
    properties = {name: np.empty((len(examples), len(columns)), np.float32) for name, columns in COLUMNS.items()}
    thumbnails = np.empty((len(examples), SIDE, SIDE), np.uint8)
    phashes = np.empty(len(examples), np.uint64)
    remaining = iter(examples)
    pending: deque[tuple[Example, Future[Film]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="edgecxr") as pool:
        try:
            while True:
                # A few a worker ahead, so that a folder of any length is read in the same memory.
                for example in islice(remaining, 8 * workers - len(pending)):
                    pending.append((example, pool.submit(read_film, example)))
                if not pending:
                    break
                example, future = pending.popleft()
                try:
                    film = future.result()
                except PictureRejected as error:
                    rejected.append((example, error.code, error.message))
                else:
                    row = len(kept)
                    kept.append(example)
                    digests.append((film.sha256, film.content))
                    for name, values in film.properties.items():
                        properties[name][row] = values
                    thumbnails[row] = film.thumbnail
                    phashes[row] = film.phash
                advance()
        finally:
            for _, future in pending:
                future.cancel()
    n = len(kept)
    return Films(
        tuple(kept),
        tuple(file for file, _ in digests),
        tuple(content for _, content in digests),
        {name: values[:n] for name, values in properties.items()},
        thumbnails[:n],
        phashes[:n],
        tuple(rejected),
    )


def read_film(example: Example) -> Film:
    """Read, decode and measure one picture; raises PictureRejected where it can't be scored either."""
    data = files.read(example.path)
    picture = images.decode(data, THUMBNAIL)
    grey = to_uint8(picture.pixels, picture.bits)
    thumbnail = images.prepare(replace(picture, pixels=grey, bits=8), THUMBNAIL)
    content = hashlib.sha256(f"{picture.pixels.dtype} {picture.pixels.shape}".encode())
    content.update(np.ascontiguousarray(picture.pixels).data)
    header = read_header(data)
    pixels = picture.width * picture.height
    statistics = grey_statistics(grey)
    properties = {
        "size": _row(picture.width, picture.height, picture.width / picture.height, np.log(pixels)),
        "format": _row(
            *(header.format == name for name in FORMATS),
            header.components == 1,
            header.components == 3,
            picture.bits > 8,
            header.progressive,
        ),
        "compression": _row(np.log(len(data)), len(data) / pixels, np.log(len(data) / pixels), header.quantization),
        "border": border_statistics(grey),
        "mean grey": statistics[:1],
        "grey statistics": statistics,
        "contrast": contrast(statistics),
        "sharpness": sharpness(images.prepare(replace(picture, pixels=grey, bits=8), DETAIL)),
    }
    return Film(hashlib.sha256(data).digest(), content.digest(), properties, thumbnail, phash(thumbnail))


def border_statistics(grey: Bytes) -> Floats:
    """Of uint8 (H, W), for top, bottom, left, right: mean and deviation of the outermost strip, both 0..255, and the
    share of the side, 0..1, over which rows (or columns) counted from the edge are flat.

    A row is flat where its deviation is below `images.MIN_CONTRAST`: padding, a frame, a collimator's shadow.
    """
    values: list[float] = []
    for lines in (grey, grey[::-1], grey.T, grey.T[::-1]):
        strip = lines[: max(1, round(len(lines) * STRIP))]
        flat = 0
        while flat < len(lines) and float(lines[flat].std()) < images.MIN_CONTRAST:
            flat += 1
        values += [float(strip.mean()), float(strip.std()), flat / len(lines)]
    return _row(*values)


def grey_statistics(grey: Bytes) -> Floats:
    """Of uint8 (H, W): mean, deviation, percentiles (all 0..255), shares of 0 and 255, entropy in bits."""
    counts = np.bincount(grey.ravel(), minlength=256)
    shares = counts / grey.size
    levels = np.arange(256)
    mean = float(shares @ levels)
    deviation = float(np.sqrt(shares @ (levels - mean) ** 2))
    percentiles = np.searchsorted(np.cumsum(shares), np.array(PERCENTILES) / 100)
    entropy = -float(np.sum(shares[counts > 0] * np.log2(shares[counts > 0])))
    return _row(mean, deviation, *percentiles, shares[0], shares[255], entropy)


def contrast(statistics: Floats) -> Floats:
    """Of `grey_statistics`: the deviation and the widths of three ranges of percentiles, grey levels."""
    percentiles = statistics[2 : 2 + len(PERCENTILES)]
    return _row(
        statistics[1], *(percentiles[-1 - place] - percentiles[place] for place in range(len(PERCENTILES) // 2))
    )


def sharpness(grey: Bytes) -> Floats:
    """Of uint8 (S, S): log10 of the energy beyond each of `OCTAVES`, as a share of all but the mean's.

    By the discrete cosine transform, whose coefficient (u, v) has the frequency max(u, v) / S of the highest. Windowing
    doesn't change it; blur, enlargement and compression do.
    """
    energy = dctn(grey.astype(np.float32), norm="ortho") ** 2
    energy[0, 0] = 0
    total = max(float(energy.sum()), 1e-6)
    begins = [round(octave * len(grey)) for octave in OCTAVES]
    inner = [float(energy[:begin, :begin].sum()) for begin in begins]
    return _row(*(np.log10(max(1 - part / total, 1e-9)) for part in inner))


def phash(thumbnail: Bytes) -> np.uint64:
    """64-bit perceptual hash of uint8 (64, 64): the signs of 8 x 8 low frequencies about their median.

    The DCT hash of Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions (2010), section 3.2.1:
    DCT of 32 x 32 px, rows and columns 1 to 8 (the zeroth, brightness and its gradients, is left out), a bit for each
    coefficient above the median. The 32 px come from averaging 2 x 2 px.
    """
    small = thumbnail.reshape(SIDE // 2, 2, SIDE // 2, 2).mean(axis=(1, 3))  # (32, 32)
    low = dctn(small, norm="ortho")[1:9, 1:9].ravel()
    bits = np.packbits(low > np.median(low))  # 8 bytes
    return np.uint64(int.from_bytes(bits.tobytes(), "big"))


def _row(*values: float) -> Floats:
    return np.array(values, np.float32)
