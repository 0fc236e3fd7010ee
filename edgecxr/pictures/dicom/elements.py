"""The elements of a DICOM file that a film needs, found by a walk under limits. Pure, and standard library only.

This is the only parser that a file meets: nothing else reads it another way. Values that aren't wanted are stepped
over and never looked at, patients' names above all. Tags, value representations and encodings are of DICOM PS3.5 and
PS3.10.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from edgecxr.errors import PictureRejected

MAX_ELEMENTS = 50_000  # of a file, items and fragments included; a film has some hundreds, with private ones a thousand
MAX_DEPTH = 16  # of sequences in sequences; a film's go to 4
MAX_INFLATION = 32  # times the deflated bytes; films deflate to a half, and to a tenth where most is background
MAX_INFLATED = 200 << 20  # bytes; 80 megapixels of 16 bits are 160 MB
MAX_COPIED = 1 << 14  # bytes of an element of a patient's or a study's; a long text has 10,240 characters. In UTF-8 it
# may be three times as long, and has to fit into 16 bits of length
MAX_VALUE = 1 << 18  # bytes of a value that is kept; 65,536 entries of a LUT, of 16 bits each, are half of it

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

TRANSFER_SYNTAX: Final = 0x00020010
SOP_CLASS: Final = 0x00080016
SOP_INSTANCE: Final = 0x00080018
MODALITY: Final = 0x00080060
INTENT: Final = 0x00080068  # Presentation Intent Type
CODE_VALUE: Final = 0x00080100
PATIENT: Final = 0x00100020
BODY_PART: Final = 0x00180015
VIEW_POSITION: Final = 0x00185101
STUDY: Final = 0x0020000D
SAMPLES: Final = 0x00280002
PHOTOMETRIC: Final = 0x00280004
FRAMES: Final = 0x00280008
ROWS: Final = 0x00280010
COLUMNS: Final = 0x00280011
BITS_ALLOCATED: Final = 0x00280100
BITS_STORED: Final = 0x00280101
HIGH_BIT: Final = 0x00280102
PIXEL_REPRESENTATION: Final = 0x00280103
PADDING: Final = 0x00280120
PADDING_LIMIT: Final = 0x00280121
WINDOW_CENTER: Final = 0x00281050
WINDOW_WIDTH: Final = 0x00281051
INTERCEPT: Final = 0x00281052
SLOPE: Final = 0x00281053
VOI_FUNCTION: Final = 0x00281056
MODALITY_LUT: Final = 0x00283000
LUT_DESCRIPTOR: Final = 0x00283002
LUT_DATA: Final = 0x00283006
VOI_LUT: Final = 0x00283010
VIEW_CODE: Final = 0x00540220
LUT_SHAPE: Final = 0x20500020  # Presentation LUT Shape
FLOAT_PIXELS: Final = 0x7FE00008
DOUBLE_PIXELS: Final = 0x7FE00009
PIXELS: Final = 0x7FE00010

# Values that are kept; the patient's and the study's aren't among them.
_WANTED = frozenset(
    {
        SOP_CLASS, MODALITY, INTENT, CODE_VALUE, BODY_PART, VIEW_POSITION, SAMPLES, PHOTOMETRIC, FRAMES, ROWS, COLUMNS,
        BITS_ALLOCATED, BITS_STORED, HIGH_BIT, PIXEL_REPRESENTATION, PADDING, PADDING_LIMIT, WINDOW_CENTER,
        WINDOW_WIDTH, INTERCEPT, SLOPE, VOI_FUNCTION, MODALITY_LUT, LUT_DESCRIPTOR, LUT_DATA, VOI_LUT, VIEW_CODE,
        LUT_SHAPE, FLOAT_PIXELS, DOUBLE_PIXELS,
    }
)  # fmt: skip
_SEQUENCES = frozenset({MODALITY_LUT, VOI_LUT, VIEW_CODE})

# PS3.5, 7.1.2: with 32 bits of length after two reserved bytes, and with 16 bits of it.
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT = frozenset(
    {
        b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
        b"ST", b"TM", b"UI", b"UL", b"US",
    }
)  # fmt: skip

DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
_PREAMBLE = 128


@dataclass(frozen=True)
class Value:
    """One element's value; of a sequence, its first item."""

    vr: bytes  # empty where the encoding is implicit
    data: memoryview
    item: Mapping[int, Value] | None = None


