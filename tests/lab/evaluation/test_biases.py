"""Class biases recover what was taken away, and stay small where there is little to learn from."""

from __future__ import annotations

import numpy as np
import pytest
from test_temperature import drawn

from edgecxr.lab.evaluation.biases import class_biases
from edgecxr.lab.evaluation.temperature import fit_temperature


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_known_bias_is_found_at_any_temperature(temperature: float) -> None:
    logits, classes = drawn(temperature)
    missing = np.array([0.7, -0.4, -0.3])
    found = class_biases(logits - missing, classes)
    assert found == pytest.approx(missing, abs=0.05 * temperature)
    assert fit_temperature(logits - missing + found, classes).temperature == pytest.approx(temperature, rel=0.02)


def test_logits_that_lack_none_get_none() -> None:
    logits, classes = drawn(1.0)
    assert np.abs(class_biases(logits, classes)).max() < 0.03
    shifted = class_biases(logits + 5.0, classes)  # a softmax doesn't see what all logits share
    assert shifted == pytest.approx(class_biases(logits, classes), abs=2e-4)


def test_likelier_than_any_nearby() -> None:
    logits, classes = drawn(1.0, 3000)
    logits = logits + np.array([0.0, 0.8, 0.0])

    def likelihood(biases: np.ndarray) -> float:
        return fit_temperature(logits + biases, classes).nll_after

    found = class_biases(logits, classes)
    for step in 0.15 * np.vstack([np.eye(3), -np.eye(3)]):
        assert likelihood(found) < likelihood(found + step)


def test_a_class_that_no_picture_shows_stays_finite() -> None:
    logits, classes = drawn(1.0, 200)
    kept = classes != 2
    found = class_biases(logits[kept], classes[kept])
    assert found[2] < -1
    assert np.abs(found).max() < 5


def test_pictures_that_are_all_told_apart_move_nothing_far() -> None:
    logits = 3.0 * np.eye(3)[[0, 1, 2, 0]]
    assert np.abs(class_biases(logits, np.array([0, 1, 2, 0]))).max() < 0.5
    assert class_biases(logits[:1], np.array([0])).shape == (3,)
