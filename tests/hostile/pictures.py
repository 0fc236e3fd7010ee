"""Hostile pictures, generated with a fixed seed: mutants of a dozen kinds of file, and bombs."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from common import noisy


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def seeds() -> dict[str, bytes]:
    """One good file of each kind that is read, by its ending."""
    grey = Image.fromarray(noisy((200, 180), 1))
    colour = Image.merge("RGB", [Image.fromarray(noisy((200, 180), seed)) for seed in (1, 2, 3)])
    deep = Image.fromarray(noisy((200, 180)).astype(np.uint16) << 8)
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "described", 6
    return {
        "grey.jpg": encode(grey, "JPEG", exif=exif),
        "colour.jpg": encode(colour, "JPEG", quality=90, comment="a comment"),
        "progressive.jpg": encode(colour, "JPEG", progressive=True),
        "grey.png": encode(grey, "PNG"),
        "deep.png": encode(deep, "PNG"),
        "alpha.png": encode(colour.convert("RGBA"), "PNG", exif=exif),
        "palette.png": encode(colour.convert("P"), "PNG"),
        "raw.tif": encode(grey, "TIFF", exif=exif),
        "lzw.tif": encode(colour, "TIFF", compression="tiff_lzw"),
        "deflate.tif": encode(deep, "TIFF", compression="tiff_adobe_deflate"),
        "packbits.tif": encode(grey.convert("1"), "TIFF", compression="packbits"),
        "jpeg.tif": encode(colour, "TIFF", compression="jpeg"),
        "grey.bmp": encode(grey, "BMP"),
        "colour.bmp": encode(colour, "BMP"),
    }


def mutants(count: int, seed: int = 0, files: Sequence[tuple[str, bytes]] = ()) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of bit flips, truncations, header edits and splices, in turn over `files`, or every kind."""
    rng = np.random.default_rng(seed)
    files = files or list(seeds().items())
    changes = (_flip, _truncate, _edit_header, _edit_length, _splice)
    for number in range(count):
        name, data = files[number % len(files)]
        change = changes[number // len(files) % len(changes)]
        yield f"{number:05}-{change.__name__.strip('_')}-{name}", change(bytearray(data), rng)


def _flip(data: bytearray, rng: np.random.Generator) -> bytes:
    for position in rng.integers(len(data), size=2 ** rng.integers(7)):
        data[position] ^= 1 << rng.integers(8)
    return bytes(data)


def _truncate(data: bytearray, rng: np.random.Generator) -> bytes:
    return bytes(data[: rng.integers(1, len(data))])


def _edit_header(data: bytearray, rng: np.random.Generator) -> bytes:
    for position in rng.integers(min(len(data), 400), size=1 + rng.integers(6)):
        data[position] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)])
    return bytes(data)


def _edit_length(data: bytearray, rng: np.random.Generator) -> bytes:
    """An extreme number of 16 or 32 bits in the first kilobyte or, where a TIFF has its directory, the last."""
    size = int(rng.choice([2, 4]))
    place = int(rng.integers(min(len(data), 1000) - size))
    if rng.integers(2):
        place = len(data) - size - place
    value = int(rng.choice([0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF])) & ((1 << 8 * size) - 1)
    data[place : place + size] = value.to_bytes(size, rng.choice(["big", "little"]))
    return bytes(data)


def _splice(data: bytearray, rng: np.random.Generator) -> bytes:
    start, end = sorted(int(position) for position in rng.integers(len(data), size=2))
    piece = data[start:end]
    place = int(rng.integers(len(data)))
    return bytes(data[:place] + piece + data[place:])


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PNG = b"\x89PNG\r\n\x1a\n"


def png(width: int, height: int, rows: bytes, *, bits: int = 8, kind: int = 0, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    return PNG + header + extra + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def tiff(tags: dict[int, tuple[int, int, int]], data: bytes) -> bytes:
    """A little-endian TIFF 6.0: tag -> (type, count, value or offset), and `data` from byte 8 on."""
    directory = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(tags.items()))
    start = 8 + len(data) + len(data) % 2
    return (
        struct.pack("<2sHI", b"II", 42, start)
        + data.ljust(start - 8, b"\0")
        + struct.pack("<H", len(tags))
        + directory
        + bytes(4)
    )


def plain_tags(width: int, height: int, length: int) -> dict[int, tuple[int, int, int]]:
    """An uncompressed grey picture of 8 bits in one strip."""
    values = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: length}
    return {tag: (4, 1, value) for tag, value in values.items()}


def bombs() -> dict[str, bytes]:
    """Small files that promise 2.5 gigapixels."""
    side = 50_000
    jpeg = bytearray(encode(Image.fromarray(noisy((64, 64))), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    bmp = bytearray(encode(Image.fromarray(noisy((64, 64))), "BMP"))
    bmp[18:26] = struct.pack("<ii", side, side)
    return {
        "bomb.png": png(side, side, bytes(100_000)),
        "bomb-colour.png": png(side, side, bytes(100_000), kind=2),
        "bomb.jpg": bytes(jpeg),
        "bomb.bmp": bytes(bmp),
        "bomb.tif": tiff(plain_tags(side, side, 1000), bytes(1000)),
    }
