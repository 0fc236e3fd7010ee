"""DICOM films to test with, written by pydicom: an implementation that isn't ours."""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from common import noisy

JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS, JPEG_LOSSLESS_FIRST = (
    f"1.2.840.10008.1.2.4.{end}" for end in (50, 51, 57, 70)
)
JPEG_LS, JPEG_LS_NEAR, JPEG_2000, JPEG_2000_LOSSY = (f"1.2.840.10008.1.2.4.{end}" for end in (80, 81, 90, 91))
HTJ2K, HTJ2K_RPCL, HTJ2K_LOSSY = (f"1.2.840.10008.1.2.4.{end}" for end in (201, 202, 203))
IMPLICIT, BIG_ENDIAN, DEFLATED, RLE = (f"1.2.840.10008.1.2{end}" for end in ("", ".2", ".1.99", ".5"))


def values(size: tuple[int, int] = (96, 80), bits: int = 12, seed: int = 0) -> np.ndarray:
    """(H, W) uint16 of a (width, height) that reach from zero to the highest value."""
    found = (noisy(size, seed).astype(np.uint32) * ((1 << bits) - 1) // 255).astype(np.uint16)
    found[0, 0], found[0, 1] = 0, (1 << bits) - 1
    return found


def film(
    samples: np.ndarray | bytes | None = None,
    *,
    syntax: str = ExplicitVRLittleEndian,
    preamble: bool = True,
    meta: bool = True,
    fragments: int = 1,
    size: tuple[int, int] = (96, 80),
    **elements: Any,
) -> bytes:
    """The bytes of a CR film; `elements` add to it by their keywords, or take out where None.

    `samples` are an array (H, W) of uint8 or uint16, a compressed frame of a (width, height), or `values()`.
    """
    samples = values() if samples is None else samples
    data = Dataset()
    plain: dict[str, Any] = {
        "SOPClassUID": ComputedRadiographyImageStorage,
        "SOPInstanceUID": "1.2.3",
        "Modality": "CR",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
    }
    if isinstance(samples, np.ndarray):
        size = samples.shape[::-1]
        if samples.dtype == np.uint8:
            plain |= {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    plain |= {"Columns": size[0], "Rows": size[1]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword, value in {**plain, **elements}.items():
            if value is not None:
                setattr(data, keyword, value)
        compressed = isinstance(samples, bytes)
        if compressed:
            data.PixelData = encapsulate([samples], fragments_per_frame=fragments)
            data["PixelData"].is_undefined_length = True
        else:
            order = ">" if syntax == BIG_ENDIAN else "<"
            raw = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
            data.PixelData = raw + b"\0" * (len(raw) % 2)
        data["PixelData"].VR = "OB" if compressed else "OW"
        if meta:
            data.file_meta = FileMetaDataset()
            data.file_meta.TransferSyntaxUID = UID(syntax)
            data.file_meta.MediaStorageSOPClassUID = data.get("SOPClassUID") or "1.2.3"
            data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
            data.preamble = b"\0" * 128
        file = io.BytesIO()
        encoding = {"implicit_vr": syntax == IMPLICIT, "little_endian": syntax != BIG_ENDIAN}
        dcmwrite(file, data, enforce_file_format=meta, **encoding)
    return file.getvalue()[0 if preamble else 132 :] if meta else file.getvalue()


def lut(entries: np.ndarray, first: int = 0, bits: int = 16) -> Sequence:
    """A sequence of one LUT."""
    item = Dataset()
    item.add_new(0x00283002, "US", [len(entries) % 65536, first, bits])
    item.add_new(0x00283006, "OW", entries.astype("<u2").tobytes())
    return Sequence([item])


def compressed(samples: np.ndarray, bits: int = 12) -> dict[str, bytes]:
    """The frame in every kind of compression that keeps each value, by transfer syntax."""
    planes = [imagecodecs.packbits_encode((samples >> shift).astype(np.uint8).tobytes()) for shift in (8, 0)]
    planes = [plane + b"\0" * (len(plane) % 2) for plane in planes]
    lossless = imagecodecs.jpeg8_encode(samples, lossless=True, bitspersample=bits)
    htj2k = imagecodecs.htj2k_encode(samples, reversible=True)
    return {
        RLE: struct.pack("<16I", 2, 64, 64 + len(planes[0]), *[0] * 13) + b"".join(planes),
        JPEG_LOSSLESS: imagecodecs.jpeg8_encode(samples, lossless=True, bitspersample=bits, predictor=6),
        JPEG_LOSSLESS_FIRST: lossless,
        JPEG_LS: imagecodecs.jpegls_encode(samples),
        JPEG_2000: imagecodecs.jpeg2k_encode(samples, codecformat="j2k", bitspersample=bits, reversible=True, level=0),
        HTJ2K: htj2k,
        HTJ2K_RPCL: htj2k,
    }
