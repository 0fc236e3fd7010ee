"""Stored values: every depth, order and compression gives those that were written."""

import struct

import imagecodecs
import numpy as np
import pytest

import dicoms
from edgecxr.errors import PictureRejected
from edgecxr.pictures import decode as images
from edgecxr.pictures.dicom import decoder, elements, samples
from edgecxr.pictures.preprocess import Contract

VALUES = dicoms.values()
BITS16 = {"BitsStored": 16, "HighBit": 15}


def read(data: bytes) -> samples.Stored:
    return samples.read(elements.read(data), images.MAX_PIXELS, images.MIN_SIDE, images._baseline_jpeg)


def rejection(data: bytes) -> PictureRejected:
    with pytest.raises(PictureRejected) as caught:
        read(data)
    return caught.value


@pytest.mark.parametrize(
    "options",
    [
        *({"syntax": syntax} for syntax in (dicoms.IMPLICIT, dicoms.BIG_ENDIAN, dicoms.DEFLATED)),
        *({}, {"preamble": False}, {"meta": False}),
    ],
    ids=str,
)
def test_uncompressed_in_every_order(options: dict[str, object]) -> None:
    stored = read(dicoms.film(VALUES, **options))  # type: ignore[arg-type]
    assert np.array_equal(stored.values, VALUES)
    assert (stored.bits, stored.signed, stored.limited) == (12, False, True)


@pytest.mark.parametrize("bits", range(9, 17))
def test_every_depth(bits: int) -> None:
    values = dicoms.values(bits=bits)
    stored = read(dicoms.film(values, BitsStored=bits, HighBit=bits - 1))
    assert stored.bits == bits
    assert np.array_equal(stored.values, values)


def test_eight_bits_in_words_of_either_order() -> None:
    octets = (VALUES >> 4).astype(np.uint8)
    assert np.array_equal(read(dicoms.film(octets)).values, octets)
    # PS3.5, 8.1.1: two samples a 16-bit word, the first in its least significant byte, which here comes second
    swapped = np.ascontiguousarray(octets.reshape(-1, 2)[:, ::-1]).reshape(octets.shape)
    assert np.array_equal(read(dicoms.film(swapped, syntax=dicoms.BIG_ENDIAN)).values, octets)


def test_bits_that_are_not_the_films_are_dropped() -> None:
    overlay = VALUES | 0x5000
    assert np.array_equal(read(dicoms.film(overlay)).values, VALUES)
    assert np.array_equal(read(dicoms.film(VALUES << 4, HighBit=15)).values, VALUES)


def test_a_signed_value_is_its_twos_complement() -> None:
    signed = (VALUES.astype(np.int16) - 2048) & 0xFFF
    stored = read(dicoms.film(signed.astype(np.uint16), PixelRepresentation=1))
    assert stored.signed
    assert np.array_equal(stored.values, signed)


@pytest.mark.parametrize("syntax", dicoms.compressed(VALUES))
@pytest.mark.parametrize("fragments", [1, 7])
def test_compressed_without_loss(syntax: str, fragments: int) -> None:
    frame = dicoms.compressed(VALUES)[syntax]
    stored = read(dicoms.film(frame, syntax=syntax, fragments=fragments))
    assert np.array_equal(stored.values, VALUES)
    assert stored.limited


def test_sixteen_signed_bits_compressed() -> None:
    signed = VALUES.astype(np.int16) * 15 - 30000
    frame = imagecodecs.jpeg2k_encode(signed, codecformat="j2k", reversible=True, level=0)
    for options in ({"syntax": dicoms.JPEG_2000}, {"syntax": dicoms.JPEG_2000_LOSSY}):
        stored = read(dicoms.film(frame, PixelRepresentation=1, **BITS16, **options))  # type: ignore[arg-type]
        assert np.array_equal(stored.values.view(np.int16), signed)


def test_a_lossy_wave_ends_where_the_range_does() -> None:
    """A checkerboard overshoots; wrapped around, its white would be black."""
    board = np.kron(np.indices((10, 12)).sum(axis=0) % 2, np.ones((8, 8), dtype=np.uint16)).astype(np.uint16) * 4095
    kinds = {
        dicoms.JPEG_2000_LOSSY: imagecodecs.jpeg2k_encode(board, codecformat="j2k", bitspersample=13, level=30),
        dicoms.JPEG_EXTENDED: imagecodecs.jpeg8_encode(board, level=40, bitspersample=12),
        dicoms.JPEG_LS_NEAR: imagecodecs.jpegls_encode(board, level=4),
    }
    for syntax, frame in kinds.items():
        found = read(dicoms.film(frame, syntax=syntax)).values.astype(int)
        assert np.abs(found - board).mean() < 120, syntax
        assert found[board == 0].max() < 2048 <= found[board == 4095].min(), syntax


