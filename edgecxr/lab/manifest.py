"""A `manifest.csv` as rows of named fields, from whatever program wrote it, where there is one reading.

Spreadsheets on Windows write semicolons or tabs, UTF-16, backslashes and rows of nothing: all of these are read. An
8-bit encoding isn't, since the file doesn't say which of them it is.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from edgecxr.errors import DataError

NEEDED = ("file", "label")
KNOWN = frozenset({*NEEDED, "split", "group", "patient", "origin"})  # found in any case: `File` is `file`
SEPARATORS = (",", ";", "\t")
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_HINT = re.compile(r"sep=(.)\r?\n")  # Excel's own first line
_REMEDY = "save it as CSV UTF-8"


def read_rows(manifest: Path, needed: Sequence[str] = NEEDED) -> list[tuple[int, dict[str, str]]]:
    """(line, fields by column) of each row that isn't empty; raises DataError where there isn't one reading.

    Columns come without spaces about their names, fields as they are. It must have the two columns `needed`.
    """
    try:
        text = _text(manifest.read_bytes(), manifest)
    except OSError as error:
        raise DataError(f"the manifest can't be read ({error.strerror}): {manifest}") from None
    hint = _HINT.match(text)
    skipped = hint.end() if hint else 0
    separator = hint[1] if hint else _separator(text, needed)
    reader = csv.reader(io.StringIO(text[skipped:], newline=""), delimiter=separator, strict=True)
    lines = _lines(reader, manifest, 1 if hint else 0)
    _, header = next(lines, (0, []))
    columns = _columns(header, manifest, needed) if header else []
    rows = []
    for line, fields in lines:
        # Nameless columns at the end hold nothing: a spreadsheet's used range is wider than its table.
        while len(fields) > len(columns) and not fields[-1]:
            fields.pop()
        if len(fields) != len(columns):
            raise DataError(f"{manifest} line {line} doesn't have as many fields as the header")
        rows.append((line, dict(zip(columns, fields, strict=True))))
    return rows


def _text(data: bytes, manifest: Path) -> str:
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-16":
            raise DataError(f"the manifest isn't UTF-16 throughout, as it says, {_REMEDY}: {manifest}") from None
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"the manifest isn't UTF-8 from line {line} on, {_REMEDY}: {manifest}") from None
    if "\0" in text:
        raise DataError(f"the manifest holds NULs, as UTF-16 without its mark does, {_REMEDY}: {manifest}")
    return text


def _separator(text: str, needed: Sequence[str]) -> str:
    """What stands between the `needed` columns in the header; a comma where nothing does."""
    header = next(iter(io.StringIO(text, newline="")), "")

    def has_needed(separator: str) -> bool:
        names = {name.strip(" \"'").casefold() for name in header.rstrip("\r\n").split(separator)}
        return names >= set(needed)

    return next((separator for separator in SEPARATORS if has_needed(separator)), SEPARATORS[0])


def _lines(reader: Iterator[list[str]], manifest: Path, before: int) -> Iterator[tuple[int, list[str]]]:
    """(line, fields) of each row with anything in it."""
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            line = reader.line_num + before  # type: ignore[attr-defined]
            raise DataError(f"the manifest can't be read at line {line} ({error}): {manifest}") from None
        if any(field.strip() for field in fields):
            yield reader.line_num + before, fields  # type: ignore[attr-defined]


def _columns(header: list[str], manifest: Path, needed: Sequence[str]) -> list[str]:
    names = [name.strip() for name in header]
    while names and not names[-1]:
        names.pop()
    known = KNOWN.union(needed)
    names = [name.casefold() if name.casefold() in known else name for name in names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"the manifest names a column twice, {twice[0]!r}: {manifest}")
    if not set(needed) <= set(names):
        raise DataError(f"the manifest needs the columns {' and '.join(needed)}, it has {', '.join(names)}: {manifest}")
    return names


def relative_file(folder: Path, name: str) -> str | None:
    """The file that a row names, relative to `folder` and with forward slashes; None where it lies outside.

    Backslashes are Windows' unless there is a file whose name has them.
    """
    if "\\" in name and (os.name == "nt" or not (folder / name).exists()):
        if PureWindowsPath(name).anchor:
            return None
        name = name.replace("\\", "/")
    path = PurePosixPath(name)  # ./1.png is 1.png
    return None if path.is_absolute() or Path(path).is_absolute() or ".." in path.parts else path.as_posix()
