"""Augmentation: pure, repeatable, and each change does what its name says."""

import numpy as np
import pytest

from conftest import noisy
from edgecxr.train.augment import _affine, augment
from edgecxr.train.recipes import Augmentation, recipe

IMAGE = noisy((96, 80))


@pytest.mark.parametrize("name", ["seed", "default"])
def test_the_same_key_gives_the_same_bytes_and_another_key_others(name: str) -> None:
    augmentation = recipe(name).augmentation
    before = IMAGE.copy()
    first = augment(IMAGE, augmentation, (1, 2, 3))
    assert np.array_equal(first, augment(IMAGE, augmentation, (1, 2, 3)))
    assert np.array_equal(IMAGE, before)
    for key in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not np.array_equal(first, augment(IMAGE, augmentation, key))
    assert first.shape == IMAGE.shape
    assert first.dtype == np.uint8


def test_nothing_switched_on_changes_nothing() -> None:
    assert np.array_equal(augment(IMAGE, Augmentation(), (0, 0, 0)), IMAGE)


def test_flip_is_half_of_the_time_and_exact() -> None:
    flipped = [
        bool(np.array_equal(augment(IMAGE, Augmentation(flip=True), (0, 0, i)), IMAGE[:, ::-1])) for i in range(200)
    ]
    same = [bool(np.array_equal(augment(IMAGE, Augmentation(flip=True), (0, 0, i)), IMAGE)) for i in range(200)]
    assert sum(flipped) + sum(same) == 200
    assert 70 < sum(flipped) < 130


def affine(**changes: object) -> np.ndarray:
    values: dict[str, object] = {"rotate": 0.0, "shear": 0.0, "zoom": (1.0, 1.0), "shift": (0.0, 0.0), "flip": False}
    return _affine(IMAGE, **{**values, **changes})  # type: ignore[arg-type]


def test_a_shift_by_whole_pixels_moves_them_and_repeats_the_edge() -> None:
    moved = affine(shift=(3 / 96, -2 / 80))  # output column x shows input column x + 3, row y shows y - 2
    assert np.array_equal(moved[2:, :-3], IMAGE[:-2, 3:])
    assert np.array_equal(moved[2:, -1], IMAGE[:-2, -1])


def test_a_zoom_factor_below_one_enlarges_and_axes_are_apart() -> None:
    # Half the width about the centre: two output columns for each input column, so each value appears twice as often.
    ramp = np.tile(np.arange(96, dtype=np.uint8), (80, 1))
    wide = _affine(ramp, rotate=0.0, shear=0.0, zoom=(0.5, 1.0), shift=(0.0, 0.0), flip=False)
    assert np.abs(wide[40].astype(float) - (24 + np.arange(96) / 2)).max() <= 1
    assert np.array_equal(wide, np.tile(wide[0], (80, 1)))


def test_a_quarter_turn_is_a_quarter_turn() -> None:
    square = noisy((80, 80))
    turned = _affine(square, rotate=np.pi / 2, shear=0.0, zoom=(1.0, 1.0), shift=(0.0, 0.0), flip=False)
    assert any(np.abs(turned.astype(int) - np.rot90(square, k)).mean() < 1 for k in (1, 3))


def test_exposure_and_softness_stay_in_range_and_do_what_they_say() -> None:
    dark_and_bright = [augment(IMAGE, Augmentation(brightness=0.9), (0, 0, i)).mean() for i in range(30)]
    assert min(dark_and_bright) < IMAGE.mean() - 50
    assert max(dark_and_bright) > IMAGE.mean() + 50
    assert all(augment(IMAGE, Augmentation(soften=0.25), (0, 0, i)).std() <= IMAGE.std() for i in range(20))
