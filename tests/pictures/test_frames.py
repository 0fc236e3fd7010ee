"""A smaller copy behind the first picture changes nothing; a second picture does."""

import io
import re
import struct

import numpy as np
import pytest
from PIL import Image

from common import noisy
from edgecxr.errors import PictureRejected
from edgecxr.pictures.decode import decode
from edgecxr.pictures.preprocess import Contract
from hostile.pictures import encode

SIDE = 400
FILM = noisy((SIDE, SIDE))
FULL = Image.fromarray(FILM)
SMALL = FULL.resize((100, 100))


def mpo(others: list[Image.Image], kind: int = 0) -> bytes:
    """A JPEG with others behind it; `kind` is the type code of all but the first (CIPA DC-007, 5.2.3.3)."""
    data = bytearray(encode(FULL, "MPO", save_all=True, append_images=others, quality=95))
    index = re.search(rb"\xff\xe2..MPF\0", data, re.DOTALL)
    assert index is not None
    for number in range(len(others)):
        # MP entries of 16 bytes, the first's attribute is 0x030000.
        first = data.rindex(struct.pack("<I", 0x030000), index.end(), index.end() + 100)
        data[first + 16 * (number + 1) : first + 16 * (number + 1) + 4] = struct.pack("<I", kind)
    return bytes(data)


def pages(*tags: dict[int, int]) -> bytes:
    """A TIFF of a film and, on each further page, a small one; tags by page."""
    made = []
    for image, own in zip([FULL, *[SMALL] * (len(tags) - 1)], tags, strict=True):
        copy = image.copy()
        copy.encoderinfo = {"tiffinfo": own}
        made.append(copy)
    buffer = io.BytesIO()
    made[0].save(buffer, "TIFF", save_all=True, append_images=made[1:], tiffinfo=tags[0])
    return buffer.getvalue()


def code(data: bytes) -> str:
    try:
        decode(data, Contract())
    except PictureRejected as rejected:
        return rejected.code
    return "scored"


@pytest.mark.parametrize("contract", [Contract(), Contract(height=64, width=64), Contract(jpeg_scale=0)])
def test_a_jpeg_with_a_preview_is_the_jpeg_without_it(contract: Contract) -> None:
    plain = decode(encode(FULL, "JPEG", quality=95), contract)
    for data in (mpo([SMALL]), mpo([SMALL, SMALL.resize((200, 200))]), mpo([SMALL], 0x010001), mpo([SMALL], 0x010002)):
        assert Image.open(io.BytesIO(data)).format == "MPO"
        assert np.array_equal(decode(data, contract).pixels, plain.pixels)


def test_a_preview_that_was_taken_away_leaves_the_film() -> None:
    data = mpo([SMALL])
    assert code(data[: data.index(b"\xff\xd9", len(data) // 2) + 2]) == "scored"


@pytest.mark.parametrize("kind", [0x020001, 0x020002, 0x020003])  # panorama, disparity, several angles
def test_a_second_view_is_a_second_picture(kind: int) -> None:
    assert code(mpo([SMALL], kind)) == "several_frames"


def test_a_second_picture_as_large_as_the_first_is_one() -> None:
    assert code(mpo([FULL])) == "several_frames"
    assert code(mpo([SMALL, FULL])) == "several_frames"
    assert code(mpo([Image.fromarray(noisy((100, SIDE)))])) == "several_frames"  # as wide


@pytest.mark.parametrize("tag", [{254: 1}, {255: 2}])
def test_a_tiff_with_smaller_copies_is_its_first_page(tag: dict[int, int]) -> None:
    for data in (pages({}, tag), pages({254: 0}, tag, tag, tag)):
        assert Image.open(io.BytesIO(data)).n_frames > 1
        assert np.array_equal(decode(data, Contract()).pixels, FILM)


@pytest.mark.parametrize(
    "tags",
    [[{}, {}], [{254: 2}, {254: 2}], [{}, {254: 1}, {}], [{254: 1}, {}], [{254: 1}, {254: 1}], [{255: 2}, {255: 1}],
     [{}, *[{254: 1}] * 33]],
    ids=["two", "pages", "third", "thumbnail first", "thumbnails", "old thumbnail first", "endless"],
)  # fmt: skip
def test_other_pages_are_pictures(tags: list[dict[int, int]]) -> None:
    assert code(pages(*tags)) == "several_frames"


def test_a_chain_of_copies_that_leads_in_a_circle_ends() -> None:
    data = bytearray(pages({}, {254: 1}))
    first = struct.unpack_from("<I", data, 4)[0]
    second = struct.unpack_from("<I", data, first + 2 + 12 * struct.unpack_from("<H", data, first)[0])[0]
    struct.pack_into("<I", data, second + 2 + 12 * struct.unpack_from("<H", data, second)[0], second)
    assert code(bytes(data)) == "several_frames"
