"""From a grey picture to the network's input: the one preprocessing of training, calibration, evaluation and device.

Everything here is pure. What is done is written down in a `Contract`, which the bundle carries; a runtime that meets a
contract it doesn't know refuses it, because a picture prepared differently is a different picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.errors import BundleError
from edgecxr.pictures.pillow import Image

Grey = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

# Detectors digitise to one of these depths; a 16-bit container says nothing about which.
BIT_DEPTHS = (8, 10, 12, 14, 16)


@dataclass(frozen=True)
class Contract:
    """How a decoded picture becomes the network's input. Every field is part of the model.

    Only `height`, `width`, `source_size` and `jpeg_scale` may vary; the others name the single behaviour that this
    runtime has, so that a bundle made for another one is refused and not misread. Version 2 says how DICOM is read;
    version 1 lacks those fields, and reads none.
    """

    version: int = 2
    height: int = 299  # px of the network's input
    width: int = 299
    # px; the resolution of the training pictures, where that is below the input's. A sharper original is first reduced
    # to it: detail that the network never saw in training is a shift between workstation and device, not information.
    source_size: int | None = None
    # JPEGs may be decoded at reduced scale down to this many times the input size (0: never): half the decoding time
    # at 2 megapixels for a mean difference of 0.1 grey levels.
    jpeg_scale: int = 2
    geometry: str = "stretch"  # both sides are resized on their own, without padding
    filter: str = "bilinear-antialiased"  # Pillow's BILINEAR: a triangle filter whose support grows when reducing
    grey: str = "bt601"  # luma of ITU-R BT.601, as in JPEG and Pillow's "L"
    bit_depth: str = "declared-or-observed"  # see `bit_depth()`
    polarity: str = "black-is-zero"  # TIFF's white-is-zero is inverted by the decoder
    orientation: str = "exif"  # an EXIF orientation is applied
    dicom_order: str | None = "modality-voi-polarity"  # then what is done with every picture
    dicom_voi: str | None = "first-lut-or-first-window"  # LINEAR, LINEAR_EXACT and SIGMOID as PS3.3 has them
    # Where there is neither: of 8 bits the full range; else from percentile 0.5 to 99.5 of a film's values, without its
    # padding, and a tenth of that at either end, as far as the film has values there.
    dicom_no_voi: str | None = "8-bit-full-range-or-percentiles-0.5-and-a-tenth"
    dicom_polarity: str | None = "once"  # MONOCHROME1, INVERSE or both: white minus the grey level
    dicom_padding: str | None = "black"

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key in _names(self.version)}

    def upgraded(self) -> Contract:
        """The same with the fields of the present version: other pictures are prepared as they were."""
        return Contract(**{name: getattr(self, name) for name in ("height", "width", "source_size", "jpeg_scale")})

    @property
    def reads_dicom(self) -> bool:
        return self.version >= 2

    @classmethod
    def from_json(cls, data: object) -> Contract:
        """Read a contract; raises BundleError where it isn't one that this runtime carries out to the letter."""
        if not isinstance(data, Mapping):
            raise BundleError(f"the preprocessing contract is not an object: {type(data).__name__}")
        known: dict[str, Any] = {f.name: f.default for f in fields(cls)}
        if data.get("version") == 1 and type(data["version"]) is int:
            known = {name: known[name] for name in _names(1)} | {"version": 1}
        if set(data) != set(known):
            odd = sorted(set(data) ^ set(known))
            raise BundleError(
                f"the preprocessing contract has fields this runtime doesn't share: {', '.join(odd)[:200]}"
            )
        for name, default in known.items():
            value = data[name]
            if name in ("height", "width"):
                valid = type(value) is int and 32 <= value <= 4096
            elif name == "source_size":
                valid = value is None or (type(value) is int and 32 <= value <= 4096)
            elif name == "jpeg_scale":
                valid = type(value) is int and (value == 0 or 2 <= value <= 16)
            else:
                valid = type(value) is type(default) and value == default
            if not valid:
                raise BundleError(
                    f"this runtime doesn't know the preprocessing contract's {name} = {str(value)[:60]!r}"
                )
        return cls(**{**dict.fromkeys(_ONLY_IN_2), **dict(data)})

    @property
    def decode_size(self) -> tuple[int, int] | None:
        """Smallest (width, height) in px to which a JPEG decoder may reduce a picture, or None for never."""
        if not self.jpeg_scale:
            return None
        return self.jpeg_scale * self.width, self.jpeg_scale * self.height


_ONLY_IN_2 = tuple(f.name for f in fields(Contract) if f.name.startswith("dicom_"))


def _names(version: int) -> list[str]:
    """The fields of a contract of that version."""
    return [f.name for f in fields(Contract) if version >= 2 or f.name not in _ONLY_IN_2]


def bit_depth(pixels: Grey, declared: int | None = None) -> int:
    """Bits per sample of grey `pixels` (H, W): what the file declares, else the smallest usual depth that holds them.

    A declared depth that the pixels exceed is not believed, so that nothing is ever clipped.
    """
    if pixels.dtype == np.uint8:
        return 8
    peak = int(pixels.max())
    if declared is not None and 8 <= declared <= 16 and peak < 1 << declared:
        return declared
    return next(bits for bits in BIT_DEPTHS if peak < 1 << bits)


def to_uint8(pixels: Grey, bits: int) -> npt.NDArray[np.uint8]:
    """Scale grey `pixels` (H, W) of `bits` per sample to 0..255: round(x * 255 / (2**bits - 1)), never clipped."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    full = (1 << bits) - 1
    table = (np.arange(full + 1, dtype=np.uint32) * 255 + full // 2) // full
    return table.astype(np.uint8)[pixels]


def preprocess(pixels: npt.NDArray[np.uint8], contract: Contract) -> npt.NDArray[np.uint8]:
    """Grey uint8 `pixels` (H, W) to the network's input: uint8 (contract.height, contract.width)."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    size = (contract.width, contract.height)
    if contract.source_size is not None:
        limit = contract.source_size
        reduced = (min(picture.width, limit), min(picture.height, limit))
        if reduced != picture.size:
            picture = picture.resize(reduced, Image.Resampling.BILINEAR)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.uint8)
