"""The COVID-19 Radiography Database as it unpacks, of any release, into a folder per class.

Its releases differ in where the pictures lie (Chowdhury et al. 2020, Rahman et al. 2021):

    COVID-19 Radiography Database/{COVID-19,NORMAL,Viral Pneumonia}/*.png                       the first
    COVID-19_Radiography_Dataset/{COVID,Normal,Viral Pneumonia,Lung_Opacity}/{images,masks}/*.png    the fourth

and those between lay the pictures of COVID, NORMAL and Viral Pneumonia flat, too. Beside the class folders stand
spreadsheets and a read-me. No picture is opened here: `edgecxr audit` says which can't be read.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgecxr.errors import DataError, UsageError
from edgecxr.lab.layout import PICTURE_SUFFIXES
from edgecxr.system import storage

EXTRA = "lung_opacity"  # the fourth release's class that the three-class models don't know
# Names of the class folders, as `_plain` reduces them.
LABELS = {
    "covid": "covid",
    "covid19": "covid",
    "normal": "normal",
    "viralpneumonia": "viral_pneumonia",
    "lungopacity": EXTRA,
}
REQUIRED = frozenset(LABELS.values()) - {EXTRA}
EXPECTED = "the folders COVID or COVID-19, Normal and Viral Pneumonia"
MAX_DEPTH = 2  # folders between the one that is named and the class folders: some unpackers add one of their own


@dataclass(frozen=True)
class Imported:
    """What an import brought, and what it left where it was."""

    folder: Path
    counts: Mapping[str, int]  # pictures by label
    dropped: int  # pictures of Lung_Opacity
    masks: int
    sheets: int  # and read-mes: everything else that is no picture
    links: int  # symbolic links and special files, never followed
    hard_links: int  # of the pictures; the others are copies


@dataclass
class _Tree:
    """The content of an unpacked release."""

    root: Path
    pictures: dict[str, list[Path]]  # by label
    masks: int = 0
    sheets: int = 0
    links: int = 0


@dataclass
class _Listing:
    """A folder's visible entries, sorted by name."""

    folders: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    links: int = 0


def check_target(target: Path) -> Path:
    """The folder to import into, absolute; raises UsageError where it isn't absent or empty, or can't be replaced."""
    target = target.resolve()
    try:
        if target.exists():
            if not target.is_dir() or any(target.iterdir()):
                raise UsageError(f"the output must be a folder that is absent or empty: {target}")
            # The finished folder takes the empty one's place, which these can't give up.
            if target.is_mount() or target == Path.cwd():
                raise UsageError(
                    f"the output can't be the current folder or a mount point, name a folder in it: {target}"
                )
    except OSError as error:
        raise UsageError(f"the output can't be looked at ({error.strerror}): {target}") from None
    return target