@dataclass(frozen=True)
class Elements:
    """The values that a film needs, by tag, and its pixel data."""

    values: Mapping[int, Value]
    order: str  # "<" or ">", of numbers
    syntax: str  # UID; empty where the file doesn't say
    pixels: tuple[memoryview, ...] = ()  # fragments of a compressed frame, or the native samples in one piece
    fragmented: bool = False

    def text(self, tag: int) -> str:
        """The first of an element's values, in capitals, without the spaces or NULs about it; empty where none is."""
        found = self.values.get(tag)
        if found is None:
            return ""
        first = bytes(found.data[:1024]).split(b"\\")[0]
        return first.strip(b" \0").decode("ascii", "replace").upper()

    def number(self, tag: int) -> float | None:
        """The first of a decimal element's values; raises PictureRejected where it is no number."""
        text = self.text(tag)
        if not text:
            return None
        try:
            number = float(text)
        except ValueError:
            raise _damaged() from None
        if not abs(number) < 1e30:  # written so that a NaN fails
            raise _damaged()
        return number

    def integer(self, tag: int, default: int | None = None) -> int:
        """An unsigned 16-bit element's value; raises PictureRejected where there is none and no `default`."""
        found = self.values.get(tag)
        if found is None or not found.data:
            if default is None:
                raise PictureRejected("corrupt", "the DICOM file doesn't say how its pixels are stored")
            return default
        if len(found.data) < 2:
            raise _damaged()
        return int(struct.unpack_from(self.order + "H", found.data)[0])


def is_dicom(data: bytes) -> bool:
    """Whether bytes begin as a DICOM file does: a preamble and DICM, or a meta header or data set without them.

    What has neither begins with an element of group 2 or 8 and goes on with a higher one of the same group; no JPEG,
    PNG, TIFF or BMP begins so.
    """
    if data[_PREAMBLE : _PREAMBLE + 4] == b"DICM":
        return True
    if len(data) < 16 or data[0] not in (2, 8) or data[1] or data[3]:
        return False
    walk, explicit = _Walk(memoryview(data), "<"), data[4:6] in _LONG | _SHORT
    try:
        first, _, length, start = walk.head(0, explicit)
        second, *_ = walk.head(start + length, explicit)
    except PictureRejected:
        return False
    return first >> 16 == second >> 16 and first < second


def read(data: bytes) -> Elements:
    """The elements of a DICOM file's bytes up to its pixel data; raises PictureRejected."""
    walk, start, syntax = _open(memoryview(data), MAX_INFLATED)
    values: dict[int, Value] = {}
    for tag, value, place, length in walk.top(start):
        if tag == PIXELS:
            fragmented = length == UNDEFINED
            pieces = walk.fragments(place) if fragmented else (value.data,)
            values[tag] = value
            return Elements(values, walk.order, syntax, pieces, fragmented)
        if tag in _WANTED:
            if tag in values:
                raise PictureRejected("corrupt", "a DICOM element stands there twice")
            if len(value.data) > MAX_VALUE:
                raise PictureRejected("implausible", "a DICOM element is longer than it ever is")
            values[tag] = value
    return Elements(values, walk.order, syntax)


def patient_and_study(data: bytes) -> tuple[bytes, bytes]:
    """The patient's ID and the study's UID, each empty where it isn't found, of a file's first bytes.

    Never to be written out.
    """
    found = {PATIENT: b"", STUDY: b""}
    try:
        walk, start, _ = _open(memoryview(data), len(data), whole=False)
        for tag, value, *_ in walk.top(start):
            if tag in found:
                found[tag] = bytes(value.data[:1024]).strip(b" \0")
            if tag >= STUDY:
                break
    except PictureRejected:  # cut where reading ended, or damaged
        pass
    return found[PATIENT], found[STUDY]


def sop_class_and_instance(data: bytes) -> tuple[str, str]:
    """The UIDs of a whole file's class and of itself, each empty where it isn't said; raises PictureRejected."""
    found = {SOP_CLASS: "", SOP_INSTANCE: ""}
    walk, start, _ = _open(memoryview(data), len(data), whole=False)
    for tag, value, *_ in walk.top(start):
        if tag in found:
            found[tag] = bytes(value.data[:65]).strip(b" \0").decode("ascii", "replace")
        if tag >= SOP_INSTANCE:
            break
    return found[SOP_CLASS], found[SOP_INSTANCE]


@dataclass(frozen=True)
class Field:
    """An element as it stands in a file: its bytes, or of a sequence every item."""

    vr: str
    data: bytes = b""
    items: tuple[Mapping[int, Field], ...] = ()


