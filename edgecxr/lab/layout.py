"""What of a folder of pictures is one, and why the rest isn't: every file is used or accounted for."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from edgecxr.errors import DataError
from edgecxr.pictures.dicom.elements import is_dicom
from edgecxr.pictures.files import SKIPPED_NAMES

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".dib"})
DICOM_HEAD = 1 << 20  # bytes; patient and study stand before the pixels, private elements may stand before them
_MASKS = ("mask", "masks", "segmentation", "segmentations")  # what the name of a folder of masks ends in
_IMAGES = frozenset({"image", "images", "img", "imgs"})

LeftOut = tuple[str, str]  # (file, relative to the data folder with forward slashes; reason)
MASK, HIDDEN, BESIDE = "masks", "hidden, or companions of pictures", "beside the class folders"
LINK, UNLISTED = "links to folders", "pictures that manifest.csv doesn't list"


def pictures(folder: Path, within: Path) -> tuple[list[Path], list[LeftOut]]:
    """The pictures anywhere in `within`, sorted, and the other files with the reason; names are relative to `folder`.

    A link that leads nowhere is a picture that isn't there: an error, and not one picture less. Raises DataError where
    a folder can't be listed, and where images and masks lie side by side as in an unpacked database.
    """
    found: list[Path] = []
    left_out: list[LeftOut] = []
    for path, place in _walk(within, MASK if is_mask_folder(within.name) else ""):
        reason = place or _no_picture(path)
        if reason:
            left_out.append((path.relative_to(folder).as_posix(), reason))
        else:
            found.append(path)
    return sorted(found), sorted(left_out)


def dicom_head(path: Path) -> bytes:
    """The first bytes of a DICOM file; empty for anything else, and for what can't be read, which shows later."""
    try:
        if not path.is_file():  # a FIFO would be waited for
            return b""
        with path.open("rb") as file:
            head = file.read(1024)
            return head + file.read(DICOM_HEAD) if is_dicom(head) else b""
    except OSError:
        return b""


def _no_picture(path: Path) -> str:
    """Why a file isn't one, by its name, or for DICOM by its content; empty for a picture."""
    if path.suffix.lower() not in PICTURE_SUFFIXES and not dicom_head(path):
        return path.suffix.lower() or "without a suffix"
    return MASK if _is_mask_of_another(path) else ""


def _walk(top: Path, reason: str) -> Iterator[tuple[Path, str]]:
    """Each file under `top`, and each folder that isn't entered, with why it isn't used, as far as the place says."""
    waiting = [(top, reason)]
    while waiting:
        folder, reason = waiting.pop()
        try:
            with os.scandir(folder) as listed:
                entries = list(listed)
        except OSError as error:
            raise DataError(f"the folder can't be listed ({error.strerror}): {folder}") from None
        check_no_database(folder, (entry.name for entry in entries if entry.is_dir()))
        for entry in entries:
            path = folder / entry.name
            if is_hidden(entry.name):
                yield path, HIDDEN
            elif entry.is_dir(follow_symlinks=False):
                waiting.append((path, MASK if is_mask_folder(entry.name) else reason))
            else:
                yield path, LINK if entry.is_dir() else reason


def unlisted(folder: Path, listed: Collection[str]) -> list[LeftOut]:
    """The pictures in `folder` that are none of `listed`, names as in a manifest; hidden ones and masks aside."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not is_hidden(name) and not is_mask_folder(name)]
        above = "" if place == str(folder) else f"{Path(place).relative_to(folder).as_posix()}/"
        names = (name for name in files if Path(name).suffix.lower() in PICTURE_SUFFIXES and not is_hidden(name))
        found += [(above + name, UNLISTED) for name in names if above + name not in listed]
    return sorted(found)


def check_no_database(folder: Path, names: Iterable[str]) -> None:
    """Raise DataError where the folders `names` in `folder` are images and their masks."""
    plain = sorted(name for name in names if not is_hidden(name))
    images = [name for name in plain if name.casefold() in _IMAGES]
    masks = [name for name in plain if is_mask_folder(name)]
    if images and masks:
        raise DataError(
            f"masks are no films, and {masks[0]} lies beside {images[0]} as in an unpacked database; lay the "
            f"Radiography Database out with edgecxr data import, or move the masks away: {folder}"
        )


def is_mask_folder(name: str) -> bool:
    return "".join(c for c in name.casefold() if c.isalnum()).endswith(_MASKS)


def _is_mask_of_another(path: Path) -> bool:
    """Whether the file is called like another one beside it, and mask: x_mask.png beside x.png."""
    for end in ("_mask", "-mask", " mask"):
        if path.stem.casefold().endswith(end):
            stem = path.stem[: -len(end)]
            return any((path.parent / f"{stem}{suffix}").exists() for suffix in {path.suffix, *PICTURE_SUFFIXES})
    return False


def is_hidden(name: str) -> bool:
    """What other programs leave beside pictures: copies (.ipynb_checkpoints), resource forks (__MACOSX, ._1.png)."""
    return name.startswith(".") or name in (*SKIPPED_NAMES, "__MACOSX")


def check_labels(labels: Sequence[str], where: object) -> None:
    """Raise DataError where two labels differ only by case, by space or by the form of their Unicode characters."""
    by_key: dict[str, list[str]] = {}
    for label in labels:
        by_key.setdefault(_key(label), []).append(label)
    alike = [sorted(found) for found in by_key.values() if len(found) > 1]
    if alike:
        names = "; ".join(" and ".join(map(repr, found)) for found in alike[:5])
        raise DataError(
            f"labels differ only by case, space or Unicode form, write each class one way: {names} in {where}"
        )


def _key(label: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold())
    # Cf: marks of direction, zero-width spaces, a byte order mark.
    return "".join(c for c in folded if not c.isspace() and unicodedata.category(c) != "Cf")


def account(left_out: Sequence[LeftOut]) -> str:
    """One line that counts what was left out, by reason, and names the first file; empty where nothing was."""
    if not left_out:
        return ""
    counts = sorted(Counter(reason for _, reason in left_out).items(), key=lambda item: (-item[1], item[0]))
    reasons = [f"{count} {reason}" for reason, count in counts[:8]]
    if len(counts) > 8:
        reasons.append(f"{sum(count for _, count in counts[8:])} others")
    return f"left out: {', '.join(reasons)}; the first is {left_out[0][0]}"
