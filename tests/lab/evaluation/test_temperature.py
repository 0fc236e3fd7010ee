"""Temperature scaling recovers a temperature that is known."""

from __future__ import annotations

import numpy as np
import pytest

from edgecxr.lab.evaluation.temperature import BOUNDS, fit_temperature, negative_log_likelihood


def drawn(temperature: float, count: int = 60_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `temperature` times too steep for the classes drawn from them."""
    rng = np.random.default_rng(1)
    honest = rng.normal(0, 2, (count, 3))
    # Gumbel's trick: argmax of logits plus Gumbel noise is a draw from their softmax.
    classes = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
    return honest * temperature, classes


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature: float) -> None:
    logits, classes = drawn(temperature)
    found = fit_temperature(logits, classes)
    assert found.temperature == pytest.approx(temperature, rel=0.02)
    assert found.nll_after <= found.nll_before
    assert not found.at_bound


def test_no_temperature_nearby_is_better() -> None:
    logits, classes = drawn(1.7, 500)
    found = fit_temperature(logits, classes)
    grid = [negative_log_likelihood(logits, classes, t) for t in np.geomspace(*BOUNDS, 2000)]
    assert found.nll_after <= min(grid) + 1e-9


def test_likelihood_by_hand() -> None:
    # Two classes, logits log 3 and 0: p = 3/4 and 1/4. One of each: -(log 3/4 + log 1/4) / 2.
    logits = np.array([[np.log(3), 0.0], [np.log(3), 0.0]])
    assert negative_log_likelihood(logits, np.array([0, 1]), 1.0) == pytest.approx(-np.log(3 / 16) / 2)


def test_a_split_without_errors_ends_at_the_bound_and_says_so() -> None:
    logits = np.eye(3)[[0, 1, 2, 0]]
    found = fit_temperature(logits, np.array([0, 1, 2, 0]))
    assert found.temperature == pytest.approx(BOUNDS[0], rel=1e-3)
    assert found.at_bound
