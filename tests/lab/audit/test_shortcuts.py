"""Questions, answers and their intervals, against hand calculations and independent ones."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import film

from edgecxr.lab.audit.shortcuts import (
    MARGIN,
    Answer,
    Question,
    answer,
    ask,
    one_hot,
    picture_inputs,
    property_inputs,
    score,
)


def question(targets: list[str], units: np.ndarray | None = None) -> Question:
    rows = np.arange(len(targets))
    asked = ask(targets, rows if units is None else units, rows, 0)
    assert asked is not None
    return asked


def test_no_fold_divides_a_unit_and_every_film_is_asked_once() -> None:
    targets = ["a", "b", "c"] * 40
    units = np.arange(120) // 4
    asked = question(targets, units)
    assert sorted(np.concatenate([f.test for f in asked.folds]).tolist()) == list(range(120))
    for fold in asked.folds:
        assert not set(units[fold.train]) & set(units[fold.test])
        assert len(fold.train) + len(fold.test) == 120


def test_a_class_of_few_groups_is_left_out() -> None:
    targets = ["a"] * 12 + ["b"] * 40 + ["c"] * 15
    units = np.array([*range(12), *(12 + i // 20 for i in range(40)), *range(50, 65)])  # b: two groups
    asked = question(targets, units)
    assert (asked.classes, asked.left_out) == (("a", "c"), ("b",))
    assert asked.rows.tolist() == [*range(12), *range(52, 67)]
    assert asked.chance == 0.5
    assert ask(["a"] * 12 + ["b"] * 40, units[:52], np.arange(52), 0) is None


def test_balanced_accuracy_and_recalls_by_hand() -> None:
    asked = question(["a"] * 20 + ["b"] * 10 + ["c"] * 10)
    told = np.array([0] * 15 + [1] * 5 + [1] * 10 + [0] * 6 + [2] * 4)
    found = score(asked, told, 0)
    assert found.recalls == (0.75, 1.0, 0.4)
    assert found.balanced_accuracy == pytest.approx((0.75 + 1 + 0.4) / 3)


def test_the_interval_is_that_of_the_normal_approximation_and_widens_with_copies() -> None:
    right = np.tile([True] * 4 + [False], 80)  # 80 % of 400 of each class
    targets = ["a"] * 400 + ["b"] * 400
    told = np.concatenate([np.where(right, 0, 1), np.where(right, 1, 0)])
    half = 1.96 * (0.8 * 0.2 / 800) ** 0.5
    single = score(question(targets), told, 0).interval
    assert single == pytest.approx((0.8 - half, 0.8 + half), abs=0.15 * half)
    # Each film four times: as many rows, and four times as much variance.
    fourfold = score(question([t for t in targets for _ in range(4)], np.arange(3200) // 4), np.repeat(told, 4), 0)
    assert fourfold.interval == pytest.approx(single, abs=0.15 * half)
    alone = score(question([t for t in targets for _ in range(4)]), np.repeat(told, 4), 0)
    assert alone.interval == pytest.approx((0.8 - half / 2, 0.8 + half / 2), abs=0.15 * half)


def test_what_is_there_is_told_and_what_is_not_is_not() -> None:
    rng = np.random.default_rng(3)
    targets = ["a", "b"] * 60
    noise = rng.normal(size=(120, 5)).astype(np.float32)
    asked = question(targets)
    blind = answer(asked, noise, 0)
    assert blind.interval[0] < 0.5 < blind.interval[1]
    assert not blind.clear(0.5)
    noise[:, 2] += np.tile([0, 9], 60)
    seen = answer(asked, noise, 0)
    assert seen == Answer(1.0, (1.0, 1.0), (1.0, 1.0))
    assert seen.clear(0.5)


def test_a_model_never_sees_the_unit_it_answers_for() -> None:
    # Every unit has a column of its own: within a unit the target is known, and for other units it says nothing.
    units = np.arange(200) // 10
    of_unit = np.random.default_rng(0).permutation(["a", "b"] * 10)
    targets = of_unit[units].tolist()
    found = answer(question(targets, units), np.eye(20, dtype=np.float32)[units], 0)
    assert found.balanced_accuracy < 0.75
    undivided = answer(question(targets), np.eye(20, dtype=np.float32)[units], 0)
    assert undivided.balanced_accuracy == 1.0


def test_a_class_of_middling_size_is_told_by_the_square() -> None:
    rng = np.random.default_rng(0)
    targets = ["small", "middle", "large"] * 40
    sizes = (np.tile([100, 200, 300], 40) + rng.normal(0, 10, 120)).astype(np.float32)[:, None]
    assert answer(question(targets), property_inputs(sizes), 0).balanced_accuracy > 0.97
    assert property_inputs(np.full((9, 2), 0.1, np.float32)).tolist() == np.zeros((9, 4)).tolist()


def test_the_claim_needs_a_margin() -> None:
    edge = 0.5 + MARGIN * 0.5
    assert not Answer(0.7, (edge, 0.8), ()).clear(0.5)
    assert Answer(0.7, (edge + 0.001, 0.8), ()).clear(0.5)


def test_principal_components_keep_the_distances_between_films() -> None:
    films = np.stack([film(seed, (64, 64)) for seed in range(30)])
    scores = picture_inputs(films, 0, black_centre=False)
    assert scores.shape == (30, 29)
    pixels = films.reshape(30, -1).astype(float)
    expected = np.linalg.norm(pixels[:, None] - pixels[None], axis=2)
    found = np.linalg.norm(scores[:, None] - scores[None], axis=2)
    assert np.allclose(found / found.max(), expected / expected.max(), atol=1e-3)
    assert scores[:, 0].std(ddof=1) == pytest.approx(1, rel=1e-3)


def test_nothing_of_the_centre_is_seen_where_it_is_blacked_out() -> None:
    films = np.stack([film(seed, (64, 64)) for seed in range(30)])
    other = films.copy()
    other[:, 8:56, 8:56] = np.random.default_rng(0).integers(0, 255, (30, 48, 48))
    assert np.array_equal(picture_inputs(films, 0, black_centre=True), picture_inputs(other, 0, black_centre=True))
    other[:, 7, 7] = 255
    assert not np.array_equal(picture_inputs(films, 0, black_centre=True), picture_inputs(other, 0, black_centre=True))


def test_rare_places_have_no_column() -> None:
    values = ["x"] * 10 + ["y"] * 11 + ["z"] * 9
    found = one_hot(values)
    assert found.shape == (30, 2)
    assert found[[0, 10, 29]].tolist() == [[1, 0], [0, 1], [0, 0]]
