"""The contact sheet: a row of pictures for each class, drawn at random, so that a person sees what the data is."""

from __future__ import annotations

import io
import os
import random
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.errors import DataError, PictureRejected, UnavailableError
from edgecxr.lab.dataset import Dataset
from edgecxr.pictures import decode as images
from edgecxr.pictures import files
from edgecxr.pictures.preprocess import Contract, preprocess, to_uint8
from edgecxr.views.terminal import shortened

MAX_CLASSES = 30  # beyond that the sheet is too tall to look at
DPI = 160
# Inches. Every place is computed and none is left to a layout engine: nothing can overlap.
CELL, GAP, MARGIN = 1.8, 0.1, 0.2
TITLE, HEADING, CAPTION = 0.24, 0.36, 0.2
MIN_WIDTH = 5.0  # room for the title where there is one column
TITLE_SIZE, HEADING_SIZE, CAPTION_SIZE = 9.0, 9.5, 6.0  # points
ADVANCE = 0.61  # of the size: the width of a character of the monospaced font, which all text is set in


@dataclass(frozen=True)
class Shown:
    """A picture on the sheet."""

    file: str  # relative to the data folder
    pixels: npt.NDArray[np.uint8]  # (H, W)


@dataclass(frozen=True)
class Sheet:
    """The pictures that were drawn, by label, how many there are of each, and those that can't be read."""

    rows: dict[str, tuple[Shown, ...]]
    counts: dict[str, int]
    unreadable: tuple[tuple[str, str], ...]  # (file, reason); others were drawn in their place


def draw(dataset: Dataset, per_class: int, seed: int, contract: Contract | None = None) -> Sheet:
    """Draw `per_class` pictures of each class at random, or all of a class that has fewer.

    `contract` shows them as its network sees them; without it they keep their shape. A class's pictures don't depend
    on the other classes. Raises DataError where no picture can be read, or there are more than MAX_CLASSES classes.
    """
    if len(dataset.labels) > MAX_CLASSES:
        raise DataError(f"a contact sheet has room for {MAX_CLASSES} classes, the data has {len(dataset.labels)}")
    rows: dict[str, tuple[Shown, ...]] = {}
    counts = {}
    unreadable = []
    for label in dataset.labels:
        examples = [example for example in dataset.examples if example.label == label]
        counts[label] = len(examples)
        random.Random(os.fsencode(f"{seed}:{label}")).shuffle(examples)  # a folder's name may be no UTF-8
        shown: list[Shown] = []
        for example in examples:
            if len(shown) == per_class:
                break
            try:
                shown.append(Shown(example.file, _pixels(example.path, contract)))
            except PictureRejected as rejected:
                unreadable.append((example.file, rejected.message))
        rows[label] = tuple(shown)
    if not any(rows.values()):
        raise DataError(f"no picture can be read, of {len(unreadable)} in {dataset.folder}")
    return Sheet(rows, counts, tuple(unreadable))


def _pixels(path: Path, contract: Contract | None) -> npt.NDArray[np.uint8]:
    """A picture as the network sees it, or in its own shape and no larger than its place: uint8 (H, W)."""
    if contract is not None:
        return images.network_input(path, contract)
    side = round(CELL * DPI)
    contract = Contract(height=side, width=side)
    picture = images.decode(files.read(path), contract)
    scale = min(1.0, side / max(picture.width, picture.height))
    # A strip, 64 px by a hundred thousand, still has a pixel to show.
    height, width = (max(1, round(length * scale)) for length in (picture.height, picture.width))
    return preprocess(to_uint8(picture.pixels, picture.bits), replace(contract, height=height, width=width))


def matplotlib_figure() -> Any:
    """matplotlib's Figure; raises UnavailableError where it isn't installed, which is best known before the work."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UnavailableError(
            f"a contact sheet needs the extra 'eval'; run: pip install 'edgecxr[eval]' ({error})"
        ) from None
    return Figure


def render(sheet: Sheet, title: str) -> bytes:
    """The sheet as a PNG file's content: rows in the order of the labels, each picture with its file's name."""
    columns = max(map(len, sheet.rows.values()))
    width = max(MIN_WIDTH, 2 * MARGIN + columns * (CELL + GAP) - GAP)
    height = 2 * MARGIN + TITLE + len(sheet.rows) * (HEADING + CELL + CAPTION)
    figure = matplotlib_figure()(figsize=(width, height), facecolor="white")

    def write(text: str, left: float, top: float, room: float, size: float, **style: Any) -> None:
        """Text in inches from the left and the top, cut to `room` inches."""
        fitting = shortened(text, int(room * 72 / (ADVANCE * size)))
        figure.text(
            left / width, 1 - top / height, fitting, size=size, family="monospace", va="top", parse_math=False, **style
        )

    write(title, MARGIN, MARGIN, width - 2 * MARGIN, TITLE_SIZE, color="0.35")
    top = MARGIN + TITLE
    for label, shown in sheet.rows.items():
        total = sheet.counts[label]
        count = f" · {total:,} {'picture' if total == 1 else 'pictures'}{'' if shown else ', none can be read'}"
        room = width - 2 * MARGIN - len(count) * ADVANCE * HEADING_SIZE / 72
        name = shortened(label, int(room * 72 / (ADVANCE * HEADING_SIZE)))
        write(name + count, MARGIN, top + 0.1, width - 2 * MARGIN, HEADING_SIZE, weight="bold")
        for column, picture in enumerate(shown):
            left = MARGIN + column * (CELL + GAP)
            box = (left / width, 1 - (top + HEADING + CELL) / height, CELL / width, CELL / height)
            _place(figure.add_axes(box), picture.pixels)
            write(Path(picture.file).name, left, top + HEADING + CELL + 0.04, CELL, CAPTION_SIZE, color="0.35")
        top += HEADING + CELL + CAPTION
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a name in a script that the font lacks shows as boxes
        figure.savefig(content, format="png", dpi=DPI)
    return content.getvalue()


def _place(axes: Any, pixels: npt.NDArray[np.uint8]) -> None:
    """A picture in the middle of its square, in its own shape; on grey, since films have black borders of their own."""
    height, width = pixels.shape
    half = max(height, width) / 2
    axes.imshow(
        pixels, cmap="gray", vmin=0, vmax=255, extent=(-width / 2, width / 2, -height / 2, height / 2), aspect="auto"
    )
    axes.set(xlim=(-half, half), ylim=(-half, half), xticks=[], yticks=[], facecolor="0.88")
    axes.spines[:].set_visible(False)
