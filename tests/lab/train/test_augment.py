"""Augmentation: pure, repeatable, and each change does what its name says."""

import numpy as np
import pytest

from common import noisy
from edgecxr.lab.train.augment import _resample, affine_matrix, augment, augment_batch
from edgecxr.lab.train.recipes import Augmentation, recipe

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
    return moved(IMAGE, **changes)


def moved(image: np.ndarray, share: float = 1.0, **changes: object) -> np.ndarray:
    values: dict[str, object] = {"rotate": 0.0, "shear": 0.0, "zoom": (1.0, 1.0), "shift": (0.0, 0.0), "flip": False}
    return _resample(image, affine_matrix(image.shape, **{**values, **changes}), share)  # type: ignore[arg-type]


def test_a_shift_by_whole_pixels_moves_them_and_repeats_the_edge() -> None:
    shifted = affine(shift=(3 / 96, -2 / 80))  # output column x shows input column x + 3, row y shows y - 2
    assert np.array_equal(shifted[2:, :-3], IMAGE[:-2, 3:])
    assert np.array_equal(shifted[2:, -1], IMAGE[:-2, -1])


def test_a_zoom_factor_below_one_enlarges_and_axes_are_apart() -> None:
    # Half the width about the centre: two output columns for each input column, so each value appears twice as often.
    ramp = np.tile(np.arange(96, dtype=np.uint8), (80, 1))
    wide = moved(ramp, zoom=(0.5, 1.0))
    assert np.abs(wide[40].astype(float) - (24 + np.arange(96) / 2)).max() <= 1
    assert np.array_equal(wide, np.tile(wide[0], (80, 1)))


def test_a_quarter_turn_is_a_quarter_turn() -> None:
    square = noisy((80, 80))
    turned = moved(square, rotate=np.pi / 2)
    assert any(np.abs(turned.astype(int) - np.rot90(square, k)).mean() < 1 for k in (1, 3))


def test_exposure_and_softness_stay_in_range_and_do_what_they_say() -> None:
    dark_and_bright = [augment(IMAGE, Augmentation(brightness=0.9), (0, 0, i)).mean() for i in range(30)]
    assert min(dark_and_bright) < IMAGE.mean() - 50
    assert max(dark_and_bright) > IMAGE.mean() + 50
    assert all(augment(IMAGE, Augmentation(soften=0.25), (0, 0, i)).std() <= IMAGE.std() for i in range(20))


def test_matrices_compose_as_rotation_shear_zoom_on_row_and_column() -> None:
    rotate, shear, zoom = 0.3, 0.2, (0.8, 1.1)
    rotation = np.array([[np.cos(rotate), -np.sin(rotate)], [np.sin(rotate), np.cos(rotate)]])
    shearing = np.array([[1, -np.sin(shear)], [0, np.cos(shear)]])
    expected = rotation @ shearing @ np.diag([zoom[1], zoom[0]])
    found = affine_matrix((80, 96), rotate=rotate, shear=shear, zoom=zoom, shift=(0.0, 0.0), flip=False)
    np.testing.assert_allclose(found[::-1, 1::-1], expected)
    np.testing.assert_allclose(found @ [47.5, 39.5, 1], [47.5, 39.5])  # the centre stays


def test_softening_keeps_the_picture_in_its_place() -> None:
    ramp = np.tile(np.arange(96, dtype=np.uint8) * 2, (80, 1))
    soft = moved(ramp, share=0.5)
    assert np.abs(soft.astype(int) - ramp)[:, 2:-2].max() <= 1


def test_a_batch_is_its_pictures() -> None:
    images = np.stack([noisy((96, 80), i) for i in range(3)])
    changes = recipe("default").augmentation
    together = augment_batch(images, changes, 5, [1, 1, 1], [7, 8, 9])
    for place, index in enumerate((7, 8, 9)):
        assert np.array_equal(together[place], augment(images[place], changes, (5, 1, index)))
