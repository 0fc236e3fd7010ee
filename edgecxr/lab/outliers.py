"""Pictures that are no frontal chest films, by kind: a folder with a `manifest.csv`, or a folder per kind."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecxr.errors import DataError, PictureRejected
from edgecxr.lab import layout
from edgecxr.lab.dataset import MANIFEST, Example
from edgecxr.lab.manifest import read_rows, relative_file
from edgecxr.pictures import files

NEEDED = ("file", "kind")
# `fit` may be learnt from, `report` is only reported on, `control` are frontal films that must not be turned away.
USES = ("fit", "report", "control")


@dataclass(frozen=True)
class Outlier:
    """A picture that isn't a frontal chest film; of the use `control`, one that is."""

    path: Path
    file: str  # relative to the folder, with forward slashes
    kind: str
    near: bool = False  # one of the kinds that are hardest to tell from a chest film
    use: str = ""  # one of USES; "" where nobody said so
    source: str = ""  # where it is from, as the manifest has it
    licence: str = ""


def read_outliers(folder: Path) -> tuple[Outlier, ...]:
    """The pictures in the order of the manifest, or sorted by path.

    A manifest has the columns `file` and `kind`, and may have `near` (0 or 1), `use`, `source` and `licence`. Raises
    DataError where the folder holds none, or its manifest can't be used.
    """
    if not folder.is_dir():
        raise DataError(f"outliers are expected in a folder, there is none: {folder}")
    found = _listed(folder, folder / MANIFEST) if (folder / MANIFEST).is_file() else _in_folders(folder)
    if not any(outlier.use != "control" for outlier in found):
        raise DataError(f"outliers are expected in a {MANIFEST} or a folder per kind, there is none in {folder}")
    return tuple(found)


def _listed(folder: Path, manifest: Path) -> list[Outlier]:
    found: dict[str, Outlier] = {}
    for line, row in read_rows(manifest, NEEDED):
        where = f"{manifest} line {line}"
        file = relative_file(folder, row["file"]) if row["file"] and row["kind"].strip() else None
        if file is None:
            raise DataError(f"{where} must name a file in the folder and its kind, got {row['file']!r} {row['kind']!r}")
        if file in found:
            raise DataError(f"{where} names a file a second time: {file}")
        near, use = row.get("near") or "0", row.get("use") or ""
        if near not in ("0", "1") or use not in ("", *USES):
            raise DataError(
                f"{where} must have near 0 or 1, and as use {', '.join(USES)} or none, got {near!r} {use!r}"
            )
        source, licence = row.get("source", ""), row.get("licence", "")
        found[file] = Outlier(folder / file, file, row["kind"], near == "1", use, source, licence)
    return list(found.values())


def _in_folders(folder: Path) -> list[Outlier]:
    found = []
    for kind in sorted(entry for entry in folder.iterdir() if entry.is_dir() and not layout.is_hidden(entry.name)):
        pictures, _ = layout.pictures(folder, kind)
        found += [Outlier(path, path.relative_to(folder).as_posix(), kind.name) for path in pictures]
    return found


def check_apart(outliers: Sequence[Outlier], films: Sequence[Example]) -> None:
    """Raise DataError where an outlier is the very file that a labelled film is; those of `control` may be."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for film in films:
        by_size[_size(film.path)].append(film.path)
    both = []
    for outlier in outliers:
        alike = by_size.get(_size(outlier.path), ()) if outlier.use != "control" else ()
        if alike and (content := _content(outlier.path)) and content in map(_content, alike):
            both.append(outlier.file)
    if both:
        raise DataError(f"an outlier may not be one of the labelled films, {len(both)} are, the first is {both[0]}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1  # that it can't be read shows when it is scored


def _content(path: Path) -> str:
    try:
        return hashlib.sha256(files.read(path)).hexdigest()
    except PictureRejected:
        return ""
