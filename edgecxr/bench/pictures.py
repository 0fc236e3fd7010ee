"""Which pictures a measurement runs on."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgecxr.bundle import GOLDEN_INPUTS, Bundle
from edgecxr.errors import PictureRejected, UsageError
from edgecxr.pictures import checksums
from edgecxr.pictures import decode as images
from edgecxr.pictures.files import read
from edgecxr.pictures.sample import spread

MAX_INPUTS = 64  # network inputs that are held in memory: 6 MB, more than the caches hold, as a stream would be


@dataclass(frozen=True)
class Pictures:
    """Files that can be scored, and network inputs of some of them, uint8 (N, H, W, 1), evenly chosen."""

    files: tuple[Path, ...]
    inputs: npt.NDArray[np.uint8]
    left_out: int  # files that would be rejected, which is faster than any picture is scored
    megapixels: float  # median of the files that can be scored
    megabytes: float  # likewise, 10^6 bytes


def golden_files(bundle: Bundle, folder: Path) -> tuple[Path, ...]:
    """The golden inputs as PNG files in `folder`: what there is to decode where no pictures are given.

    Raises UsageError where the bundle has none, being a lone .onnx.
    """
    if GOLDEN_INPUTS not in bundle.files:
        raise UsageError(f"there are no golden inputs to measure on, give PATH for pictures: {bundle.path}")
    files = []
    for index, picture in enumerate(bundle.golden_inputs()):
        path = folder / f"golden-{index}.png"
        encoded = io.BytesIO()
        Image.fromarray(picture[:, :, 0]).save(encoded, "PNG")
        path.write_bytes(encoded.getvalue())
        files.append(path)
    return tuple(files)


def usable(
    bundle: Bundle, paths: Sequence[Path], advance: Callable[[int, int], Any] = lambda done, total: None
) -> Pictures:
    """The files that can be scored, each decoded once; raises UsageError where there is none."""
    good: list[Path] = []
    ready: list[npt.NDArray[np.uint8]] = []
    sizes: list[float] = []
    for done, file in enumerate(paths, 1):
        try:
            data = read(file)
            checksums.check(file, hashlib.sha256(data).hexdigest())
            picture = images.decode(data, bundle.preprocessing)
            ready.append(images.prepare(picture, bundle.preprocessing))
        except PictureRejected:
            continue
        finally:
            advance(done, len(paths))
        good.append(file)
        sizes.append(picture.width * picture.height / 1e6)
    if not good:
        raise UsageError(f"none of the {len(paths)} pictures can be scored, there is nothing to measure")
    return Pictures(
        files=tuple(good),
        inputs=np.stack([ready[place] for place in spread(len(ready), MAX_INPUTS)])[..., None],
        left_out=len(paths) - len(good),
        megapixels=float(np.median(sizes)),
        megabytes=float(np.median([file.stat().st_size for file in good])) / 1e6,
    )
