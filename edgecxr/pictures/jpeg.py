"""A JPEG's structure, read without decoding it: frame, tables, first scan (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN, _RESTART, _SCAN, _END = 0xC4, 0xDD, 0xDA, 0xD9
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
MAX_SEGMENTS = 10_000
MAX_TABLES = 8  # of a segment: there are four for DC and four for AC (B.2.4.2)


@dataclass(frozen=True)
class Frame:
    """What a start of frame says."""

    marker: int  # C0 to CF: the coding process
    width: int  # px
    height: int
    sampling: dict[int, tuple[int, int]]  # (horizontal, vertical) factors by component


@dataclass(frozen=True)
class Scan:
    """A scan: which components it codes, with which codes, and where its coded data begins and ends."""

    tables: dict[int, tuple[int, int]]  # (DC, AC) Huffman table by component, in the order of the blocks
    band: tuple[int, int]  # first and last coefficient
    low_bit: int  # 0 where the coefficients are whole with this scan
    start: int
    end: int


@dataclass(frozen=True)
class Jpeg:
    """Everything before the end of the first picture of a file."""

    frame: Frame
    codes: dict[int, dict[int, str]]  # by 16 x class + number: the code, in 0 and 1, of each symbol, for the first scan
    restart: int  # MCUs between two restart markers, 0 for none
    scans: tuple[Scan, ...]


def size(data: bytes, start: int = 0) -> tuple[int, int] | None:
    """(width, height) in px of the JPEG that begins at `start`; None where none does."""
    if data[start : start + 2] != b"\xff\xd8":
        return None
    for marker, begin, end in _segments(data, start + 2):
        if marker in _START_OF_FRAME and end - begin >= 6:
            return int.from_bytes(data[begin + 3 : begin + 5], "big"), int.from_bytes(
                data[begin + 1 : begin + 3], "big"
            )
    return None


def read(data: bytes) -> Jpeg | None:
    """The structure of the file's first picture; None where it isn't as the specification has it."""
    frame, codes, restart, scans = None, dict[int, dict[int, str]](), 0, list[Scan]()
    try:
        for marker, begin, end in _segments(data, 2):
            body = data[begin:end]
            if marker in _START_OF_FRAME:
                if frame is not None:
                    return None
                frame = _frame(marker, body)
            elif marker == _HUFFMAN and not scans:
                codes |= _codes(body)
            elif marker == _RESTART:
                restart = int.from_bytes(body[:2], "big")
            elif marker == _SCAN:
                scans.append(_scan(data, body, end))
    except IndexError:
        return None
    return Jpeg(frame, codes, restart, tuple(scans)) if frame and scans else None


def _segments(data: bytes, position: int) -> Iterator[tuple[int, int, int]]:
    """(marker, begin, end) of each segment's content up to the end of the picture; coded data is passed over."""
    for _ in range(MAX_SEGMENTS):
        position = data.find(b"\xff", position)
        while position >= 0 and data[position + 1 : position + 2] == b"\xff":  # fill
            position += 1
        if position < 0 or position + 4 > len(data) or data[position + 1] == _END:
            return
        marker = data[position + 1]
        position += 2
        if marker in _STANDALONE or marker == 0:
            continue
        end = position + max(2, int.from_bytes(data[position : position + 2], "big"))
        yield marker, position + 2, end
        position = _coded_end(data, end) if marker == _SCAN else end


_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def _coded_end(data: bytes, start: int) -> int:
    """Where the coded data that begins at `start` ends: before a marker that is none of its own."""
    found = _NEXT_MARKER.search(data, start)
    return found.start() if found else len(data)


def _frame(marker: int, body: bytes) -> Frame:
    count = body[5]
    sampling = {body[6 + 3 * i]: (body[7 + 3 * i] >> 4, body[7 + 3 * i] & 15) for i in range(count)}
    if len(sampling) < count or any(not 1 <= factor <= 4 for pair in sampling.values() for factor in pair):
        raise IndexError
    return Frame(marker, int.from_bytes(body[3:5], "big"), int.from_bytes(body[1:3], "big"), sampling)


def _codes(body: bytes) -> dict[int, dict[int, str]]:
    """The codes of a segment's Huffman tables (annex C): of each length they count up, and double for the next."""
    tables = {}
    for _ in range(MAX_TABLES):
        if not body:
            break
        name, lengths, body = body[0], body[1:17], body[17:]
        table, code = {}, 0
        for length, count in enumerate(lengths, start=1):
            for symbol in body[:count]:
                table[symbol] = f"{code:0{length}b}"
                code += 1
            body = body[count:]
            code <<= 1
        tables[name] = table
    return tables


def _scan(data: bytes, body: bytes, end: int) -> Scan:
    count = body[0]
    tables = {body[1 + 2 * i]: (body[2 + 2 * i] >> 4, body[2 + 2 * i] & 15) for i in range(count)}
    first, last, bits = body[1 + 2 * count : 4 + 2 * count]
    return Scan(tables, (first, last), bits & 15, end, _coded_end(data, end))
