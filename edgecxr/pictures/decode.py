"""Decode a file's bytes or say why not: the trust boundary.

The only `Image.open` of the project is here. Whatever a file holds, `decode` returns a `Picture` or raises
`PictureRejected` with a sentence of ours: a decoder's own words may quote the file, so they are never passed on.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, _imaging

from edgecxr.errors import PictureRejected
from edgecxr.pictures import limits
from edgecxr.pictures.dicom.elements import is_dicom
from edgecxr.pictures.files import read
from edgecxr.pictures.preprocess import Contract, Grey, bit_depth, preprocess, to_uint8

FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
MAX_PIXELS = 80_000_000  # a 43 x 35 cm film at 0.05 mm a pixel is 60 megapixels
MIN_SIDE = 64  # px; below this a film shows no finding
MIN_CONTRAST = 2.0  # grey levels of 255; standard deviation of a picture that shows anything


# What Pillow's decoders are known to raise on hostile input, beside OSError.
DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, EOFError,
    MemoryError, RuntimeError, AssertionError, ZeroDivisionError, NotImplementedError, struct.error, zlib.error,
    Warning,  # where warnings are errors
)  # fmt: skip

# Ours is the lower limit, and it rejects; Pillow's warning would only repeat it on stderr.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Its other warnings quote the picture's metadata.
warnings.filterwarnings("ignore", module=r"PIL\.")
# And so do its log lines, at every level: in a device's log they would be patients' names.
logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)


def _silence_libtiff() -> None:
    """libtiff writes straight to stderr, past Python, what it dislikes in a file; nothing of that is for a log."""
    # Found through the module that is linked with it; where it is linked statically there is no such name.
    library = ctypes.CDLL(_imaging.__file__)
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        with contextlib.suppress(AttributeError):
            getattr(library, name)(None)


_silence_libtiff()


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
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # the warning, where warnings are errors
        raise PictureRejected("too_large", f"more than {MAX_PIXELS // 1_000_000} megapixels") from None
    except DECODER_ERRORS:
        if is_dicom(data):
            raise PictureRejected(
                "dicom", "a DICOM file, which a bundle of contract version 1 doesn't read: export it anew"
            ) from None
        raise PictureRejected("not_an_image", f"not a picture of a known format ({', '.join(FORMATS)})") from None
    except Exception as error:
        raise _unforeseen(error) from None
    with image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise PictureRejected("too_large", f"more than {MAX_PIXELS // 1_000_000} megapixels: {width} x {height}")
        if min(width, height) < MIN_SIDE:
            raise PictureRejected("too_small", f"smaller than {MIN_SIDE} px: {width} x {height}")
        limits.check_size(width, height, data)
        try:
            pixels, declared = _grey(image, contract, _sample_bits(image, data))
        except Image.DecompressionBombError:  # of what Pillow finds only while it decodes
            raise PictureRejected("too_large", f"more than {MAX_PIXELS // 1_000_000} megapixels") from None
        except DECODER_ERRORS:
            raise PictureRejected("corrupt", "the picture is damaged or truncated") from None
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


def _grey(image: Image.Image, contract: Contract, sample_bits: int) -> tuple[Grey, int | None]:
    """Decoded grey pixels (H, W) and the declared bits per sample, if the file declares any beyond its container."""
    # Not n_frames, which follows a TIFF's chain of directories to its end, however long somebody made it.
    if getattr(image, "is_animated", False):
        raise PictureRejected("several_frames", "the file holds more than one picture")
    if sample_bits > 8 and not image.mode.startswith("I;16"):
        raise PictureRejected("unsupported_samples", f"{sample_bits}-bit samples that aren't plain grey")
    if image.format == "TIFF":
        _check_samples(image.tag_v2)  # type: ignore[attr-defined]
    declared = sample_bits if 8 < sample_bits < 16 else None
    # Pillow inverts 8-bit pictures itself.
    inverted = image.format == "TIFF" and image.tag_v2.get(262) == 0  # type: ignore[attr-defined]
    if contract.decode_size is not None and image.format == "JPEG":
        image.draft("L", contract.decode_size)
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
