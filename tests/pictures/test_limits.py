"""Files that are built to exhaust a decoder are rejected in moments; films are not."""

import io
import resource
import struct
import time
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from common import noisy
from edgecxr.errors import PictureRejected
from edgecxr.pictures import decode as images
from edgecxr.pictures import limits
from edgecxr.pictures.preprocess import Contract
from hostile import pictures

SECONDS = 10  # for the largest file that is read; on a loaded machine, and most take a tenth of a second
BIG = 200 << 20  # bytes; files.MAX_BYTES is 256 MiB


def code(data: bytes) -> str:
    begin = time.process_time()
    try:
        images.prepare(images.decode(data, Contract()), Contract())
    except PictureRejected as rejected:
        return rejected.code
    finally:
        assert time.process_time() - begin < SECONDS
    return "scored"


def test_every_seed_of_the_mutants_is_a_good_picture() -> None:
    for name, data in pictures.seeds().items():
        assert code(data) == "scored", name


def chunks(count: int) -> bytes:
    """A good PNG with `count` empty private chunks in it."""
    grey = noisy((100, 100))
    rows = b"".join(b"\0" + row.tobytes() for row in grey)
    return pictures.png(100, 100, rows, extra=pictures.chunk(b"prIv", b"") * count)


def segments(count: int) -> bytes:
    """A good JPEG with `count` empty comments in its header."""
    data = pictures.seeds()["grey.jpg"]
    return data[:2] + b"\xff\xfe\0\2" * count + data[2:]


def fill(count: int) -> bytes:
    data = pictures.seeds()["grey.jpg"]
    return data[:2] + b"\xff" * count + data[2:]


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan stands there `count` times more."""
    data = pictures.seeds()["progressive.jpg"]
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + data[-2:]


@pytest.mark.parametrize(
    ("build", "few", "many"),
    [
        (chunks, 1000, limits.MAX_CHUNKS),
        (segments, 1000, limits.MAX_SEGMENTS + 1),
        (fill, 1000, limits.MAX_FILL + 1),
        (scans, 0, limits.MAX_SCANS),
    ],
)
def test_many_parts_are_rejected_and_some_are_not(build: Callable[[int], bytes], few: int, many: int) -> None:
    assert code(build(few)) == "scored"
    assert code(build(many)) == "too_many_parts"


@pytest.mark.long
@pytest.mark.parametrize(
    ("build", "size"), [(chunks, 12), (segments, 4), (fill, 1)], ids=["chunks", "segments", "fill"]
)
def test_the_largest_of_them_takes_no_time_and_no_memory(build: Callable[[int], bytes], size: int) -> None:
    data = build(BIG // size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert code(data) == "too_many_parts"
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 64


def test_a_large_picture_of_many_scans_is_rejected_before_they_are_decoded() -> None:
    buffer = io.BytesIO()
    Image.new("L", (8800, 8800), 77).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    begin = time.process_time()
    assert code(data[:-2] + data[last:-2] * 30 + data[-2:]) == "too_many_parts"
    assert time.process_time() - begin < 1


def test_a_directory_of_many_entries_is_rejected_at_once() -> None:
    header = b"II*\0" + struct.pack("<IH", 8, 65_535)
    assert code(header + struct.pack("<HHII", 65_000, 1, 1, 0) * 65_535 + bytes(4)) == "too_many_parts"


def strips(count: int, width: int = 100, height: int = 100, rows: int | None = None) -> bytes:
    """An uncompressed TIFF with `count` strips, all of them its whole data."""
    grey = noisy((width, height)).tobytes()
    offsets, lengths = struct.pack(f"<{count}I", *[8] * count), struct.pack(f"<{count}I", *[len(grey)] * count)
    tags = pictures.plain_tags(width, height, len(grey))
    if count > 1:
        tags[273] = (4, count, 8 + len(grey))
        tags[279] = (4, count, 8 + len(grey) + len(offsets))
    tags[278] = (4, 1, rows or height)
    return pictures.tiff(tags, grey + offsets + lengths)


def test_a_tiff_has_as_many_strips_as_it_has_room_for() -> None:
    assert code(strips(1)) == "scored"
    assert code(strips(2, rows=50)) == "scored"
    # Each of these would be decoded over the whole picture, for every one of the 100,000.
    assert code(strips(50_000, rows=99)) == "corrupt"
    assert code(strips(limits.MAX_VALUES + 1)) == "too_many_parts"


def test_more_pixels_than_bytes_can_hold_are_implausible() -> None:
    assert code(pictures.png(8000, 8000, bytes(1000))) == "implausible"
    assert code(pictures.png(8000, 8000, bytes(8001 * 8000))) == "blank"  # all there, at deflate's ratio


def test_a_png_that_does_not_begin_with_its_header_is_rejected() -> None:
    """Its bit depth stands in a fixed place: 16-bit colour would pass for 8 and be cut to its high byte."""
    film = np.dstack([noisy((80, 100)).astype(np.uint16) << 4] * 3)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in film)
    good = pictures.png(80, 100, rows, bits=16, kind=2)
    assert code(good) == "unsupported_samples"
    assert code(good[:8] + pictures.chunk(b"prIv", bytes(8) + b"\x08") + good[8:]) == "corrupt"


def test_a_bmp_of_run_lengths_is_rejected() -> None:
    data = bytearray(pictures.seeds()["grey.bmp"])
    data[30:34] = struct.pack("<I", 1)
    assert code(bytes(data)) == "unsupported_samples"


@pytest.mark.parametrize(("order", "expected"), [("<", "scored"), (">", "unsupported_format")])
def test_bigtiff_is_read_in_the_order_that_pillow_reads(order: str, expected: str) -> None:
    grey = noisy((100, 90))
    tags = pictures.plain_tags(100, 90, 9000) | {273: (4, 1, 16)}
    entries = b"".join(
        struct.pack(order + "HHQ", tag, kind, count) + struct.pack(order + "I4x", value)
        for tag, (kind, count, value) in sorted(tags.items())
    )
    header = (b"II" if order == "<" else b"MM") + struct.pack(order + "HHHQ", 43, 8, 0, 16 + 9000)
    data = header + grey.tobytes() + struct.pack(order + "Q", len(tags)) + entries + bytes(8)
    assert code(data) == expected
    if expected == "scored":
        assert np.array_equal(images.decode(data, Contract()).pixels, grey)


def test_a_weird_tiff_header_is_no_tiff() -> None:
    data = pictures.seeds()["raw.tif"]
    assert code(b"II\0*" + data[4:]) == "not_an_image"  # which Pillow would take for little-endian
