"""A file that isn't read is told what it is and what to do, and never a word of what it holds."""

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image, features

from common import noisy
from edgecxr.errors import PictureRejected
from edgecxr.pictures.decode import decode
from edgecxr.pictures.preprocess import Contract
from hostile.pictures import encode, plain_tags
from hostile.pictures import tiff as hand_made_tiff

FILM = Image.fromarray(noisy((200, 180)))
JPEG = encode(FILM, "JPEG")


def rejected(data: bytes) -> tuple[str, str]:
    with pytest.raises(PictureRejected) as caught:
        decode(data, Contract())
    assert "CANARY" not in caught.value.message
    return caught.value.code, caught.value.message


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("CANARY", "CANARY")
    return buffer.getvalue()


def boxed(brands: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(brands), b"ftyp") + brands + b"CANARY" * 50


NIFTI = struct.pack("<i340x4s", 348, b"n+1\0") + bytes(200)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


@pytest.mark.parametrize(
    ("data", "code", "word"),
    [
        (bytes(128) + b"DICM" + b"CANARY" * 40, "corrupt", "DICOM"),
        (b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100\x08\0\x60\0\x06\0\0\0CANARY", "not_a_film", "DICOM"),
        (boxed(b"heic\0\0\0\0mif1heic"), "unsupported_format", "HEIC"),
        (boxed(b"mif1\0\0\0\0mif1heic"), "unsupported_format", "HEIC"),
        (boxed(b"mif1\0\0\0\0mif1avif"), "unsupported_format", "AVIF"),
        (boxed(b"isom\0\0\0\0isomavc1"), "not_an_image", "video"),
        (b"RIFF\x10\0\0\0WEBPVP8 CANARY", "unsupported_format", "WebP"),
        (encode(FILM, "GIF"), "unsupported_format", "GIF"),
        (b"\xff\x0a" + b"CANARY" * 20, "unsupported_format", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\nCANARY", "unsupported_format", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\nCANARY", "unsupported_format", "JPEG 2000"),
        (b"\xff\x4f\xff\x51\0\x29CANARY", "unsupported_format", "JPEG 2000"),
        (b"P5\n180 200\n255\nCANARY", "unsupported_format", "PNM"),
        (b"8BPS\0\x01CANARY", "unsupported_format", "Photoshop"),
        (NIFTI, "unsupported_format", "NIfTI"),
        (b"%PDF-1.7\nCANARY", "not_an_image", "PDF"),
        (b"\n\n%PDF-1.7\nCANARY", "not_an_image", "PDF"),
        (b"<!DOCTYPE html><html><title>CANARY", "not_an_image", "web page"),
        (b"\xef\xbb\xbf\n <HTML lang=en>CANARY", "not_an_image", "web page"),
        (b"<?xml version='1.0'?><Error>CANARY</Error>", "not_an_image", "XML"),
        (b"<svg xmlns='x'>CANARY</svg>", "not_an_image", "XML"),
        (LFS, "not_an_image", "git lfs pull"),
        (archive(), "not_an_image", "zip"),
        (gzip.compress(NIFTI, mtime=0), "not_an_image", "gzip"),
        (b"file,label\nCANARY.png,covid\n" * 300, "not_an_image", "it is text"),
        ("Überweisung für CANARY\n".encode("utf-16"), "not_an_image", "it is text"),
        (b"MM: CANARY, a note", "not_an_image", "it is text"),
        (b"BM: CANARY, a note", "not_an_image", "it is text"),
        (bytes(10_000), "not_an_image", "zeros"),
        (b"\x89PNG\r\n\x1a\n" + b"\x01CANARY" * 9, "corrupt", "must begin with its header"),
        (b"\xff\xd8\xff\xe0CANARY", "not_an_image", "its header is damaged"),
        (b"\x01\x02\x03CANARY", "not_an_image", "known format (JPEG, PNG, TIFF, BMP)"),
    ],
)  # fmt: skip
def test_a_file_is_told_what_it_is(data: bytes, code: str, word: str) -> None:
    found, message = rejected(data)
    assert (found, word in message) == (code, True), (found, message)


@pytest.mark.parametrize(("kind", "word"), [("WEBP", "WebP"), ("AVIF", "AVIF"), ("JPEG2000", "JPEG 2000")])
def test_what_another_encoder_writes_is_known_too(kind: str, word: str) -> None:
    if not features.check({"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}[kind]):
        pytest.skip(f"this Pillow has no {kind}")
    code, message = rejected(encode(FILM, kind))
    assert code == "unsupported_format"
    assert message.startswith(word)


@pytest.mark.parametrize(
    ("marker", "precision", "words"),
    [(0xC1, 12, "12-bit samples"), (0xC3, 8, "lossless"), (0xC3, 16, "lossless"), (0xF7, 8, "JPEG-LS"),
     (0xC5, 8, "hierarchical")],
)  # fmt: skip
def test_a_kind_of_jpeg_without_a_decoder_is_named(marker: int, precision: int, words: str) -> None:
    """T.81, table B.1 and B.2.2: FF, the process, a length of two bytes, the precision."""
    frame = JPEG.index(b"\xff\xc0")
    data = bytearray(JPEG)
    data[frame + 1], data[frame + 4] = marker, precision
    code, message = rejected(bytes(data))
    assert (code, words in message) == ("unsupported_format", True), message


SIXTEEN = noisy((100, 80)).astype("<u2") * 257


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({259: (3, 1, 34712)}, "unsupported_format", "JPEG 2000"),
        ({259: (3, 1, 4711)}, "unsupported_format", "number 4711"),
        ({277: (3, 1, 2), 338: (3, 1, 2)}, "unsupported_samples", "2 samples a pixel of 16 bits, black is zero"),
        ({262: (3, 1, 4711)}, "unsupported_samples", "colours of kind 4711"),
        ({258: (3, 1, 24)}, "unsupported_samples", "1 sample a pixel of 24 bits"),
        ({339: (3, 1, 3)}, "unsupported_samples", "floating"),
    ],
)
def test_a_kind_of_tiff_that_is_not_read_is_named(
    changes: dict[int, tuple[int, int, int]], code: str, words: str
) -> None:
    tags = plain_tags(100, 80, 16_000) | {258: (3, 1, 16)} | changes
    found, message = rejected(hand_made_tiff(tags, SIXTEEN.tobytes()))
    assert (found, words in message) == (code, True), (found, message)


def test_a_compression_that_the_decoder_was_built_without_is_no_damage() -> None:
    """Thunderscan: Pillow knows its number, and libtiff decodes it for 4-bit samples only."""
    tags = plain_tags(100, 80, 8_000) | {259: (3, 1, 32809)}
    code, message = rejected(hand_made_tiff(tags, noisy((100, 80)).tobytes()))
    assert (code, "number 32809" in message) == ("unsupported_format", True)


def test_a_damaged_tiff_of_a_kind_that_is_read_is_damaged() -> None:
    data = encode(FILM, "TIFF", compression="tiff_lzw")
    place = data.index(struct.pack("<HHI", 259, 3, 1))  # Compression stands in the directory, and the samples before it
    assert rejected(data[:8] + bytes(2000) + data[2008:] if place > 3000 else data[:-500])[0] == "corrupt"


def test_a_film_is_still_a_film() -> None:
    assert np.array_equal(decode(encode(FILM, "PNG"), Contract()).pixels, noisy((200, 180)))
