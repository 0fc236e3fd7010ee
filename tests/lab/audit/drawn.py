"""Films made of numbers: one anatomy for all, and ribs and vessels of each one's own."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from edgecxr.lab.audit.films import COLUMNS, Films
from edgecxr.lab.dataset import Example

SIZE = (128, 112)  # width, height


def film(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """uint8 (H, W): what is finer than 8 px is the film's own."""
    width, height = size
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    lungs = sum(np.exp(-(((x - side) / 0.28) ** 2) - (y / 0.6) ** 2) for side in (-0.45, 0.45))
    picture = 150 - 70 * lungs
    for scale, depth in ((1.5, 9), (3, 12), (6, 10)):
        detail = gaussian_filter(rng.normal(size=(height, width)), scale)
        picture = picture + depth * detail / detail.std()
    return np.clip(picture, 1, 254).round().astype(np.uint8)


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def write_manifest(folder: Path, rows: Sequence[Mapping[str, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def example(file: str, label: str = "a", split: str | None = None, folder: Path = Path(), **columns: str) -> Example:
    group = columns.get("group") or columns.get("patient") or file
    return Example(folder / file, file, label, split, group, columns)


def examples_in(folder: Path) -> list[Example]:
    """Every file under the folder, its label that of its own folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [example(path.relative_to(folder).as_posix(), path.parent.name, folder=folder) for path in files]


def films_of(examples: Sequence[Example], rejected: Sequence[tuple[Example, str, str]] = ()) -> Films:
    """Films of which nothing is known but their examples; every content differs."""
    n = len(examples)
    digests = tuple(str(i).encode() for i in range(n))
    properties = {name: np.zeros((n, len(columns)), np.float32) for name, columns in COLUMNS.items()}
    thumbnails, hashes = np.zeros((n, 64, 64), np.uint8), np.zeros(n, np.uint64)
    return Films(tuple(examples), digests, digests, properties, thumbnails, hashes, tuple(rejected))
