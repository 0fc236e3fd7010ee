"""What a run scores, listed once: a line an input in a file, which a resumed run reads again, cut into parts."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from edgecxr.cluster.store import Listed, Store, is_address
from edgecxr.errors import StorageError, UsageError
from edgecxr.pictures import files
from edgecxr.system import storage

NAME = "_inputs.jsonl.gz"  # readers of Parquet pass over names with an underscore

# Pictures of a part. A killed worker scores its parts once more, so that they are small; each costs Ray's driver 50 kB
# of memory for as long as the run lasts, so that there aren't many; and at the end workers wait for the last ones.
MAX_PICTURES, MIN_PICTURES = 256, 16
MAX_PARTS = 1024
PARTS_A_WORKER = 16


def find(paths: Iterable[str], *, recursive: bool = True) -> Iterator[Listed | None]:
    """Every file of local paths and of addresses, in order; None for each that is passed over.

    Raises UsageError as `files.find` and `Store` do.
    """
    for path in paths:
        if is_address(path):
            yield from Store(path).list(recursive=recursive)
        else:
            for file in files.each(Path(path), recursive=recursive):
                yield None if file is None else Listed(str(file))


def write(folder: Path, found: Iterable[Listed | None], limit: int | None = None) -> tuple[int, int, str]:
    """Keep the first `limit` of what was found: (files, passed over, SHA-256 of the listing's lines).

    The file is there once it is whole. Raises UsageError where nothing was found, StorageError where it can't be kept.
    """
    count = skipped = 0
    digest = hashlib.sha256()
    try:
        with (
            storage.replacing_bytes(folder / NAME, folder / f".{NAME}.tmp") as raw,
            gzip.GzipFile("", "wb", 5, raw, mtime=0) as file,
        ):
            for listed in found:
                if listed is None:
                    skipped += 1
                    continue
                line = json.dumps(listed).encode("ascii") + b"\n"
                file.write(line)
                digest.update(line)
                count += 1
                if count == limit:
                    break
            if not count:
                raise UsageError(f"no files to score, {skipped} passed over")
    except OSError as error:
        raise StorageError(f"the listing can't be kept ({error.strerror}): {folder}") from None
    return count, skipped, digest.hexdigest()


def part_size(inputs: int, workers: int) -> int:
    """How many pictures a part has."""
    even = -(-inputs // (PARTS_A_WORKER * workers))
    return max(min(max(even, MIN_PICTURES), MAX_PICTURES), min(even, -(-inputs // MAX_PARTS)))


def count_parts(inputs: int, size: int) -> int:
    return -(-inputs // size)


def parts(folder: Path, size: int, todo: Collection[int], sha256: str) -> Iterator[tuple[int, bytes]]:
    """(number, lines of its inputs) of each part that is to do, in order; the part k has the inputs k * size and on.

    Raises UsageError at the end where the listing isn't the one of that hash.
    """
    digest = hashlib.sha256()
    try:
        with gzip.open(folder / NAME) as file:
            for number in itertools.count():
                lines = b"".join(itertools.islice(file, size))
                if not lines:
                    break
                digest.update(lines)
                if number in todo:
                    yield number, lines
    except (OSError, EOFError) as error:
        raise UsageError(f"the listing can't be read ({type(error).__name__}): {folder / NAME}") from None
    if digest.hexdigest() != sha256:
        raise UsageError(f"the listing was changed since the run began; begin again with --overwrite: {folder / NAME}")


def inputs_of(lines: bytes) -> list[Listed]:
    """The inputs of a part's lines."""
    return [Listed(*json.loads(line)) for line in lines.splitlines()]
