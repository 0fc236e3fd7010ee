"""What a picture file says about itself in its first bytes: format, components, quantization tables. Pure.

`images.decode` stays the only decoder: these functions get bytes that it has accepted, follow no offset outside them
and answer 0 for what isn't there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from edgecxr.pictures.dicom.elements import is_dicom

Format = Literal["JPEG", "PNG", "TIFF", "BMP", "DICOM"]
FORMATS: tuple[Format, ...] = ("JPEG", "PNG", "TIFF", "BMP", "DICOM")

# JPEG markers, ITU-T T.81 table B.1: start of frame is C0..CF without DHT (C4), JPG (C8) and DAC (CC).
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_QUANTIZATION, _START_OF_SCAN, _END = 0xDB, 0xDA, 0xD9
# PNG colour types to samples a pixel, ISO/IEC 15948 table 11.1; a palette (3) counts as colour.
_PNG_COMPONENTS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


@dataclass(frozen=True)
class Header:
    """`components` a pixel (0: not told), `quantization`: sum of the JPEG luma table, 64..65280 (0: no JPEG)."""

    format: Format
    components: int
    progressive: bool
    quantization: int


def read_header(data: bytes) -> Header:
    """The header of a file's bytes that `images.decode` has accepted."""
    if is_dicom(data):
        return Header("DICOM", 1, False, 0)
    if data[:2] == b"\xff\xd8":
        return _jpeg(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        interlaced = len(data) > 28 and data[28] == 1
        return Header("PNG", _PNG_COMPONENTS.get(data[25], 0) if len(data) > 25 else 0, interlaced, 0)
    if data[:2] == b"BM":
        return Header("BMP", 0, False, 0)
    return Header("TIFF", 0, False, 0)


def _jpeg(data: bytes) -> Header:
    """Walks the segments up to the first scan (ITU-T T.81, annex B): each is FF, a marker, a length, its content."""
    components, progressive, quantization = 0, False, 0
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker in (_START_OF_SCAN, _END):
            break
        (length,) = struct.unpack_from(">H", data, position + 2)
        segment = data[position + 4 : position + 2 + length]
        if marker in _START_OF_FRAME and len(segment) > 5:
            components, progressive = segment[5], marker in _PROGRESSIVE
        elif marker == _QUANTIZATION:
            quantization = quantization or _luma_sum(segment)
        position += 2 + max(length, 2)
    return Header("JPEG", components, progressive, quantization)


def _luma_sum(segment: bytes) -> int:
    """Sum of the 64 entries of table 0 in a DQT segment, 0 where it isn't there: larger is coarser."""
    position = 0
    while position < len(segment):
        precision, table = segment[position] >> 4, segment[position] & 15
        size = 128 if precision else 64
        entries = segment[position + 1 : position + 1 + size]
        if len(entries) < size:
            return 0
        if table == 0:
            return sum(struct.unpack(">64H", entries)) if precision else sum(entries)
        position += 1 + size
    return 0