def test_jpeg_baseline_is_pillows() -> None:
    grey = (VALUES >> 4).astype(np.uint8)
    frame = imagecodecs.jpeg8_encode(grey, level=95)
    eight = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "syntax": dicoms.JPEG_BASELINE}
    assert np.array_equal(read(dicoms.film(frame, **eight)).values, images.decode(frame, Contract(jpeg_scale=0)).pixels)
    assert rejection(dicoms.film(frame, syntax=dicoms.JPEG_BASELINE)).code == "corrupt"  # of 12 bits, as it says
    cut = frame[: len(frame) // 2] + b"\xff\xd9"
    assert rejection(dicoms.film(cut, **eight)).code == "corrupt"
    colour = imagecodecs.jpeg8_encode(np.stack([grey] * 3, axis=-1))
    assert rejection(dicoms.film(colour, **eight)).code == "corrupt"


def test_a_lossless_value_beyond_its_bits_is_damage() -> None:
    frame = dicoms.compressed(VALUES | 0x8000, bits=16)[dicoms.JPEG_LOSSLESS_FIRST]
    assert rejection(dicoms.film(frame, syntax=dicoms.JPEG_LOSSLESS_FIRST)).code == "corrupt"


@pytest.mark.parametrize("syntax", dicoms.compressed(VALUES))
def test_a_frame_of_another_size_never_meets_a_decoder(syntax: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = dicoms.compressed(dicoms.values((200, 150)))[syntax]
    if syntax != dicoms.RLE:  # which doesn't say its size
        monkeypatch.setattr(decoder, "decode", None)
    assert rejection(dicoms.film(frame, syntax=syntax)).code == "corrupt"


def test_without_the_extra_compressed_films_say_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "find_spec", lambda name: None)
    frame = dicoms.compressed(VALUES)[dicoms.JPEG_LS]
    rejected = rejection(dicoms.film(frame, syntax=dicoms.JPEG_LS))
    assert (rejected.code, "pip install 'edgecxr[dicom]'" in rejected.message) == ("dicom", True)
    assert read(dicoms.film(VALUES)).bits == 12


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        ("1.2.840.10008.1.2.4.102", "MPEG-4"),
        ("1.2.840.10008.1.2.4.94", "JPIP"),
        ("1.2.840.10008.1.2.4.55", "retired kind of JPEG"),
        ("1.2.840.10008.1.2.4.107", "HEVC"),
        ("1.2.3.4711", "isn't known"),
    ],
)
def test_other_transfer_syntaxes_are_rejected_by_name(syntax: str, name: str) -> None:
    rejected = rejection(dicoms.film(b"\xff\xd8" + bytes(100), syntax=syntax))
    assert rejected.code == "transfer_syntax"
    assert name in rejected.message
    assert "4711" not in rejected.message


CONTRADICTIONS = {
    "unsupported_samples": [
        {"PhotometricInterpretation": "RGB"},
        {"PhotometricInterpretation": None},
        {"SamplesPerPixel": 3},
        {"BitsStored": 7, "HighBit": 6},
        {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31},
        {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0},
    ],
    "corrupt": [{"HighBit": 10}, {"BitsStored": 12, "HighBit": 16}, {"Rows": 81}, {"Rows": 79}, {"Rows": None}],
    "too_large": [{"Rows": 65535, "Columns": 65535}],
    "too_small": [{"Rows": 63}],
}


@pytest.mark.parametrize(("code", "tags"), [(c, t) for c, cases in CONTRADICTIONS.items() for t in cases], ids=str)
def test_what_has_no_one_reading_is_rejected(code: str, tags: dict[str, object]) -> None:
    assert rejection(dicoms.film(VALUES, **tags)).code == code  # type: ignore[arg-type]


def test_a_small_frame_of_a_large_film_is_implausible() -> None:
    frame = b"\xff\x4f\xff\x51" + struct.pack(">HH8IHBBB", 41, 0, 8000, 8000, 0, 0, 8000, 8000, 0, 0, 1, 11, 1, 1)
    rejected = rejection(dicoms.film(frame, size=(8000, 8000), syntax=dicoms.JPEG_2000))
    assert rejected.code == "implausible"
