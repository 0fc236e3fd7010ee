"""What an interrupted run left, and what of its inputs is still to score.

A file is finished where a record holds its path, its length and the time it was last changed; with `--id hash`, where
one holds the hash of its content. A record of a file that has changed since, that couldn't be read, or that didn't fit
its SHA256SUMS, is replaced: what was in the way may be gone. A record of a file that isn't among the inputs stays.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from edgecxr.errors import PictureRejected, UsageError
from edgecxr.pictures import files
from edgecxr.records import journal
from edgecxr.records.formats import json_columns
from edgecxr.records.prediction import SCHEMA, Provenance

NameBy = Literal["path", "hash"]

MAX_LINE = 1 << 20  # bytes; a record has 4,096 of path, escaped, and 1,000 labels at most
TRIED_AGAIN = ("checksum_mismatch", "checksums_unusable")  # beside what couldn't be read: the list may be another now

EARLIER = tuple(f'{{"schema": {schema},'.encode() for schema in range(1, SCHEMA))  # how their lines begin

_OTHER_NAMES = {
    "path": re.compile(r"sha256:[0-9a-f]{64}|unread:\d+"),
    "hash": re.compile(r"(?!sha256:|unread:).*", re.S),
}


class Finished(NamedTuple):
    """What is remembered of a record."""

    name: str  # its `path`
    sha256: str | None
    bytes: int | None
    mtime_ns: int | None
    status: str
    label: str | None
    code: str | None  # of its error


@dataclass(frozen=True)
class Left:
    """The records of a journal, and where its whole ones end, in bytes."""

    records: tuple[Finished, ...]
    size: int


@dataclass(frozen=True)
class Rest:
    """How inputs and records fit."""

    todo: tuple[tuple[int, Path], ...]  # inputs without a record, each with its position among the inputs
    positions: tuple[int, ...]  # of each record, that of its input; -1 where it has none
    superseded: frozenset[int]  # indices of records that new ones replace
    finished: tuple[Finished, ...]  # the records of inputs


def read(path: Path, labels: Sequence[str], provenance: Provenance, by: NameBy) -> Left:
    """Read a journal that `provenance` made; raises UsageError where it is none, or something else made it.

    A last line that was torn is left out; every other line must be a record, so that no other file is cut.
    """
    records: list[Finished] = []
    size = 0
    for line in journal.whole_lines(path, MAX_LINE):
        records.append(_record(line, f"line {len(records) + 1} of {path}", json_columns(labels), provenance, by))
        size += len(line)
    if not records:
        start = b'{"schema": '
        with path.open("rb") as file:
            found = file.read(len(start))
        if found.strip(b"\0") and not start.startswith(found) and found != start:
            raise UsageError(f"--resume goes on with records of edgecxr, and this file holds something else: {path}")
    return Left(tuple(records), size)


def _record(line: bytes, where: str, columns: list[str], provenance: Provenance, by: NameBy) -> Finished:
    if line.startswith(EARLIER):
        raise UsageError(f"an earlier version wrote this, give --overwrite to score all again: {where}")
    try:
        row: Any = json.loads(line)
        found = Provenance(**{name: row[name] for name in provenance.__dict__})
        error = row["error"] or {}
        record = Finished(
            str(row["path"]),
            row["sha256"],
            row["bytes"],
            row["mtime_ns"],
            row["status"],
            row["label"],
            error.get("code"),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UsageError(f"--resume goes on with records of edgecxr, and this is none: {where}") from None
    if found.bundle_sha256 != provenance.bundle_sha256:
        raise UsageError(
            f"the output was made with another bundle ({found.model}, sha256 {found.bundle_sha256[:12]}…); resume with "
            f"that one, or give --overwrite to score all again: {where}"
        )
    if (found.abstention, found.abstain_at) != (provenance.abstention, provenance.abstain_at):
        theirs, ours = map(_abstaining, (found, provenance))
        raise UsageError(
            f"in the output {theirs}, and in this run {ours}; ask for the same with --abstain-at or --no-abstain, or "
            f"give --overwrite to score all again: {where}"
        )
    if found != provenance:
        theirs, ours = (f"{p.engine} {p.provider} {p.precision} on {p.device}" for p in (found, provenance))
        raise UsageError(
            f"the output was made by {theirs}, and this run would use {ours}; ask for the same with --engine, "
            f"--precision and --device, or give --overwrite to score all again: {where}"
        )
    if list(row) != columns:
        raise UsageError(f"the record has other columns than this version writes: {where}")
    if _OTHER_NAMES[by].fullmatch(record.name):
        raise UsageError(f"the output was made with the other --id than {by}; give that one: {where}")
    return record


def _abstaining(made: Provenance) -> str:
    if made.abstain_at is None:
        return "nothing abstains, as asked" if made.abstention == "off" else "nothing abstains"
    whose = "as asked" if made.abstention == "asked" else "as the bundle has it"
    return f"pictures abstain from {made.abstain_at:g} on, {whose}"


def rest(inputs: Sequence[Path], records: Sequence[Finished], by: NameBy) -> Rest:
    """Which inputs have their record already, and which records are replaced; looks at the files."""
    return match(inputs, records, by, _hash if by == "hash" else _look)


def match(
    inputs: Sequence[Path],
    records: Sequence[Finished],
    by: NameBy,
    identify: Callable[[Path], Hashable],
) -> Rest:
    """As `rest`, where `identify` gives a file's (bytes, mtime_ns) or its sha256, and None where that can't be had."""
    named = {record.name for record in records}
    keys = [identify(path) if by == "hash" or str(path) in named else None for path in inputs]
    names = {f"sha256:{key}" for key in keys if key} if by == "hash" else {str(path) for path in inputs}
    waiting: dict[Hashable, deque[int]] = defaultdict(deque)
    for position, (path, key) in enumerate(zip(inputs, keys, strict=True)):
        if key is not None:
            waiting[key if by == "hash" else (str(path), key)].append(position)
    positions, superseded, found = [], set(), {}
    for index, record in enumerate(records):
        key = _key(record, by)
        position = waiting[key].popleft() if waiting.get(key) else -1
        positions.append(position)
        if position >= 0:
            found[position] = record
        elif key not in waiting and (record.name in names or (record.name.startswith("unread:") and by == "hash")):
            superseded.add(index)
    todo = tuple((position, path) for position, path in enumerate(inputs) if position not in found)
    return Rest(todo, tuple(positions), frozenset(superseded), tuple(found.values()))


def _key(record: Finished, by: NameBy) -> Hashable:
    if record.code in TRIED_AGAIN:
        return None
    if by == "hash":
        return record.sha256
    return None if record.mtime_ns is None else (record.name, (record.bytes, record.mtime_ns))


def _look(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def _hash(path: Path) -> str | None:
    import hashlib

    try:
        return hashlib.sha256(files.read(path)).hexdigest()
    except PictureRejected:
        return None
