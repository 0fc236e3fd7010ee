"""Decode a file's bytes or say why not: the trust boundary.

The only `Image.open` of the project is here. Whatever a file holds, `decode` returns a `Picture` or raises
`PictureRejected` with a sentence of ours: a decoder's own words may quote the file, so they are never passed on.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.errors import PictureRejected
from edgecxr.pictures import cut, frames, kinds, limits
from edgecxr.pictures.dicom.elements import is_dicom
from edgecxr.pictures.files import read
from edgecxr.pictures.pillow import Image, ImageOps, quiet_libtiff
from edgecxr.pictures.preprocess import Contract, Grey, bit_depth, preprocess, to_uint8

MAX_PIXELS = 80_000_000  # a 43 x 35 cm film at 0.05 mm a pixel is 60 megapixels
MIN_SIDE = 64  # px; below this a film shows no finding
MIN_CONTRAST = 2.0  # grey levels of 255; standard deviation of a picture that shows anything


# What Pillow's decoders are known to raise on hostile input, beside OSError.
DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, EOFError,
    MemoryError, RuntimeError, AssertionError, ZeroDivisionError, NotImplementedError, struct.error, zlib.error,
    Warning,  # where warnings are errors
)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A decoded grey picture. `pixels` may be a reduced decoding; `width` and `height` are the file's own, in px."""

    pixels: Grey  # (H, W) uint8 or uint16, black is zero, upright
    width: int
    height: int
    bits: int  # per sample, declared or observed
    rendering: str | None = None  # of a DICOM file: how its stored values became grey levels


def decode(data: bytes, contract: Contract) -> Picture:
    """Decode the bytes of a JPEG, PNG, TIFF, BMP or DICOM file into a grey picture, or raise PictureRejected.

    Colour becomes luma, a palette is looked up, transparency is dropped, an EXIF orientation is applied, TIFF's
    white-is-zero is inverted. Grey samples of up to 16 bits are kept. Several frames, CMYK, signed, floating point and
    32-bit samples, colour or transparency of more than 8 bits, and a TIFF that doesn't say which end is black are
    rejected: none has one obvious reading as a film, and Pillow would keep the high byte of deep colour, which leaves a
    12-bit film nearly black, and guess the polarity. DICOM needs a contract of version 2.
    """
    if not data:
        raise PictureRejected("empty", "the file is empty")
    if contract.reads_dicom and is_dicom(data):
        return _dicom(data)
    limits.check(data)
    try:
        image = Image.open(io.BytesIO(data), formats=kinds.FORMATS)
    except Image.DecompressionBombError:
        raise PictureRejected("too_large", f"more than {MAX_PIXELS // 1_000_000} megapixels") from None
    except DECODER_ERRORS:
        raise _unread_tiff(data, opened=False) or kinds.rejection(data) from None
    except Exception as error:
        raise _unforeseen(error) from None
    with image, quiet_libtiff() if image.format == "TIFF" else nullcontext():
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise PictureRejected("too_large", f"more than {MAX_PIXELS // 1_000_000} megapixels: {width} x {height}")
        if min(width, height) < MIN_SIDE:
            raise PictureRejected("too_small", f"smaller than {MIN_SIDE} px: {width} x {height}")
        limits.check_size(width, height, data)
        try:
            pixels, declared = _grey(image, data, contract)
        except Image.DecompressionBombError:  # of what Pillow finds only while it decodes
            raise PictureRejected("too_large", f"more than {MAX_PIXELS // 1_000_000} megapixels") from None
        except DECODER_ERRORS:
            damaged = PictureRejected("corrupt", "the picture is damaged or truncated")
            raise _unread_tiff(data, opened=True) or damaged from None
        except PictureRejected:
            raise
        except Exception as error:
            raise _unforeseen(error) from None
    return Picture(pixels, width, height, bit_depth(pixels, declared))


def _dicom(data: bytes) -> Picture:
    from edgecxr.pictures.dicom import reading

    try:
        film = reading.read(data, max_pixels=MAX_PIXELS, min_side=MIN_SIDE, jpeg=_baseline_jpeg)
    except PictureRejected:
        raise
    except DECODER_ERRORS:
        raise PictureRejected("corrupt", "the DICOM file is damaged or truncated") from None
    except Exception as error:
        raise _unforeseen(error) from None
    height, width = film.pixels.shape
    return Picture(film.pixels, width, height, film.bits, film.rendering)


def _baseline_jpeg(data: bytes) -> npt.NDArray[np.uint8]:
    """The grey samples (H, W) of a JPEG that stands in another file."""
    limits.check(data)
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        limits.check_size(*image.size, data)
        if image.mode != "L":
            raise PictureRejected("unsupported_samples", "a JPEG that isn't plain grey")
        _check_end(image, data, 1)
        return np.asarray(image)


def _unforeseen(error: Exception) -> PictureRejected:
    """What a decoder did that none is known to do: a record all the same, and only the kind of the error in it."""
    return PictureRejected("decoder_failed", f"the decoder failed in an unforeseen way ({type(error).__name__})")


