"""A DICOM file's bytes become a grey film: walked, judged, unpacked or decoded, rendered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgecxr.pictures.dicom import elements, film, samples
from edgecxr.pictures.dicom.render import render


@dataclass(frozen=True)
class Film:
    """A chest film as a workstation would show it."""

    pixels: npt.NDArray[np.uint8]  # (H, W), black is zero
    bits: int  # stored
    rendering: str  # the way that was gone


def read(data: bytes, *, max_pixels: int, min_side: int, jpeg: Callable[[bytes], samples.Bits]) -> Film:
    """The film of a DICOM file's bytes; `jpeg` decodes a baseline JPEG to grey. Raises PictureRejected."""
    found = elements.read(data)
    film.check(found)
    stored = samples.read(found, max_pixels, min_side, jpeg)
    pixels, way = render(stored, found)
    return Film(pixels, stored.bits, way)
