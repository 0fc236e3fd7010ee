"""What files say about themselves, against what Pillow wrote and reads."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgecxr.lab.audit.headers import Header, read_header

GREY = np.arange(80 * 70, dtype=np.uint8).reshape(70, 80)


def coded(pixels: np.ndarray, kind: str, mode: str | None = None, **options: object) -> bytes:
    image = Image.fromarray(pixels)
    content = io.BytesIO()
    (image.convert(mode) if mode else image).save(content, kind, **options)
    return content.getvalue()


@pytest.mark.parametrize("quality", [10, 75, 95])
@pytest.mark.parametrize(("mode", "components"), [("L", 1), ("RGB", 3)])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg(quality: int, mode: str, components: int, progressive: bool) -> None:
    data = coded(GREY, "JPEG", mode, quality=quality, progressive=progressive)
    with Image.open(io.BytesIO(data)) as image:
        luma = image.quantization[0]  # type: ignore[attr-defined]
    assert read_header(data) == Header("JPEG", components, progressive, sum(luma))


def test_a_jpeg_whose_tables_follow_each_other_in_one_segment_and_have_16_bits() -> None:
    luma = b"\x10" + (300).to_bytes(2, "big") * 64  # table 0, 16 bits
    chroma = b"\x01" + bytes([7]) * 64
    tables = chroma + luma
    data = b"\xff\xd8\xff\xff\xdb" + (len(tables) + 2).to_bytes(2, "big") + tables + b"\xff\xd9\0\0"
    assert read_header(data) == Header("JPEG", 0, False, 300 * 64)


@pytest.mark.parametrize(("mode", "components"), [("L", 1), ("LA", 2), ("RGB", 3), ("P", 3), ("RGBA", 4)])
def test_png(mode: str, components: int) -> None:
    assert read_header(coded(GREY, "PNG", mode)) == Header("PNG", components, False, 0)


def test_bmp_and_tiff() -> None:
    assert read_header(coded(GREY, "BMP")).format == "BMP"
    assert read_header(coded(GREY, "TIFF")).format == "TIFF"


def test_a_header_that_is_cut_short_is_read_as_far_as_it_goes() -> None:
    data = coded(GREY, "JPEG", quality=50)
    whole = read_header(data)
    found = [read_header(data[:length]) for length in range(2, 400)]
    assert {header.quantization for header in found} == {0, whole.quantization}
    assert found[-1] == whole


@given(st.sampled_from([b"\xff\xd8\xff", b"\xff\xd8\xff\xdb", b"\x89PNG\r\n\x1a\n", b"BM", b""]), st.binary())
def test_nothing_that_a_file_holds_raises(start: bytes, rest: bytes) -> None:
    read_header(start + rest)
