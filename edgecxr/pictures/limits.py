"""Limits on how a picture file is built, checked before a decoder sees it.

Decoders keep or walk every piece that a file claims to have: 20 million empty PNG chunks are gigabytes of memory, a
JPEG of thousands of scans is hours. No film needs more than these limits, and each check costs far less than decoding.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection
from typing import NoReturn

from edgecxr.errors import PictureRejected
from edgecxr.pictures import kinds

MAX_CHUNKS = 100_000  # of a PNG; libpng's usual 8 KiB make 32,768 of them in the largest file
MAX_SEGMENTS = 10_000  # of a JPEG's header; an ICC profile or Exif block takes one for each 64 KiB
MAX_FILL = 65_536  # bytes between a JPEG's segments
MAX_SCANS = 200  # of a JPEG; a progressive one has 10 or so, and a thumbnail in its header may add to the count
MAX_SCANNED = 1_600_000_000  # scans times pixels: each scan passes over the whole picture, 5 ns a pixel here
MAX_ENTRIES = 10_000  # of a TIFF's directory; a scanner writes some 30
MAX_VALUES = 100_000  # of a TIFF directory entry: strips or tiles
MAX_PIXELS_A_BYTE = 1032  # deflate's ratio at most (zlib, "Technical Details"); a film in JPEG reaches 20

_PNG = b"\x89PNG\r\n\x1a\n"
# JPEG markers, ITU-T T.81 table B.1. Start of frame is C0..CF without DHT (C4), JPG (C8) and DAC (CC).
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_JPEG_LS = 0xF7  # the frame of ITU-T T.87
_STANDALONE = frozenset({0x01, *range(0xD0, 0xDA)})  # without a length: TEM, RST, SOI, EOI
_START_OF_SCAN = 0xDA

# TIFF 6.0, section 8 and 15; types of section 2 and of the BigTIFF design.
_WIDTH, _LENGTH, _STRIPS, _SAMPLES, _ROWS, _PLANAR = 256, 257, 273, 277, 278, 284
_TILE_WIDTH, _TILE_LENGTH, _TILES = 322, 323, 324
_LAYOUT = frozenset({_WIDTH, _LENGTH, _STRIPS, _SAMPLES, _ROWS, _PLANAR, _TILE_WIDTH, _TILE_LENGTH, _TILES})
_TIFF_ORDERS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<"}
_BYTES = frozenset({1, 2, 6, 7})  # BYTE, ASCII, SBYTE, UNDEFINED: kept as they are, never made into numbers
_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}


def check(data: bytes) -> None:
    """Raise PictureRejected where the bytes of a JPEG, PNG, TIFF or BMP file are built as no film is."""
    if data.startswith(b"\xff\xd8"):
        _jpeg(data)
    elif data.startswith(_PNG):
        _png(data)
    elif data.startswith((b"II", b"MM")):
        _tiff(data)
    elif data.startswith(b"BM"):
        _bmp(data)


def check_size(width: int, height: int, data: bytes) -> None:
    """Raise PictureRejected where the file can't hold a film of so many px, or takes hours to show that it does."""
    pixels = width * height
    if pixels > MAX_PIXELS_A_BYTE * len(data):
        reason = f"{width} x {height} px in {len(data)} bytes: more than {MAX_PIXELS_A_BYTE} a byte"
        raise PictureRejected("implausible", reason)
    if data.startswith(b"\xff\xd8") and _jpeg(data):
        # In coded data FF is always followed by 00 or RST, so these are scans, or thumbnails in blocks of metadata.
        scans = len(re.findall(b"\xff\xda", data))
        if scans > MAX_SCANS or scans * pixels > MAX_SCANNED:
            _too_many(f"{min(MAX_SCANS, MAX_SCANNED // pixels)} scans in a JPEG of {width} x {height} px")


def _jpeg(data: bytes) -> bool:
    """Walks the segments up to the first scan (ITU-T T.81, annex B); whether the picture may come in several scans."""
    position, segments, fill, progressive, components = 2, 0, 0, False, 0
    while True:
        start = data.find(b"\xff", position)
        if start < 0 or start + 6 > len(data):
            return False  # no scan: the decoder says so
        fill += start - position
        marker = data[start + 1]
        position = start + 2
        if marker in (0x00, 0xFF):
            position = start + 1 if marker else position
            fill += 1
        elif marker == _START_OF_SCAN:
            return progressive or data[position + 2] < components
        else:
            segments += 1
            if marker in _START_OF_FRAME or marker == _JPEG_LS:
                kinds.check_frame(marker, data[min(position + 2, len(data) - 1)])
                progressive, components = marker in _PROGRESSIVE, data[min(position + 7, len(data) - 1)]
            if marker not in _STANDALONE:
                position += max(2, int.from_bytes(data[position : position + 2], "big"))
        if segments > MAX_SEGMENTS or fill > MAX_FILL:
            _too_many(f"{MAX_SEGMENTS} segments or {MAX_FILL} bytes between them in a JPEG's header")


