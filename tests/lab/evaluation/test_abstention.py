"""The score by hand, thresholds by counting, and a fit that finds what is unlike films."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from edgecxr.lab.evaluation.abstention import KEPT, Score, fit, normalised, threshold


def test_a_score_by_hand() -> None:
    # Moments (3, 4, 0) have length 5: u = (0.6, 0.8, 0) - (0.6, 0, 0) = (0, 0.8, 0). The direction (0, 0.6, 0.8) takes
    # 0.48 of it, (0, 0.288, 0.384); what is left is (0, 0.512, -0.384), of length 0.64.
    score = Score(
        centre=np.array([0.6, 0, 0], dtype=np.float32),
        directions=np.array([[0], [0.6], [0.8]], dtype=np.float32),
        residual=10.0,
        residual_bias=-1.0,
        unit=np.array([1, 2, 3], dtype=np.float32),
        unit_bias=0.5,
    )
    moments = np.array([[3, 4, 0], [30, 40, 0]])
    assert score.of(moments) == pytest.approx([6.4 - 1.0] * 2, abs=1e-5)  # the unit says 1.6 + 0.5
    assert replace(score, unit_bias=5.0).of(moments) == pytest.approx([1.6 + 5.0] * 2, abs=1e-5)


def test_a_threshold_keeps_its_share() -> None:
    # ceil(1001 * 0.995) = 996: the 996th of 1,000 ordered scores stays, and 4 don't.
    scores = np.random.default_rng(0).permutation(1000).astype(np.float32)
    found = threshold(scores)
    assert (found.pictures, found.kept) == (1000, KEPT)
    assert int((scores >= found.value).sum()) == 4
    assert found.value == pytest.approx(995, abs=1e-3)
    assert found.value > 995


def test_of_few_films_the_largest_score_stays_and_the_share_is_said() -> None:
    found = threshold(np.array([3.0, 1.0, 2.0]))
    assert found.kept == 0.75  # of four exchangeable scores the last is the largest one time in four
    assert 3.0 < found.value < 3.001
    assert threshold(np.arange(199.0)).kept == KEPT  # 199 of 200


def films(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Moments (count, 40) that vary in four directions, and a little in all."""
    rng = np.random.default_rng(seed)
    base = np.linspace(1, 2, 40)
    base[3] += shift
    ways = np.random.default_rng(5).normal(0, 1, (4, 40))
    return base + 0.03 * rng.normal(0, 1, (count, 4)) @ ways + 0.01 * rng.normal(0, 1, (count, 40))


def test_a_fit_finds_what_it_has_seen_and_what_it_has_not() -> None:
    known, fresh = films(400, 0), films(400, 1)
    seen = {"shifted": films(100, 2, shift=0.5)}
    score = fit(known, seen, directions=4)
    assert score.directions.shape == (40, 4)
    assert score.directions.T @ score.directions == pytest.approx(np.eye(4), abs=1e-5)
    held = known[::4]
    for part in (replace(score, unit_bias=-1e9), replace(score, residual_bias=-1e9)):
        assert (part.of(held).mean(), part.of(held).std()) == pytest.approx((0, 1), abs=1e-3)
    limit = threshold(score.of(fresh)).value
    assert (score.of(films(100, 3, shift=0.5)) >= limit).mean() > 0.95
    noise = np.random.default_rng(4).uniform(0.5, 2.5, (100, 40))  # nothing like it was shown
    assert (score.of(noise) >= limit).mean() == 1
    assert (score.of(films(400, 6)) >= limit).mean() < 0.03


def test_contrast_alone_moves_nothing() -> None:
    values = films(3, 0)
    assert normalised(values * 7) == pytest.approx(normalised(values))
    assert np.linalg.norm(normalised(values), axis=1) == pytest.approx(1)


def test_a_handful_of_films_has_fewer_directions() -> None:
    assert fit(films(16, 0), {"a": films(3, 1, shift=1)}).directions.shape == (40, 3)
    assert fit(films(3, 0), {"a": films(3, 1, shift=1)}).directions.shape == (40, 1)


def test_the_fit_has_the_same_bits_on_any_number_of_threads() -> None:
    rng = np.random.default_rng(4)
    films, others = rng.normal(0, 1, (400, 256)) ** 2, {"noise": rng.normal(0, 2, (60, 256)) ** 2}
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(fit(films, others))
    first, second = ((s.centre, s.directions, s.residual, s.residual_bias, s.unit, s.unit_bias) for s in found)
    for ours, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(ours, theirs)
