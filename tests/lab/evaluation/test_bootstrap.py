"""Intervals: Wilson's as published, percentiles over groups, and what is said where resampling says nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgecxr.lab.evaluation import bootstrap, metrics
from edgecxr.lab.evaluation.bootstrap import draws, with_intervals
from edgecxr.lab.evaluation.intervals import percentile_interval, wilson_interval


def interval_of(figure: bootstrap.Figure, group_of: np.ndarray, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = with_intervals(figure, np.asarray(group_of), **options)
    return found


def test_wilson_interval_is_the_published_one() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81/263, 15/148, 0/20, 1/29.
    for hits, total, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson_interval(hits, total) == pytest.approx((low, high), abs=5e-5)


def test_percentiles() -> None:
    assert percentile_interval(np.arange(1001.0)) == pytest.approx((25, 975))
    assert percentile_interval(np.array([0.5, np.nan, 0.7])) == pytest.approx((0.505, 0.695))
    assert percentile_interval(np.array([0.5, np.nan, np.nan, np.nan, 0.7])) is None  # mostly undefined
    assert percentile_interval(np.full(10, 0.3)) is None
    assert percentile_interval(np.empty(0)) is None


def test_independent_pictures_give_the_binomial_s_width() -> None:
    right = np.arange(400) < 320  # 80 %: standard error sqrt(0.8 * 0.2 / 400) = 0.02
    found = interval_of(metrics.share(right, np.ones(400, dtype=bool)), np.arange(400))
    assert found["method"] == "bootstrap"
    assert found["interval95"] == pytest.approx([0.8 - 1.96 * 0.02, 0.8 + 1.96 * 0.02], abs=0.006)
    assert (found["hits"], found["total"], found["groups"]) == (320, 400, 400)


def test_groups_whose_pictures_agree_give_a_wider_interval_than_pictures() -> None:
    # Ten pictures a patient, all right or all wrong: 40 observations, not 400; sqrt(10) times as wide.
    right = np.repeat(np.arange(40) < 32, 10)
    figure = metrics.share(right, np.ones(400, dtype=bool))

    def width(group_of: np.ndarray) -> float:
        low, high = interval_of(figure, group_of)["interval95"]
        return float(high - low)

    ratio = width(np.repeat(np.arange(40), 10)) / width(np.arange(400))
    assert ratio == pytest.approx(np.sqrt(10), rel=0.15)


@pytest.mark.parametrize(("hit", "share"), [(True, 1.0), (False, 0.0)])
def test_all_or_none_falls_back_to_wilson_over_groups(hit: bool, share: float) -> None:
    figure = metrics.share(np.full(30, hit), np.ones(30, dtype=bool))
    found = interval_of(figure, np.repeat(np.arange(20), [2] * 10 + [1] * 10))
    assert (found["value"], found["method"], found["groups"]) == (share, "wilson", 20)
    assert found["interval95"] == pytest.approx(wilson_interval(int(20 * share), 20))


def test_too_few_groups_have_no_interval() -> None:
    half = np.arange(10) < 5
    everything = np.ones(10, dtype=bool)
    found = interval_of(metrics.share(half, everything), np.zeros(10, dtype=int))
    assert (found["value"], found["interval95"], found["method"]) == (0.5, None, None)
    # AUROC compares two sides, and here all positives are one patient.
    area = interval_of(metrics.auroc(half, np.random.default_rng(0).random(10)), np.where(half, 0, np.arange(10)))
    assert area["interval95"] is None
    perfect = interval_of(metrics.auroc(half, half.astype(float)), np.arange(10))
    assert (perfect["value"], perfect["interval95"], perfect["method"]) == (1.0, None, None)


def test_a_class_that_some_replicates_lack_keeps_its_interval() -> None:
    classes = np.array([0] * 3 + [1] * 60)
    answers = np.array([0, 0, 1] + [1] * 60)
    found = interval_of(metrics.sensitivity(classes, answers, 0), np.arange(63))
    assert found["interval95"] == [0.0, 1.0]


def test_the_seed_decides_and_the_chunks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    group_of = np.random.default_rng(0).integers(0, 50, 120)

    def weights(seed: int) -> np.ndarray:
        return np.concatenate([part.weights for part in draws(group_of, 200, seed)])

    whole = weights(1)
    monkeypatch.setattr(bootstrap, "CHUNK", 1000)
    assert np.array_equal(weights(1), whole)
    assert not np.array_equal(weights(2), whole)
    assert whole.shape == (200, group_of.max() + 1)
    assert (whole.sum(axis=1) == whole.shape[1]).all()


def test_a_tree_keeps_its_shape_and_progress_is_told() -> None:
    figure = metrics.share(np.array([True, False]), np.ones(2, dtype=bool))
    told: list[tuple[int, int]] = []
    tree = {"a": [figure, 1], "b": {"c": "text", "d": None}}
    found = with_intervals(tree, np.arange(2), replicates=10, advance=lambda *done: told.append(done))
    assert found["a"][0]["value"] == 0.5
    assert (found["a"][1], found["b"]) == (1, {"c": "text", "d": None})
    assert told[-1] == (10, 10)