def _png(data: bytes) -> None:
    """Walks the chunks (ISO/IEC 15948, 5.3), which must begin with IHDR: its bit depth is read from its place."""
    if data[12:16] != b"IHDR":
        raise PictureRejected("corrupt", "a PNG must begin with its header")
    position, chunks = 8, 0
    while position + 12 <= len(data):
        position += 12 + int.from_bytes(data[position : position + 4], "big")
        chunks += 1
        if chunks > MAX_CHUNKS:
            _too_many(f"{MAX_CHUNKS} chunks in a PNG")


def _bmp(data: bytes) -> None:
    # BITMAPINFOHEADER's biCompression; Pillow's decoder of run lengths is Python, seconds a megapixel at its slowest.
    if int.from_bytes(data[14:18], "little") >= 40 and int.from_bytes(data[30:34], "little") in (1, 2):
        raise PictureRejected("unsupported_samples", "a BMP with run-length encoding isn't read")


def _tiff(data: bytes) -> None:
    """Looks at the first directory: as many strips or tiles as the picture has room for, and no endless lists."""
    if data[:4] == b"MM\0+":  # Pillow takes it for a TIFF, and finds another directory than we do
        raise PictureRejected("unsupported_format", "a big-endian BigTIFF isn't read; save it as TIFF or PNG")
    if data[:4] not in _TIFF_ORDERS:
        raise kinds.rejection(data)
    try:
        entries, _ = directory(data)
        width, height = entries[_WIDTH][1], entries[_LENGTH][1]
        planes = entries.get(_SAMPLES, (1, 1))[1] if entries.get(_PLANAR, (1, 1))[1] == 2 else 1
        if _TILES in entries:
            across, down = entries[_TILE_WIDTH][1], entries[_TILE_LENGTH][1]
            room, pieces = -(-width // across) * -(-height // down), entries[_TILES][0]
        else:
            rows = min(entries.get(_ROWS, (1, height))[1], height)
            room, pieces = -(-height // rows), entries[_STRIPS][0]
    except (struct.error, OverflowError, KeyError, ZeroDivisionError):
        raise PictureRejected("corrupt", "the picture is damaged or truncated") from None
    if pieces > max(room * planes, 1) or (_TILES in entries and _STRIPS in entries):
        raise PictureRejected("corrupt", f"{pieces} strips or tiles where the picture has room for {room * planes}")


def directory(
    data: bytes, start: int | None = None, wanted: Collection[int] = _LAYOUT
) -> tuple[dict[int, tuple[int, int]], int]:
    """(count, first value; 0 where it is no whole number) by tag of `wanted` in a TIFF's directory at `start`, and
    where the next one begins (0: there is none). Without `start`: what lays its first picture out.

    Raises PictureRejected, struct.error where the directory isn't within the file, KeyError where it is no TIFF.
    """
    order, big = _TIFF_ORDERS[data[:4]], data[2] == 43
    offset = struct.Struct(order + ("Q" if big else "I"))
    if start is None:
        (start,) = offset.unpack_from(data, 8 if big else 4)
    (number,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    if number > MAX_ENTRIES:
        _too_many(f"{MAX_ENTRIES} entries in a TIFF's directory")
    entry, inline = struct.Struct(order + ("HHQ" if big else "HHI")), 8 if big else 4
    step = entry.size + inline
    start += 8 if big else 2
    if number * step > len(data):
        raise PictureRejected("corrupt", "the picture is damaged or truncated")
    found: dict[int, tuple[int, int]] = {}
    for position in range(start, start + number * step, step):
        tag, kind, count = entry.unpack_from(data, position)
        if count > MAX_VALUES and kind not in _BYTES:
            _too_many(f"{MAX_VALUES} values in an entry of a TIFF's directory")
        if tag not in wanted:
            continue
        if tag in found:
            raise PictureRejected("corrupt", "a TIFF's directory says the same thing twice")
        value = 0
        if kind in _NUMBERS and count:
            number_format = order + _NUMBERS[kind]
            place = position + entry.size
            if count * struct.calcsize(number_format) > inline:
                (place,) = offset.unpack_from(data, place)
            value = struct.unpack_from(number_format, data, place)[0]
        found[tag] = count, value
    behind = start + number * step
    return found, offset.unpack_from(data, behind)[0] if behind + offset.size <= len(data) else 0


def _too_many(what: str) -> NoReturn:
    raise PictureRejected("too_many_parts", f"more than {what}")
