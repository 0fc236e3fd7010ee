"""Drawn chest films: repeatable, in range, and the same as those in samples/."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecxr.pictures.decode import decode, prepare
from edgecxr.pictures.preprocess import Contract
from edgecxr_export.phantoms import SAMPLES, draw, write_samples


def test_the_same_seed_gives_the_same_picture_and_another_another() -> None:
    assert np.array_equal(draw((200, 180), 5), draw((200, 180), 5))
    assert not np.array_equal(draw((200, 180), 5), draw((200, 180), 6))


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_depth_and_size_are_as_asked(bits: int) -> None:
    picture = draw((150, 130), 1, bits)
    assert picture.shape == (150, 130)
    assert picture.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert (1 << (bits - 1)) < int(picture.max()) < 1 << bits  # so that the depth can be observed
    assert picture.std() > 0.1 * picture.max()


def test_it_is_built_like_a_chest() -> None:
    """Lungs dark, the middle and the belly bright, the corners above the shoulders black."""
    film = draw((400, 400), 3).astype(float)
    lungs = (film[150:200, 90:140].mean() + film[150:200, 270:320].mean()) / 2
    assert film[150:200, 190:210].mean() > 1.5 * lungs
    assert film[340:380, 120:280].mean() > 1.5 * lungs
    assert film[12:30, 12:40].mean() < 0.6 * lungs


def test_a_film_larger_than_it_is_drawn() -> None:
    assert draw((1320, 1136), 2).shape == (1320, 1136)


def test_the_samples_in_the_repository_are_these(tmp_path: Path, samples: Path) -> None:
    written = write_samples(tmp_path)
    assert sum(path.stat().st_size for path in written) < 1_000_000
    contract = Contract()
    for path in written:
        with Image.open(path) as new, Image.open(samples / path.name) as old:
            assert old.size == new.size
            # A JPEG coder of another version rounds otherwise; a PNG doesn't.
            difference = np.abs(np.asarray(new).astype(int) - np.asarray(old).astype(int))
            assert difference.max() <= (4 if path.suffix == ".jpg" else 0)
        assert prepare(decode(path.read_bytes(), contract), contract).shape == (299, 299)
    depths = {name: decode((samples / name).read_bytes(), contract).bits for name, *_ in SAMPLES}
    assert depths["phantom-5-12-bit.png"] == 12
