"""What a file is that no decoder takes: told from its content, with what to do about it.

Every sentence is ours and quotes nothing of the file. The signatures are those of the formats' specifications, as
file(1) has them too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgecxr.errors import PictureRejected
from edgecxr.pictures.dicom.elements import is_dicom

FORMATS = ("JPEG", "PNG", "TIFF", "BMP")  # that are read
_AGAIN = "save it as PNG, TIFF or JPEG"

# Pictures of formats that aren't read: what the file begins with, and the format's name.
_PICTURES = (
    (rb"RIFF....WEBP", "WebP"),
    (rb"GIF8[79]a", "GIF"),
    (rb"\0\0\0\x0cJXL \r\n\x87\n|\xff\x0a", "JPEG XL"),
    (rb"\0\0\0\x0cjP(  |\x1a\x1a)\r\n\x87\n|\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"II\xbc", "JPEG XR"),
    (rb"8BPS\0[\x01\x02]", "Photoshop"),
    (rb"P[1-7]\s", "PNM"),
    (rb"\x76\x2f\x31\x01", "OpenEXR"),
    (rb"\0\0[\x01\x02]\0[^\0]\0", "Windows icon"),
    (rb".{344}(n\+1|ni1)\0|\x1c\x02\0\0n[+i][12]\0|\0\0\x02\x1cn[+i][12]\0", "NIfTI"),
    (rb"SIMPLE  =", "FITS"),
    (rb"NRRD0", "NRRD"),
)
# ISO/IEC 14496-12, 4.3: brands of a file that begins with the box `ftyp`.
_BRANDS = (
    (rb"avi[fs]", "AVIF"),
    (rb"he(ic|ix|im|is|vc|vx|vm|vs)|mif1|msf1", "HEIC"),
)
_VIDEO = "is a video (MP4 or QuickTime)"

# What is no picture: what the file begins with, what it is, and what to do.
_OTHERS = (
    (rb"%PDF-", "a PDF", "export its pictures, as PNG"),
    (rb"version https://git-lfs\.github\.com/spec/", "a Git LFS pointer and not the file", "run: git lfs pull"),
    (rb"/annex/objects/", "a git-annex pointer and not the file", "run: git annex get"),
    (rb"PK(\x03\x04|\x05\x06)", "a zip archive, or a document that is one", "unpack it"),
    (rb"\x1f\x8b", "compressed with gzip", "unpack it"),
    (rb"BZh[1-9]1AY&SY", "compressed with bzip2", "unpack it"),
    (rb"\xfd7zXZ\0|7z\xbc\xaf\x27\x1c|Rar!\x1a\x07|\x28\xb5\x2f\xfd", "an archive (xz, 7z, rar, zstd)", "unpack it"),
    (rb".{257}ustar", "a tar archive", "unpack it"),
    (rb"\x93NUMPY", "a NumPy array", _AGAIN),
    (rb"\x89HDF\r\n", "an HDF5 file", "save its pictures as PNG, TIFF or JPEG"),
)  # fmt: skip
_SPACE = rb"(?:\xef\xbb\xbf)?\s*"
_PAGE = re.compile(_SPACE + rb"(?:<!--.{0,400}?-->\s*)?<(!doctype\s+html|html|head|body)\b", re.DOTALL | re.IGNORECASE)
_MARKUP = re.compile(_SPACE + rb"<(\?xml|!doctype|svg|[a-z])", re.IGNORECASE)
_READ = re.compile(rb"\xff\xd8|\x89PNG\r\n\x1a\n")
_LOOKED_AT = 4096  # bytes of a file that may be text

# ITU-T T.81, table B.1, and T.87 (JPEG-LS): what a frame's marker says of its coding, where libjpeg has no decoder.
_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_HIERARCHICAL = frozenset({0xC5, 0xC6, 0xCD, 0xCE})
_JPEG_LS = 0xF7

# TIFF 6.0 and its supplements: what the numbers of a directory mean.
_TIFF_COLOURS = {
    0: "white is zero", 1: "black is zero", 2: "RGB", 3: "a palette", 4: "a mask", 5: "CMYK", 6: "YCbCr", 8: "CIELab",
    32803: "a sensor's raw mosaic", 34892: "linear raw",
}  # fmt: skip
_TIFF_SAMPLES = {2: "signed", 3: "floating point", 4: "of no defined kind", 5: "complex", 6: "complex"}
_TIFF_CODINGS = {
    1: "", 2: "CCITT", 3: "CCITT group 3", 4: "CCITT group 4", 5: "LZW", 6: "old JPEG", 7: "JPEG", 8: "deflate",
    32773: "PackBits", 32946: "deflate", 33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000",
    34892: "lossy JPEG", 34925: "LZMA", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
# (samples a pixel, bits a sample, colours) that are read, whatever else the file says: where one isn't, it's damaged.
_PLAIN_TIFFS = frozenset({(1, 1, 0), (1, 1, 1), (1, 8, 0), (1, 8, 1), (1, 8, 3), (3, 8, 2), (1, 16, 1)})
BITS, COMPRESSION, COLOUR, SAMPLES, FORMAT = 258, 259, 262, 277, 339
TIFF_TAGS = frozenset({BITS, COMPRESSION, COLOUR, SAMPLES, FORMAT})
_PLAIN_CODINGS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946})  # that every build of the decoder has
_OPENED_CODINGS = frozenset({6, 32771, 32809, 34676, 34677, 34925, 50000, 50001})  # that it may find out are missing


def rejection(data: bytes) -> PictureRejected:
    """Why a file isn't read that no decoder takes: what it is, where its content tells, and what to do."""
    if is_dicom(data):
        return PictureRejected("dicom", "DICOM isn't read by a bundle of contract version 1; export it anew")
    name = _picture(data)
    if name is not None:
        return PictureRejected("unsupported_format", f"{name} isn't read; {_AGAIN}")
    return PictureRejected("not_an_image", _no_picture(data))


