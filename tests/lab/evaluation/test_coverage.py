"""What silence is worth, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgecxr.lab.evaluation.bootstrap import with_intervals
from edgecxr.lab.evaluation.coverage import risk_at, risk_coverage, silence

WRONG = np.array([False, True, False, False, True])
DOUBTS = np.array([0.1, 0.5, 0.2, 0.3, 0.9])


def test_the_risk_is_that_of_the_least_doubtful() -> None:
    coverage, risk = risk_coverage(WRONG, DOUBTS)
    np.testing.assert_allclose(coverage, [0.2, 0.4, 0.6, 0.8, 1.0])
    np.testing.assert_allclose(risk, [0, 0, 0, 1 / 4, 2 / 5])
    assert [risk_at(coverage, risk, least) for least in (0.6, 0.61, 1.0, 0.0)] == [0, 0.25, 0.4, 0]


def test_pictures_of_equal_doubt_are_answered_together() -> None:
    coverage, risk = risk_coverage(WRONG, np.array([0.1, 0.2, 0.2, 0.2, 0.9]))
    np.testing.assert_allclose(coverage, [0.2, 0.8, 1.0])
    np.testing.assert_allclose(risk, [0, 1 / 4, 2 / 5])
    coverage, risk = risk_coverage(WRONG, np.zeros(5))  # nothing to order by: all or none
    np.testing.assert_allclose((coverage, risk), ([1.0], [0.4]))


def test_no_order_of_the_pictures_matters() -> None:
    rng = np.random.default_rng(1)
    wrong, doubts = rng.random(200) < 0.2, rng.integers(0, 20, 200).astype(float)
    turn = rng.permutation(200)
    np.testing.assert_array_equal(risk_coverage(wrong, doubts), risk_coverage(wrong[turn], doubts[turn]))


def test_each_source_has_its_row() -> None:
    classes = np.array([0, 0, 1, 1, 1])
    answers = np.array([0, 1, 1, 1, 0])  # wrong: the second and the last
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7], [0.95, 0.05]])
    found = silence(classes, answers, probabilities, DOUBTS, 0.9, ["A", "A", "B", "B", "B"])
    assert found["threshold"] == 0.9
    found = with_intervals(found, np.arange(5))
    every, a, b = found["rows"]
    assert [row["source"] for row in found["rows"]] == ["", "A", "B"]
    assert (every["answered"]["hits"], every["answered"]["total"]) == (4, 5)  # at the threshold it is silent
    assert (every["accuracy"]["hits"], every["accuracy"]["total"]) == (3, 4)
    assert (every["of_all"]["hits"], every["of_all"]["total"]) == (3, 5)
    assert (a["answered"]["value"], b["answered"]["value"]) == (1.0, 2 / 3)
    assert (b["accuracy"]["value"], b["of_all"]["value"]) == (1.0, 2 / 3)
    # 0.5 and 0.9 lie above 0.1, 0.2 and 0.3. Of the tops 0.9 0.6 0.8 0.7 0.95, wrong ones are the least and the most.
    assert every["finds_wrong"]["ood"]["value"] == 1.0
    assert every["finds_wrong"]["probability"]["value"] == pytest.approx(0.5)
    assert every["risk"]["ood"]["at"][0] == {"coverage": 1.0, "risk": 0.4}
    assert every["risk"]["ood"]["curve"]["risk"] == [0, 0, 0, 0.25, 0.4]
    assert every["risk"]["probability"]["curve"]["risk"] == [1, 0.5, pytest.approx(1 / 3), 0.25, 0.4]


def test_no_picture_is_no_risk() -> None:
    empty = np.empty(0, dtype=np.int64)
    found = silence(empty, empty, np.empty((0, 2)), np.empty(0), 1.0, [])
    assert found["rows"][0]["risk"] == {"ood": None, "probability": None}
