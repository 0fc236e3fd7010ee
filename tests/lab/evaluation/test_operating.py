"""Thresholds for a stated sensitivity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecxr.lab.evaluation.bootstrap import with_intervals
from edgecxr.lab.evaluation.operating import at_operating_points, fit_operating_points, unkept
from edgecxr.scoring.postprocess import probabilities

LABELS = ("covid", "normal")


def test_a_threshold_by_hand() -> None:
    covid = np.array([0.9, 0.8, 0.7, 0.3, 0.6, 0.2, 0.1])  # four covid, three normal
    classes = np.array([0, 0, 0, 0, 1, 1, 1])
    p = np.stack([covid, 1 - covid], axis=1)
    first, second = fit_operating_points(LABELS, classes, p, split="dev", targets=(0.75, 0.76))[:2]
    # Three of four have to be found: 0.7 is the lowest, 0.6 the next score below.
    assert first.threshold == pytest.approx(0.65)
    assert (first.sensitivity, first.specificity) == (0.75, 1.0)
    assert (first.label, first.split, first.pictures, first.target_sensitivity) == ("covid", "dev", 7, 0.75)
    # All four: 0.3, and 0.2 below; one normal picture lies above.
    assert second.threshold == pytest.approx(0.25)
    assert (second.sensitivity, second.specificity) == (1.0, pytest.approx(2 / 3))


def test_the_product_s_rounding_does_not_cost_a_picture() -> None:
    scores = np.linspace(0.99, 0.51, 50)
    p = np.concatenate([np.stack([scores, 1 - scores], axis=1), [[0.1, 0.9]] * 3])
    point = fit_operating_points(LABELS, np.array([0] * 50 + [1] * 3), p, split="dev", targets=(0.56,))[0]
    target, pictures = 0.56, 50
    assert target * pictures > 28  # by a last bit: rounded up as it is, it would ask for a 29th
    assert point.sensitivity == 28 / 50


def test_a_class_that_can_not_be_told_apart_gets_no_threshold() -> None:
    p = np.full((3, 3), 1 / 3)
    assert fit_operating_points(("a", "b", "c"), np.zeros(3, dtype=int), p, split="dev") == ()
    labels = [point.label for point in fit_operating_points(("a", "b", "c"), np.array([0, 1, 1]), p, split="dev")]
    assert set(labels) == {"a", "b"}


def test_elsewhere_the_same_threshold_gives_other_figures() -> None:
    covid = np.array([0.9, 0.8, 0.3, 0.2])
    points = fit_operating_points(
        LABELS, np.array([0, 0, 1, 1]), np.stack([covid, 1 - covid], axis=1), split="dev", targets=(0.95,)
    )
    other = np.array([0.9, 0.4, 0.7, 0.2])  # threshold 0.55: one of two found, one of two spared
    found = at_operating_points(points, LABELS, np.array([0, 0, 1, 1]), np.stack([other, 1 - other], axis=1))
    row = with_intervals(found, np.arange(4))[0]
    assert row["fitted"] == {"split": "dev", "pictures": 4, "sensitivity": 1.0, "specificity": 1.0}
    assert [(row[k]["hits"], row[k]["total"]) for k in ("sensitivity", "specificity", "ppv")] == [(1, 2)] * 3


@given(st.integers(2, 80), st.integers(0, 10_000), st.sampled_from([0.5, 0.9, 0.95, 1.0]))
def test_the_target_is_reached_and_no_higher_threshold_reaches_it(count: int, seed: int, target: float) -> None:
    rng = np.random.default_rng(seed)
    classes = np.concatenate([[0, 1], rng.integers(0, 2, count)])
    p = probabilities(rng.normal(0, 2, (len(classes), 2)).round(1), 1.0)
    for point in fit_operating_points(LABELS, classes, p, split="dev", targets=(target,)):
        index = LABELS.index(point.label)
        own = p[classes == index, index]
        assert 0 <= point.threshold <= 1
        assert point.sensitivity >= target - 1e-9
        for higher in np.unique(p[:, index])[np.unique(p[:, index]) > point.threshold][1:]:
            assert (own >= higher).mean() < target


def test_a_promise_that_the_interval_excludes_is_said() -> None:
    def row(value: float, interval: tuple[float, float] | None, split: str = "dev") -> dict[str, object]:
        return {
            "fitted": {"split": split},
            "label": "normal",
            "target_sensitivity": 0.9,
            "sensitivity": {"value": value, "interval95": interval},
        }

    # The embedded model of 0.1.0 on its own test split.
    assert unkept([row(0.875, (0.851, 0.897))]) == [
        "normal at 90%: 87.5% found (85.1%–89.7%), less than promised",
    ]
    assert unkept([row(0.95, (0.91, 0.98))]) == ["normal at 90%: 95.0% found (91.0%–98.0%), more than promised"]
    assert unkept([row(0.88, (0.86, 0.9)), row(0.9, None)]) == []
    # A site's point promises 90 % at least.
    assert unkept([row(0.95, (0.91, 0.98), "site")]) == []
    assert len(unkept([row(0.875, (0.851, 0.897), "site")])) == 1
