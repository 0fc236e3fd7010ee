"""The temperature that makes probabilities mean what they say, fitted on the dev split."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgecxr.scoring.postprocess import probabilities

BOUNDS = (0.05, 20.0)  # beyond these the logits are so wrong, or the split so easy, that scaling is no repair
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature, with what it did to the mean negative log-likelihood (nats) of the split."""

    temperature: float
    nll_before: float
    nll_after: float
    pictures: int

    @property
    def at_bound(self) -> bool:
        """Whether the search ended at the edge: the minimum may lie outside."""
        return not BOUNDS[0] * 1.001 < self.temperature < BOUNDS[1] / 1.001


def negative_log_likelihood(
    logits: npt.NDArray[np.floating], classes: npt.NDArray[np.integer], temperature: float
) -> float:
    """Mean of -log p(true class), in nats, of logits (N, K) at this temperature."""
    p = probabilities(logits, temperature)[np.arange(len(classes)), classes]
    return float(-np.log(np.maximum(p, np.finfo(np.float64).tiny)).mean())


def fit_temperature(logits: npt.NDArray[np.floating], classes: npt.NDArray[np.integer]) -> Temperature:
    """The temperature of least negative log-likelihood, for logits (N, K) and true classes (N,).

    Temperature scaling: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. The likelihood is convex
    in 1 / T and so has one minimum over log T, which a golden-section search finds (Kiefer, Proc. AMS 4, 1953).
    """

    def cost(log_temperature: float) -> float:
        return negative_log_likelihood(logits, classes, math.exp(log_temperature))

    low, high = math.log(BOUNDS[0]), math.log(BOUNDS[1])
    left, right = high - GOLDEN_RATIO * (high - low), low + GOLDEN_RATIO * (high - low)
    cost_left, cost_right = cost(left), cost(right)
    while high - low > 1e-7:
        if cost_left <= cost_right:
            high, right, cost_right = right, left, cost_left
            left = high - GOLDEN_RATIO * (high - low)
            cost_left = cost(left)
        else:
            low, left, cost_left = left, right, cost_right
            right = low + GOLDEN_RATIO * (high - low)
            cost_right = cost(right)
    # More digits than the search resolves would only look exact.
    temperature = round(math.exp((low + high) / 2), 5)
    return Temperature(
        temperature,
        nll_before=negative_log_likelihood(logits, classes, 1.0),
        nll_after=negative_log_likelihood(logits, classes, temperature),
        pictures=len(classes),
    )