def _sample_bits(image: Image.Image, data: bytes) -> int:
    """Bits per sample that the file's header gives (for TIFF and PNG; 8 for the others, which have no more)."""
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, 1)  # type: ignore[attr-defined]  # BitsPerSample, of a TiffImageFile
        return int(max(bits)) if isinstance(bits, tuple) else int(bits)
    if image.format == "PNG":
        return data[24]  # of IHDR, which `structure.check` has found in its place
    return 8


def _unread_tiff(data: bytes, *, opened: bool) -> PictureRejected | None:
    """Which kind of TIFF isn't read, where it is one of those and not damaged."""
    try:
        tags, _ = limits.directory(data, wanted=kinds.TIFF_TAGS)
    except (KeyError, struct.error, PictureRejected):
        return None
    return kinds.unread_tiff(tags, "big-endian" if data.startswith(b"MM") else "", opened=opened)


def _holds_several(image: Image.Image, data: bytes) -> bool:
    """Whether the file holds pictures beside its first that aren't smaller copies of it."""
    # Not n_frames, which follows a TIFF's chain of directories to its end, however long somebody made it.
    if not getattr(image, "is_animated", False):
        return False
    if image.format == "TIFF":
        return not frames.tiff_previews(data)
    if image.format == "MPO":
        entries = image.mpinfo[0xB002]  # type: ignore[attr-defined]  # of an MpoImageFile
        return not frames.jpeg_previews(data, image.size, entries)
    return True


def _grey(image: Image.Image, data: bytes, contract: Contract) -> tuple[Grey, int | None]:
    """Decoded grey pixels (H, W) and the declared bits per sample, if the file declares any beyond its container."""
    sample_bits = _sample_bits(image, data)
    if _holds_several(image, data):
        raise PictureRejected("several_frames", "the file holds more than one picture")
    if sample_bits > 8 and not image.mode.startswith("I;16"):
        raise PictureRejected("unsupported_samples", f"{sample_bits}-bit samples that aren't plain grey")
    if image.format == "TIFF":
        _check_samples(image.tag_v2)  # type: ignore[attr-defined]
    declared = sample_bits if 8 < sample_bits < 16 else None
    # Pillow inverts 8-bit pictures itself.
    inverted = image.format == "TIFF" and image.tag_v2.get(262) == 0  # type: ignore[attr-defined]
    if image.format in ("JPEG", "MPO"):  # which is a JPEG with more behind it
        size = image.size
        if contract.decode_size is not None:
            image.draft("L", contract.decode_size)
        _check_end(image, data, -(-size[0] // image.width))
    ImageOps.exif_transpose(image, in_place=True)  # and without a copy of what is upright already
    if image.mode.startswith("I;16"):
        samples16 = np.asarray(image).astype(np.uint16, copy=False)
        if inverted:
            # About the depth that the samples show: white is zero, so their peak is near black.
            declared = bit_depth(samples16, declared)
            samples16 = ((1 << declared) - 1) - samples16
        return samples16, declared
    if image.mode in ("1", "L", "LA", "La"):
        return np.asarray(image.convert("L")), None
    if image.mode in ("RGB", "RGBA", "RGBX"):
        return np.asarray(image.convert("L")), None  # the same as by way of RGB, without another copy
    if image.mode in ("P", "PA", "YCbCr"):
        return np.asarray(image.convert("RGB").convert("L")), None
    raise PictureRejected("unsupported_samples", f"samples of kind {image.mode} have no defined reading as a film")


def _check_end(image: Image.Image, data: bytes, scale: int) -> None:
    """Reject a JPEG that was cut short and closed, decoded at one `scale`-th of its size."""
    last = image.getpixel((image.width - 1, image.height - 1))
    grey = last in (cut.FILL, (cut.FILL,) * 3)  # nearly no film ends so: the others cost nothing
    if grey and cut.is_cut(data, np.asarray(image.convert("L")), scale):
        raise PictureRejected(
            "corrupt", "the picture was cut short: its end isn't in the file, and decodes to flat grey"
        )


def _check_samples(tags: Mapping[int, Any]) -> None:
    """Reject a TIFF whose samples Pillow would read as what they may not be."""
    if 262 not in tags:  # PhotometricInterpretation, which TIFF 6.0 requires; Pillow takes white-is-zero
        raise PictureRejected("unsupported_samples", "the TIFF doesn't say whether zero is black or white")
    kinds = tags.get(339, 1)  # SampleFormat: 1 is unsigned; Pillow reads signed bytes as unsigned
    if set(kinds if isinstance(kinds, tuple) else (kinds,)) != {1}:
        raise PictureRejected(
            "unsupported_samples", "signed or floating-point samples have no defined reading as a film"
        )


def prepare(picture: Picture, contract: Contract) -> np.ndarray:
    """The network's input for a picture: uint8 (contract.height, contract.width); rejects a blank one."""
    image = preprocess(to_uint8(picture.pixels, picture.bits), contract)
    if float(image.std()) < MIN_CONTRAST:
        raise PictureRejected("blank", "the picture is blank")
    return image


def network_input(path: Path, contract: Contract) -> np.ndarray:
    """Read, decode and prepare one file: uint8 (contract.height, contract.width); raises PictureRejected."""
    return prepare(decode(read(path), contract), contract)
