"""A JPEG that was cut short and closed by an end marker: a remainder that is flat because nothing of it is in the file.

libjpeg fills what is missing with coefficients of 0, which is a flat 128 down to the last pixel. A film may have such a
border of its own, but then it is in the file: for each of its blocks a code that says "no change" and one that says
"nothing else", and these are the coded data's last bits. So a picture that ends in flat 128 is looked at there. Where
the restart markers are too few, or a progressive picture's later scans aren't there, no bit needs to be looked at.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from edgecxr.pictures.jpeg import Jpeg, Scan, read

FILL = 128  # grey of a block whose coefficients are 0 (T.81, A.3.1: samples are shifted by half their range)
MIN_FLAT = 3  # MCUs; a remainder of fewer isn't looked at: at 224 px it is 1.5 % of a film, at 2 megapixels 0.04 %
# A film's border of 128 is found in the bits whole, but for the first of its blocks. A cut within flat black leaves a
# little of such bits: it is taken for a border only if they suffice for this part of the remainder.
HELD = 8
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_SEQUENTIAL, _PROGRESSIVE = frozenset({0xC0, 0xC1}), frozenset({0xC2})


def is_cut(data: bytes, grey: npt.NDArray[np.uint8], scale: int = 1) -> bool:
    """Whether the JPEG `data`, decoded as `grey` (H, W) at one `scale`-th of its size, lacks its end.

    Only what is certain: a cut that leaves fewer than MIN_FLAT flat units isn't found, nor one behind the first scan of
    a progressive picture, and one within a long flat border only by chance.
    """
    if grey[-1, -1] != FILL:
        return False
    jpeg = read(data)
    if jpeg is None:
        return False
    flat = _flat(jpeg, grey, scale)
    if flat < MIN_FLAT:
        return False
    if jpeg.frame.marker in _PROGRESSIVE or len(jpeg.scans) > 1:
        return not _complete(jpeg)
    if jpeg.frame.marker not in _SEQUENTIAL:
        return False
    return not _holds(jpeg, jpeg.scans[0], data, flat)


def _mcu(jpeg: Jpeg) -> tuple[int, int]:
    """(width, height) in px of the first scan's smallest coded unit (A.2)."""
    wide, high = (max(factors) for factors in zip(*jpeg.frame.sampling.values(), strict=True))
    if len(jpeg.scans[0].tables) > 1:
        return 8 * wide, 8 * high
    own = jpeg.frame.sampling[next(iter(jpeg.scans[0].tables))]
    return 8 * wide // own[0], 8 * high // own[1]


def _flat(jpeg: Jpeg, grey: npt.NDArray[np.uint8], scale: int) -> int:
    """How many MCUs at the picture's end, in the order of their coding, are FILL throughout."""
    width, height = (max(1, side // scale) for side in _mcu(jpeg))
    across = -(-grey.shape[1] // width)
    flat = 0
    starts = np.arange(0, grey.shape[1], width)
    for bottom in range(-(-grey.shape[0] // height) - 1, -1, -1):
        row = grey[bottom * height : (bottom + 1) * height] == FILL
        columns = np.logical_and.reduceat(row.all(axis=0), starts)
        if not columns.all():
            return flat + int(np.argmin(columns[::-1]))
        flat += across
    return flat


def _complete(jpeg: Jpeg) -> bool:
    """Whether the scans give every coefficient of every component, to its last bit (G.1.1)."""
    whole = {component: np.zeros(64, bool) for component in jpeg.frame.sampling}
    for scan in jpeg.scans:
        if scan.low_bit == 0:
            for component in scan.tables:
                whole[component][scan.band[0] : scan.band[1] + 1] = True
    return all(coefficients.all() for coefficients in whole.values())


def _holds(jpeg: Jpeg, scan: Scan, data: bytes, flat: int) -> bool:
    """Whether the coded data of a sequential picture's only scan can end with so many flat MCUs."""
    coded = data[scan.start : scan.end]
    if jpeg.restart:
        width, height = _mcu(jpeg)
        total = -(-jpeg.frame.width // width) * -(-jpeg.frame.height // height)
        expected = -(-total // jpeg.restart) - 1
        return len(_RESTART.findall(coded)) >= expected
    unit = _flat_code(jpeg, scan)
    if unit is None:
        return False
    needed = unit * -(-(flat - 1) // HELD)
    # Two bytes may stand for one (FF is followed by 00), and the last is filled up with ones.
    tail = coded[-2 * (len(needed) // 8 + 2) :].rstrip(b"\xff").replace(b"\xff\0", b"\xff")
    bits = "".join(f"{byte:08b}" for byte in tail)
    return any(bits[: len(bits) - fill].endswith(needed) for fill in range(8) if set(bits[len(bits) - fill :]) <= {"1"})


def _flat_code(jpeg: Jpeg, scan: Scan) -> str | None:
    """The bits of an MCU that is as the one before it and has no detail; None where the file has no code for it."""
    unit = ""
    for component, (dc, ac) in scan.tables.items():
        same, nothing = jpeg.codes.get(dc, {}).get(0), jpeg.codes.get(16 + ac, {}).get(0)
        if same is None or nothing is None:
            return None
        wide, high = jpeg.frame.sampling[component] if len(scan.tables) > 1 else (1, 1)
        unit += (same + nothing) * (wide * high)
    return unit
