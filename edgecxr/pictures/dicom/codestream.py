"""What a compressed frame says of its own size, read before any decoder sees it. Pure.

A decoder takes as much memory as the frame asks for, and not as the DICOM file around it says.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from edgecxr.errors import PictureRejected

# ITU-T T.81, table B.1, and for JPEG-LS T.87: start of frame without DHT (C4), JPG (C8) and DAC (CC).
_START_OF_FRAME = (frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}
_SCAN_OR_END = frozenset({0xDA, 0xD9})
_JPEG_2000 = b"\xff\x4f\xff\x51"  # SOC and SIZ, ITU-T T.800, A.5.1
MAX_SEGMENTS = 1000  # before the start of a frame; a frame in a DICOM file has tables and a comment


@dataclass(frozen=True)
class Frame:
    """As the codestream declares it."""

    rows: int
    columns: int
    components: int


def read(data: bytes) -> Frame:
    """The frame that a JPEG, JPEG-LS, JPEG 2000 or HTJ2K codestream declares; raises PictureRejected."""
    try:
        if data.startswith(_JPEG_2000):
            right, down, left, up = struct.unpack_from(">4I", data, 8)
            (components,) = struct.unpack_from(">H", data, 40)
            return Frame(down - up, right - left, components)
        if data.startswith(b"\xff\xd8"):
            place = 2
            for _ in range(MAX_SEGMENTS):
                while data[place + 1] == 0xFF:
                    place += 1
                marker = data[place + 1]
                if data[place] != 0xFF or marker in _SCAN_OR_END:
                    break
                if marker in _START_OF_FRAME:
                    return Frame(*struct.unpack_from(">HHB", data, place + 5))
                place += 2 + max(2, int.from_bytes(data[place + 2 : place + 4], "big"))
    except (struct.error, IndexError):
        pass
    raise PictureRejected("corrupt", "the compressed picture is damaged or truncated")