def copied(data: bytes, wanted: Collection[int], vr_of: Callable[[int], str]) -> tuple[dict[int, Field], str]:
    """The `wanted` elements of a file's top level as they stand there, and the order of numbers, "<" or ">".

    For what is to be said of the same patient elsewhere; never asked for to score. `vr_of` gives a tag's value
    representation, and "" for what is to be left out of sequences. Raises PictureRejected, also where one of them
    stands twice: whose film it is would be a guess.
    """
    walk, place, _ = _open(memoryview(data), MAX_INFLATED)
    found: dict[int, Field] = {}
    while place < len(walk.data):
        tag, vr, length, start = walk.head(place, walk.explicit)
        if tag == PIXELS:
            break
        if tag in wanted:
            if tag in found:
                raise PictureRejected("corrupt", "a DICOM element stands there twice")
            found[tag], place = walk.field(tag, vr, length, start, walk.explicit, 1, vr_of)
        else:
            place = walk.step(tag, vr, length, start, walk.explicit, 1)
    return found, walk.order


def _open(data: memoryview, limit: int, *, whole: bool = True) -> tuple[_Walk, int, str]:
    """A walk over a file's data set, where that begins, and the transfer syntax."""
    start = _PREAMBLE + 4 if bytes(data[_PREAMBLE : _PREAMBLE + 4]) == b"DICM" else 0
    meta, syntax = _Walk(data, "<"), ""
    while bytes(data[start : start + 2]) == b"\2\0":
        tag, _, length, value = meta.head(start, explicit=True)
        if length == UNDEFINED:
            raise _damaged()
        if tag == TRANSFER_SYNTAX:
            syntax = bytes(data[value : value + min(length, 64)]).strip(b" \0").decode("ascii", "replace")
        start = value + length
    if syntax == DEFLATED:
        data, start = memoryview(_inflate(data[start:], limit, whole=whole)), 0
    walk = _Walk(data, ">" if syntax == BIG_ENDIAN else "<")
    # Asked of the first element and not of the transfer syntax, which is wrong in files that others read all the same.
    walk.explicit = bytes(data[start + 4 : start + 6]) in _LONG | _SHORT
    return walk, start, syntax


def _inflate(deflated: memoryview, limit: int, *, whole: bool) -> bytes:
    """A deflated data set (PS3.5, A.5), never more of it than `limit` and MAX_INFLATION allow."""
    limit = min(limit, MAX_INFLATION * len(deflated) + 1024)
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = stream.decompress(deflated, limit + 1)
    except zlib.error:
        raise _damaged() from None
    if len(inflated) > limit and whole:
        raise PictureRejected("implausible", f"a deflated file of more than {MAX_INFLATION} times its own length")
    if not stream.eof and whole:
        raise _damaged()
    return inflated


