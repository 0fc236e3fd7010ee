"""Whether what follows the first picture of a file is only a smaller copy of it, as cameras and scanners add."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgecxr.pictures import jpeg, limits

_INDEX = re.compile(rb"\xff\xe2..MPF\0", re.DOTALL)  # the segment APP2; offsets count from here (5.2.3.3)
MAX_FRAMES = 32  # a pyramid halves 80 megapixels a dozen times
# TIFF 6.0, section 8: NewSubfileType, whose bit 0 is a reduced-resolution copy, and the older SubfileType, whose 2 is.
_NEW_SUBFILE, _SUBFILE = 254, 255
# CIPA DC-007, 5.2.3.3: an MP entry's type code. Pillow gives it in words; those not here are of several views.
_PREVIEWS = frozenset({"Large Thumbnail (VGA Equivalent)", "Large Thumbnail (Full HD Equivalent)", "Undefined"})


def tiff_previews(data: bytes) -> bool:
    """Whether every page of a TIFF but the first says that it is a reduced copy, and the first doesn't."""
    tags, place = limits.directory(data, wanted={_NEW_SUBFILE, _SUBFILE})
    if _is_reduced(tags):
        return False
    for _ in range(MAX_FRAMES):
        if not place:
            return True
        tags, place = limits.directory(data, place, {_NEW_SUBFILE, _SUBFILE})
        if not _is_reduced(tags):
            return False
    return False


def _is_reduced(tags: Mapping[int, tuple[int, int]]) -> bool:
    return bool(tags.get(_NEW_SUBFILE, (1, 0))[1] & 1) or tags.get(_SUBFILE, (1, 0))[1] == 2


def jpeg_previews(data: bytes, size: tuple[int, int], entries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the pictures behind a JPEG of `size` (width, height) in px are previews, depth or gain maps: smaller.

    `entries` are those of its Multi-Picture index (CIPA DC-007, 5.2.3), as Pillow gives them. A picture that isn't
    where the index says is none: programs that drop the preview may leave the index.
    """
    found = _INDEX.search(data)
    if found is None or len(entries) > MAX_FRAMES:
        return False
    for entry in entries[1:]:
        other = jpeg.size(data, found.end() + entry["DataOffset"])
        if other is None:
            continue
        smaller = other[0] < size[0] and other[1] < size[1]
        if not smaller or entry["Attribute"]["MPType"] not in _PREVIEWS:
            return False
    return True
