"""A JPEG that was cut short and closed is found, and a film with a flat border of its own isn't taken for one."""

import struct
import time

import numpy as np
import pytest
from PIL import Image

from common import noisy
from edgecxr.errors import PictureRejected
from edgecxr.pictures import cut, jpeg
from edgecxr.pictures.decode import decode
from edgecxr.pictures.preprocess import Contract
from hostile.pictures import encode

KINDS: dict[str, dict[str, object]] = {
    "plain": {"quality": 75},
    "fine": {"quality": 95},
    "finest": {"quality": 100},
    "optimised": {"quality": 90, "optimize": True},
    "restarts": {"quality": 90, "restart_marker_blocks": 7},
    "a restart a row": {"quality": 90, "restart_marker_rows": 1},
    "progressive": {"quality": 90, "progressive": True},
}
CONTRACTS = [Contract(jpeg_scale=0), Contract(height=64, width=64), Contract(height=32, width=32)]


def film(side: int = 360, border: int = 0, grey: int = 128) -> np.ndarray:
    """A smooth film (H, W) uint8 with a flat border at its bottom."""
    smooth = Image.fromarray(noisy((45, 40))).resize((side, side + 20), Image.Resampling.BICUBIC)
    pixels = np.array(smooth)
    if border:
        pixels[-border:] = grey
    return pixels


def closed(data: bytes, missing: float) -> bytes:
    """The file without this share of its coded data, and an end marker."""
    found = jpeg.read(data)
    assert found is not None
    start, end = found.scans[0].start, found.scans[-1].end
    return data[: end - max(1, round(missing * (end - start)))] + b"\xff\xd9"


def code(data: bytes, contract: Contract = CONTRACTS[0]) -> str:
    try:
        decode(data, contract)
    except PictureRejected as rejected:
        return rejected.code
    return "scored"


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_is_found_at_any_scale_of_decoding(kind: str, mode: str) -> None:
    data = encode(Image.fromarray(film()).convert(mode), "JPEG", **KINDS[kind])
    for contract in CONTRACTS:
        assert code(data, contract) == "scored"
    shares = (
        (0.9, 0.97) if kind == "progressive" else (0.05, 0.3, 0.9)
    )  # of a progressive one, only within its first scan
    for missing in shares:
        for contract in CONTRACTS:
            assert code(closed(data, missing), contract) == "corrupt", (missing, contract)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_flat_border_that_is_in_the_file_is_a_films_own(kind: str, mode: str) -> None:
    for border in (33, 200, 379):
        data = encode(Image.fromarray(film(border=border)).convert(mode), "JPEG", **KINDS[kind])
        assert all(code(data, contract) == "scored" for contract in CONTRACTS), border


def test_a_cut_within_black_is_found_where_the_black_is_short_beside_what_is_missing() -> None:
    pixels = film()
    pixels[100:116] = 0
    data = encode(Image.fromarray(pixels), "JPEG", quality=90)
    found = jpeg.read(data)
    assert found is not None
    coded = data[found.scans[0].start : found.scans[0].end]
    unit = cut._flat_code(found, found.scans[0])
    assert unit is not None
    bits = "".join(f"{byte:08b}" for byte in coded.replace(b"\xff\0", b"\xff"))
    black = bits.index(unit * 20) // 8 + 5  # a few blocks into the black
    assert code(data[: found.scans[0].start + black + coded[:black].count(b"\xff\0")] + b"\xff\xd9") == "corrupt"


def test_codes_are_those_of_the_specification() -> None:
    """T.81, tables K.3 and K.5: luminance DC category 0 is 00, AC end of block 1010."""
    found = jpeg.read(encode(Image.fromarray(film()), "JPEG", quality=75))
    assert found is not None
    assert (found.codes[0][0], found.codes[16][0]) == ("00", "1010")
    assert cut._flat_code(found, found.scans[0]) == "001010"
    assert (found.frame.width, found.frame.height, found.restart) == (360, 380, 0)


def test_tables_without_end_cost_nothing() -> None:
    """A segment of 64 KB has room for 3,800 empty tables, and a file for thousands of such segments."""
    data = encode(Image.fromarray(film()), "JPEG")
    tables = b"\xff\xc4" + struct.pack(">H", 2 + 17 * 3_800) + bytes(17 * 3_800)
    begin = time.perf_counter()
    jpeg.read(data[:2] + tables * 100 + data[2:])
    assert time.perf_counter() - begin < 1  # 13 s without a limit, on a busy machine


@pytest.mark.parametrize("length", range(0, 700, 7))
def test_a_structure_that_is_cut_anywhere_is_none_or_less(length: int) -> None:
    jpeg.read(encode(Image.fromarray(film()), "JPEG")[:length])