class _Walk:
    """Steps from element to element, and counts them."""

    def __init__(self, data: memoryview, order: str) -> None:
        self.data, self.order, self.explicit = data, order, True
        self._tag, self._short, self._long = (struct.Struct(order + kind) for kind in ("HH", "H", "I"))
        self._elements = 0

    def head(self, place: int, explicit: bool) -> tuple[int, bytes, int, int]:
        """(tag, VR, length, place of the value) of the element at `place`."""
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise PictureRejected("too_many_parts", f"more than {MAX_ELEMENTS} elements in a DICOM file")
        try:
            group, element = self._tag.unpack_from(self.data, place)
            tag, vr = group << 16 | element, b""
            if not explicit or group == ITEM >> 16:
                (length,), start = self._long.unpack_from(self.data, place + 4), place + 8
            else:
                vr = bytes(self.data[place + 4 : place + 6])
                if vr in _SHORT:
                    (length,), start = self._short.unpack_from(self.data, place + 6), place + 8
                elif vr in _LONG:
                    (length,), start = self._long.unpack_from(self.data, place + 8), place + 12
                else:
                    raise _damaged()
        except struct.error:
            raise _damaged() from None
        if length != UNDEFINED and start + length > len(self.data):
            raise _damaged()
        return tag, vr, length, start

    def top(self, place: int) -> Iterator[tuple[int, Value, int, int]]:
        """(tag, value, its place, its length) of each element of the data set, pixel data as the last."""
        while place < len(self.data):
            tag, vr, length, start = self.head(place, self.explicit)
            if tag == PIXELS:
                data = self.data[start:] if length == UNDEFINED else self.data[start : start + length]
                yield tag, Value(vr, data), start, length
                return
            value, place = self._value(tag, vr, length, start, self.explicit, 1)
            yield tag, value, start, length

    def fragments(self, place: int) -> tuple[memoryview, ...]:
        """The pieces of encapsulated pixel data (PS3.5, A.4), without the offset table that is the first of them."""
        pieces: list[memoryview] = []
        while True:
            tag, _, length, start = self.head(place, explicit=False)
            if tag == SEQUENCE_END:
                return tuple(pieces[1:])
            if tag != ITEM or length == UNDEFINED:
                raise _damaged()
            pieces.append(self.data[start : start + length])
            place = start + length

    def step(self, tag: int, vr: bytes, length: int, start: int, explicit: bool, depth: int) -> int:
        """The place behind an element."""
        return self._value(tag, vr, length, start, explicit, depth)[1]

    def field(
        self, tag: int, vr: bytes, length: int, start: int, explicit: bool, depth: int, vr_of: Callable[[int], str]
    ) -> tuple[Field, int]:
        """An element with all that it holds, and the place behind it; empty where it isn't of `vr_of`'s kind."""
        kind = vr_of(tag)
        if kind != "SQ" or vr not in (b"", b"SQ", b"UN"):
            place = self.step(tag, vr, length, start, explicit, depth)
            if length == UNDEFINED or kind == "SQ":
                return Field(""), place
            if length > MAX_COPIED:
                raise PictureRejected("implausible", "a DICOM element is longer than it ever is")
            return Field(kind, bytes(self.data[start:place])), place
        if depth > MAX_DEPTH:
            raise PictureRejected("too_many_parts", f"more than {MAX_DEPTH} DICOM sequences in each other")
        explicit = explicit and vr != b"UN"
        end, place = None if length == UNDEFINED else start + length, start
        items: list[Mapping[int, Field]] = []
        while end is None or place < end:
            item, _, item_length, inside = self.head(place, explicit=False)
            if item == SEQUENCE_END and end is None:
                return Field(kind, items=tuple(items)), inside
            if item != ITEM:
                raise _damaged()
            values, place = self._fields(inside, item_length, explicit, depth, vr_of)
            items.append(values)
        if place != end:
            raise _damaged()
        return Field(kind, items=tuple(items)), place

    def _fields(
        self, place: int, length: int, explicit: bool, depth: int, vr_of: Callable[[int], str]
    ) -> tuple[dict[int, Field], int]:
        """Every known element of an item, and the place behind it."""
        end = None if length == UNDEFINED else place + length
        values: dict[int, Field] = {}
        while end is None or place < end:
            tag, vr, length, start = self.head(place, explicit)
            if tag == ITEM_END and end is None:
                return values, start
            field, place = self.field(tag, vr, length, start, explicit, depth + 1, vr_of)
            if field.vr:
                values[tag] = field
        if place != end:
            raise _damaged()
        return values, place

    def _value(self, tag: int, vr: bytes, length: int, start: int, explicit: bool, depth: int) -> tuple[Value, int]:
        """An element's value, and the place behind it; walks items that are wanted, or don't say where they end."""
        if length != UNDEFINED and tag not in _SEQUENCES:
            return Value(vr, self.data[start : start + length]), start + length
        if length == UNDEFINED and vr not in (b"", b"SQ", b"UN"):
            raise _damaged()
        if depth > MAX_DEPTH:
            raise PictureRejected("too_many_parts", f"more than {MAX_DEPTH} DICOM sequences in each other")
        # PS3.5, 6.2.2: what is of unknown representation and undefined length holds implicit elements.
        explicit = explicit and vr != b"UN"
        end = None if length == UNDEFINED else start + length
        first: Mapping[int, Value] | None = None
        place = start
        while end is None or place < end:
            item, _, item_length, inside = self.head(place, explicit=False)
            if item == SEQUENCE_END and end is None:
                place = inside
                break
            if item != ITEM:
                raise _damaged()
            if item_length != UNDEFINED and (first is not None or tag not in _SEQUENCES):
                place = inside + item_length
                continue
            values, place = self._item(inside, item_length, explicit, depth)
            first = values if first is None else first
        return Value(vr, self.data[start:start], first or {}), place

    def _item(self, place: int, length: int, explicit: bool, depth: int) -> tuple[dict[int, Value], int]:
        """The wanted values of an item, and the place behind it."""
        end = None if length == UNDEFINED else place + length
        values: dict[int, Value] = {}
        while end is None or place < end:
            tag, vr, length, start = self.head(place, explicit)
            if tag == ITEM_END and end is None:
                return values, start
            value, place = self._value(tag, vr, length, start, explicit, depth + 1)
            if tag in _WANTED:
                values.setdefault(tag, value)
        return values, place


def _damaged() -> PictureRejected:
    return PictureRejected("corrupt", "the DICOM file is damaged or truncated")