def _picture(data: bytes) -> str | None:
    """The name of the format, or None where it's none of a picture."""
    if data[4:8] == b"ftyp":
        length = min(max(int.from_bytes(data[:4], "big"), 16), 256)
        brands = [data[8:12], *(data[place : place + 4] for place in range(16, length, 4))]
        names = [name for pattern, name in _BRANDS if any(re.fullmatch(pattern, brand) for brand in brands)]
        return names[0] if names else None
    return next((name for pattern, name in _PICTURES if re.match(pattern, data, re.DOTALL)), None)


def _no_picture(data: bytes) -> str:
    for pattern, name, remedy in _OTHERS:
        if re.match(pattern, data, re.DOTALL):
            return f"not a picture, it is {name}; {remedy}"
    start = data[:_LOOKED_AT]
    if data[4:8] == b"ftyp":
        return f"not a picture, it is a video or of that kind; {_AGAIN}"
    if b"%PDF-" in start[:1024]:  # PDF 1.7, annex H: readers look for it there
        return "not a picture, it is a PDF; export its pictures, as PNG"
    if _PAGE.match(start):
        return "not a picture, it is a web page (HTML), as a failed download leaves one; fetch the file again"
    if _MARKUP.match(start):
        return f"not a picture, it is XML or like it; {_AGAIN}"
    if not start.strip(b"\0"):
        return "not a picture, it begins with nothing but zeros, as an unfinished copy does; copy it again"
    if _is_text(start):
        return "not a picture, it is text"
    if _READ.match(data) or data.startswith(b"BM"):
        return "not a picture of a known format, though it begins like one; its header is damaged"
    return f"not a picture of a known format ({', '.join(FORMATS)})"


def _is_text(start: bytes) -> bool:
    """Whether these first bytes are UTF-8 or UTF-16 of characters that are written, and not controls."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = start[: len(start) & ~1].decode("utf-16", "replace")
    else:
        text = start.decode("utf-8", "replace").removesuffix("�")  # a character that is cut at the end
    return "�" not in text and all(c.isprintable() or c in "\t\n\r\f\ufeff" for c in text)


def check_frame(marker: int, precision: int) -> None:
    """Raise PictureRejected for a JPEG whose frame (marker FF `marker`, `precision` bits a sample) isn't decoded."""
    if marker == _JPEG_LS:
        raise PictureRejected("unsupported_format", f"JPEG-LS isn't read; {_AGAIN}")
    if marker in _LOSSLESS:
        raise PictureRejected("unsupported_format", f"lossless JPEG isn't read; {_AGAIN}")
    if marker in _HIERARCHICAL:
        raise PictureRejected("unsupported_format", f"hierarchical JPEG isn't read; {_AGAIN}")
    if precision == 12:
        raise PictureRejected("unsupported_format", "JPEG of 12-bit samples isn't read; save it as 16-bit PNG or TIFF")


def unread_tiff(tags: Mapping[int, tuple[int, int]], order: str, *, opened: bool) -> PictureRejected | None:
    """Why a TIFF isn't read, of whose first directory `tags` are (count, first value) by tag; None where it's damage.

    `opened` says that the decoder knew its kind and failed afterwards; `order` is "big-endian", say.
    """
    coding = tags.get(COMPRESSION, (1, 1))[1]
    if coding not in _PLAIN_CODINGS and (opened or coding not in _OPENED_CODINGS):
        name = _TIFF_CODINGS.get(coding) or f"number {coding}"
        return PictureRejected("unsupported_format", f"a TIFF with this compression isn't read ({name}); {_AGAIN}")
    if opened:
        return None
    bits, samples = tags.get(BITS, (1, 1))[1], tags.get(SAMPLES, (1, 1))[1]
    colour, sample_format = tags.get(COLOUR, (1, -1))[1], tags.get(FORMAT, (1, 1))[1]
    if sample_format == 1 and (samples, bits, colour) in _PLAIN_TIFFS:
        return None
    words = [
        f"{samples} {'sample' if samples == 1 else 'samples'} a pixel of {bits} bits",
        _TIFF_SAMPLES.get(sample_format, ""),
        _TIFF_COLOURS.get(colour, f"colours of kind {colour}" if colour >= 0 else "colours of no stated kind"),
        _TIFF_CODINGS.get(coding, ""),
        order,
    ]
    kind = ", ".join(word for word in words if word)
    return PictureRejected("unsupported_samples", f"a TIFF of this kind isn't read ({kind}); save it as grey")
