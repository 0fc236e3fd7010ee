"""Altered films: what each way does, by hand, and the same bytes for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from edgecxr.lab.evaluation.altered import WAYS, alter

FILM = np.add.outer(np.arange(48), 3 * np.arange(40)).astype(np.uint8)  # (48, 40); brighter down and to the right


@pytest.mark.parametrize("way", list(WAYS))
def test_a_way_gives_another_film_and_the_same_one_again(way: str) -> None:
    made = [alter(FILM, way, seed) for seed in (1, 1, 2)]
    assert {(each.shape, each.dtype.name) for each in made} == {((48, 40), "uint8")}
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], FILM)
    if way != "inverted":
        assert not np.array_equal(made[0], made[2])


def test_inverted_by_hand() -> None:
    assert np.array_equal(alter(FILM, "inverted", 0).astype(int), 255 - FILM.astype(int))


def test_rotations_are_by_quarter_turns() -> None:
    square = FILM[:40]
    turned = {bytes(np.rot90(square, k)) for k in (1, 2, 3)}
    assert {bytes(alter(square, "rotated", seed)) for seed in range(20)} == turned


def test_posterised_films_have_few_greys() -> None:
    greys = [len(np.unique(alter(FILM, "posterised", seed))) for seed in range(20)]
    assert 2 <= min(greys) <= max(greys) <= 5


def test_a_crop_shows_a_part() -> None:
    for seed in range(10):
        made = alter(FILM, "cropped", seed)
        # Of 160 grey levels across the film at most six tenths of either side are left.
        assert np.ptp(made.astype(int)) <= 0.6 * np.ptp(FILM.astype(int)) + 4


def test_a_collimated_film_is_dark_and_black_outside_of_its_field() -> None:
    for seed in range(10):
        made = alter(np.full((48, 40), 200, dtype=np.uint8), "collimated", seed)
        field = made > 0
        assert 0.1 < field.mean() < 0.7  # 0.4 to 0.8 of either side
        assert made.max() <= 0.6 * 200


def test_a_photograph_is_askew_before_a_wall() -> None:
    """The film's corners are the wall's, and its middle is still there."""
    film = np.zeros((48, 40), dtype=np.uint8)
    film[12:36, 10:30] = 255
    for seed in range(10):
        made = alter(film, "photographed", seed).astype(int)
        assert made[20:28, 16:24].mean() > 100
