"""Pixel data become stored values: unpacked, or decoded, then the bits that hold the film and no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.errors import PictureRejected
from edgecxr.pictures import limits
from edgecxr.pictures.dicom import codestream, decoder
from edgecxr.pictures.dicom import elements as tags
from edgecxr.pictures.dicom.elements import Elements

_UID = "1.2.840.10008.1.2"
NATIVE = frozenset({"", _UID, f"{_UID}.1", f"{_UID}.1.99", f"{_UID}.2"})
# Transfer syntax -> (name, decoder, whether values may differ from those that were encoded).
COMPRESSED = {
    f"{_UID}.5": ("RLE Lossless", "rle", False),
    f"{_UID}.4.50": ("JPEG Baseline", "pillow", True),
    f"{_UID}.4.51": ("JPEG Extended", "jpeg", True),
    f"{_UID}.4.57": ("JPEG Lossless", "jpeg", False),
    f"{_UID}.4.70": ("JPEG Lossless, first-order prediction", "jpeg", False),
    f"{_UID}.4.80": ("JPEG-LS Lossless", "jpeg-ls", False),
    f"{_UID}.4.81": ("JPEG-LS Near-Lossless", "jpeg-ls", True),
    f"{_UID}.4.90": ("JPEG 2000 Lossless", "jpeg-2000", False),
    f"{_UID}.4.91": ("JPEG 2000", "jpeg-2000", True),
    f"{_UID}.4.201": ("HTJ2K Lossless", "htj2k", False),
    f"{_UID}.4.202": ("HTJ2K Lossless RPCL", "htj2k", False),
    f"{_UID}.4.203": ("HTJ2K", "htj2k", True),
}
# PS3.6, table A-1: kinds of what isn't read, by how their UIDs begin.
NOT_READ = {
    f"{_UID}.1.98": "Encapsulated Uncompressed",
    f"{_UID}.4.5": "a retired kind of JPEG",
    f"{_UID}.4.6": "a retired kind of JPEG",
    f"{_UID}.4.92": "JPEG 2000 Part 2",
    f"{_UID}.4.93": "JPEG 2000 Part 2",
    f"{_UID}.4.94": "JPIP",
    f"{_UID}.4.95": "JPIP",
    f"{_UID}.4.100": "MPEG-2",
    f"{_UID}.4.101": "MPEG-2",
    f"{_UID}.4.102": "MPEG-4",
    f"{_UID}.4.103": "MPEG-4",
    f"{_UID}.4.104": "MPEG-4",
    f"{_UID}.4.105": "MPEG-4",
    f"{_UID}.4.106": "MPEG-4",
    f"{_UID}.4.107": "HEVC",
    f"{_UID}.4.108": "HEVC",
    f"{_UID}.4.11": "JPEG XL",
    f"{_UID}.4.204": "JPIP HTJ2K",
    f"{_UID}.4.205": "JPIP HTJ2K",
    f"{_UID}.7": "SMPTE video",
}

Bits = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Stored:
    """A film's values as they are stored. A signed one stands there as its two's complement of `bits`."""

    values: Bits  # (rows, columns), below 1 << bits
    bits: int  # 8 to 16
    signed: bool
    limited: bool = True  # whether what decoded it had a limit on its memory


def read(found: Elements, max_pixels: int, min_side: int, jpeg: Callable[[bytes], Bits]) -> Stored:
    """The stored values of the one grey frame; `jpeg` decodes baseline JPEG. Raises PictureRejected.

    Bits above or below those of the film, overlays among them, are dropped. In a compressed frame nothing stands above
    them: what a lossy kind overshoots is the end of the range, and elsewhere it says that the frame is damaged.
    """
    rows, columns = found.integer(tags.ROWS), found.integer(tags.COLUMNS)
    if rows * columns > max_pixels:
        raise PictureRejected("too_large", f"more than {max_pixels // 1_000_000} megapixels: {columns} x {rows}")
    if min(rows, columns) < min_side:
        raise PictureRejected("too_small", f"smaller than {min_side} px: {columns} x {rows}")
    allocated = found.integer(tags.BITS_ALLOCATED)
    bits = found.integer(tags.BITS_STORED, allocated)
    shift = found.integer(tags.HIGH_BIT, bits - 1) + 1 - bits
    if found.integer(tags.SAMPLES, 1) != 1 or found.text(tags.PHOTOMETRIC) not in ("MONOCHROME1", "MONOCHROME2"):
        raise PictureRejected("unsupported_samples", "a DICOM picture of no grey samples (MONOCHROME1 or MONOCHROME2)")
    if allocated not in (8, 16) or not 8 <= bits <= allocated:
        raise PictureRejected("unsupported_samples", f"{bits} of {allocated} bits a sample, where 8 to 16 are read")
    if shift < 0 or shift + bits > allocated:
        raise PictureRejected("corrupt", "the DICOM file contradicts itself about the bits of a sample")
    limited = True
    if found.fragmented:
        raw, limited = _decoded(found, rows, columns, bits + shift, jpeg)
    else:
        raw = _native(found, rows, columns, allocated)
    values: Any = raw if not shift and bits == 8 * raw.itemsize else raw >> shift & ((1 << bits) - 1)
    return Stored(values, bits, found.integer(tags.PIXEL_REPRESENTATION, 0) == 1, limited)


def _native(found: Elements, rows: int, columns: int, allocated: int) -> Bits:
    if found.syntax not in NATIVE:
        raise _not_read(found.syntax)
    (data,) = found.pixels
    expected = rows * columns * allocated // 8
    if len(data) not in (expected, expected + expected % 2):
        raise PictureRejected("corrupt", "the DICOM file has less pixel data, or more, than its size needs")
    if allocated == 16:
        samples = np.frombuffer(data, f"{found.order}u2", rows * columns)
        return samples.astype(np.uint16, copy=False).reshape(rows, columns)
    octets = np.frombuffer(data, np.uint8)
    if found.order == ">" and found.values[tags.PIXELS].vr == b"OW":  # two samples a word, the first in its low byte
        octets = octets[: octets.size // 2 * 2].reshape(-1, 2)[:, ::-1].reshape(-1)
        if octets.size < rows * columns:
            raise PictureRejected("corrupt", "the DICOM file has less pixel data, or more, than its size needs")
    return octets[: rows * columns].reshape(rows, columns)


def _decoded(found: Elements, rows: int, columns: int, depth: int, jpeg: Callable[[bytes], Bits]) -> tuple[Bits, bool]:
    """The compressed frame's samples of `depth` bits, and whether what decoded them had a limit on its memory."""
    if found.syntax not in COMPRESSED:
        raise _not_read(found.syntax)
    name, codec, lossy = COMPRESSED[found.syntax]
    data = b"".join(found.pixels)
    if rows * columns > limits.MAX_PIXELS_A_BYTE * len(data):
        reason = f"{columns} x {rows} px in {len(data)} bytes: more than {limits.MAX_PIXELS_A_BYTE} a byte"
        raise PictureRejected("implausible", reason)
    frame = codestream.Frame(rows, columns, 1) if codec == "rle" else codestream.read(data)
    if (frame.rows, frame.columns, frame.components) != (rows, columns, 1):
        raise PictureRejected("corrupt", "the compressed picture has another size than the DICOM file says")
    if codec == "pillow":
        if depth != 8:
            raise PictureRejected("corrupt", "the DICOM file contradicts itself about the bits of a sample")
        return jpeg(data), True
    if not decoder.available():
        raise PictureRejected(
            "dicom", f"this device has no decoder of {name}: pip install 'edgecxr[dicom]', or send it uncompressed"
        )
    samples, limited = decoder.decode(codec, data, rows, columns)
    if codec != "rle":  # which is the bytes themselves
        signed = found.integer(tags.PIXEL_REPRESENTATION, 0) == 1 and samples.dtype.kind == "i"
        low, high = (-(1 << depth - 1), (1 << depth - 1) - 1) if signed else (0, (1 << depth) - 1)
        if samples.min() < low or samples.max() > high:
            if not lossy:
                raise PictureRejected("corrupt", "the compressed picture is damaged or truncated")
            samples = np.clip(samples, low, high)
    return (samples.astype(np.uint8) if samples.dtype.itemsize == 1 else samples.astype(np.uint16)), limited


def _not_read(syntax: str) -> PictureRejected:
    beginnings = (name for start, name in NOT_READ.items() if syntax.startswith(start))
    name = COMPRESSED[syntax][0] if syntax in COMPRESSED else next(beginnings, None)
    known = f"of the transfer syntax {name}" if name else "of a transfer syntax that isn't known"
    return PictureRejected("transfer_syntax", f"a DICOM file {known}, which isn't read so")