def import_radiography(
    source: Path,
    target: Path,
    *,
    lung_opacity: bool = False,
    copy: bool = False,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Imported:
    """Put the pictures of the release unpacked under `source` into `target`/<label>/, under their own names.

    `target` must be absent or empty. It appears whole or not at all: it is written beside its place and renamed.
    Pictures are hard links where the file system allows and `copy` doesn't forbid, else copies. `advance` is called
    with (pictures in place, all pictures), and may raise to stop the import.

    Raises DataError where `source` isn't laid out like a release, UsageError where a folder can't be read or written.
    """
    target = check_target(target)
    tree = _read_tree(source)
    if tree.root.resolve() in target.parents:
        raise UsageError(f"the output can't lie within the folder that is imported: {target}")
    dropped = [] if lung_opacity else tree.pictures.pop(EXTRA, [])
    hard_links = _write(tree.pictures, target, copy, advance)
    counts = {label: len(paths) for label, paths in sorted(tree.pictures.items())}
    return Imported(target, counts, len(dropped), tree.masks, tree.sheets, tree.links, hard_links)


def _plain(name: str) -> str:
    """A folder's name without case and separators: the releases spell one class in several ways."""
    return "".join(c for c in name.casefold() if c.isalnum())


def _list(folder: Path) -> _Listing:
    listing = _Listing()
    try:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            # Hidden entries and __MACOSX are left by unpackers and downloaders; ._A.png is no picture.
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            if entry.is_dir(follow_symlinks=False):
                listing.folders.append(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                listing.files.append(Path(entry.path))
            else:
                listing.links += 1
    except OSError as error:
        raise UsageError(f"the folder can't be read ({error.strerror}): {folder}") from None
    return listing


def _read_tree(source: Path) -> _Tree:
    root, listing = _find_root(source)
    tree = _Tree(root, {}, sheets=len(listing.files), links=listing.links)
    for folder in listing.folders:
        label = LABELS.get(_plain(folder.name))
        if label is None:
            # A class that is silently left out would be worse than one more thing to move away.
            raise DataError(f"not a layout of the Radiography Database, it knows no folder of this name: {folder}")
        if label in tree.pictures:
            raise DataError(f"two folders hold the class {label}, the second is {folder}")
        tree.pictures[label] = _read_class(folder, tree)
    return tree


def _find_root(source: Path) -> tuple[Path, _Listing]:
    """The folder that holds the class folders: `source`, or the only such one a little below."""
    level = [(source, _list(source))]
    found = level[0][1]
    roots: list[tuple[Path, _Listing]] = []
    for depth in range(MAX_DEPTH + 1):
        here = [(folder, listing) for folder, listing in level if _labels(listing.folders) >= REQUIRED]
        roots += here
        if depth < MAX_DEPTH:
            # Beside a root, at any depth, there may be another release; within it there are its pictures.
            within = {folder for folder, _ in here}
            beside = [(folder, listing) for folder, listing in level if folder not in within]
            level = [(folder, _list(folder)) for _, listing in beside for folder in listing.folders]
    if len(roots) > 1:
        names = " and ".join(str(folder) for folder, _ in roots[:2])
        raise DataError(f"more than one folder holds the Radiography Database's classes, name one: {names}")
    if roots:
        return roots[0]
    raise DataError(
        f"not a layout of the Radiography Database: expected {EXPECTED}, found {_describe(found)} in {source}"
    )


def _labels(folders: Iterable[Path]) -> set[str]:
    return {LABELS[_plain(folder.name)] for folder in folders if _plain(folder.name) in LABELS}


def _describe(listing: _Listing) -> str:
    names = ", ".join(folder.name for folder in listing.folders[:5])
    if len(listing.folders) > 5:
        names += f" and {len(listing.folders) - 5} more"
    return f"{'the folders ' + names if names else 'no folder'} and {len(listing.files)} files"


def _read_class(folder: Path, tree: _Tree) -> list[Path]:
    """The pictures of one class; what isn't one is counted in `tree`."""
    pictures: list[Path] = []
    listing = _list(folder)
    levels = {folder: listing}
    for inner in listing.folders:
        if inner.name.casefold() == "images":
            levels[inner] = _list(inner)
            unknown = levels[inner].folders
        elif inner.name.casefold() == "masks":
            masks = _list(inner)
            tree.masks += len(masks.files)
            tree.links += masks.links
            unknown = masks.folders
        else:
            unknown = [inner]
        if unknown:
            raise DataError(f"not a layout of the Radiography Database, a class holds images and masks: {unknown[0]}")
    for place, found in levels.items():
        here = [path for path in found.files if path.suffix.lower() in PICTURE_SUFFIXES]
        if here and pictures:
            raise DataError(f"pictures lie both beside and within the folder images: {place.parent}")
        pictures += here
        tree.sheets += len(found.files) - len(here)
        tree.links += found.links
    if not pictures:
        raise DataError(f"a class of the Radiography Database holds no picture: {folder}")
    return pictures


def _write(pictures: Mapping[str, list[Path]], target: Path, copy: bool, advance: Callable[[int, int], None]) -> int:
    """Put the pictures in place, all of them or none; returns how many are hard links."""
    total = sum(map(len, pictures.values()))
    done = hard_links = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with storage.replacing_folder(target, overwrite=False) as partial:
            for label, paths in pictures.items():
                folder = partial / label
                folder.mkdir(parents=True)
                for path in paths:
                    hard_links += _place(path, folder / path.name, copy)
                    done += 1
                    advance(done, total)
    except OSError as error:
        raise UsageError(
            f"the import stopped after {done} of {total} pictures, nothing is left of it ({error.strerror}): {target}"
        ) from None
    return hard_links


def _place(path: Path, destination: Path, copy: bool) -> bool:
    """Link or copy one picture; whether it is a hard link."""
    if not copy:
        try:
            os.link(path, destination)
            return True
        except OSError:
            pass  # another file system, or one without hard links; where the disk is full, the copy says so
    shutil.copyfile(path, destination)
    return False
