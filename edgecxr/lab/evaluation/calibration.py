"""Do probabilities mean what they say? Reliability, expected calibration error, Brier score and likelihood; pure.

Everywhere `probabilities` (N, K) are in 0..1 and sum to 1, and `classes` (N,) are indices of the true classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgecxr.lab.evaluation.bootstrap import Draws, Figure, Floats, Ints
from edgecxr.lab.evaluation.metrics import mean

BINS = 15  # as Guo et al. have it


def calibration(classes: Ints, probabilities: Floats) -> dict[str, Any]:
    """ECE, Brier score and negative log-likelihood as Figures, with the reliability bins."""
    return {
        "ece": expected_calibration_error(classes, probabilities),
        "brier": brier_score(classes, probabilities),
        "nll": negative_log_likelihood(classes, probabilities),
        "reliability": reliability(classes, probabilities),
    }


def expected_calibration_error(classes: Ints, probabilities: Floats) -> Figure:
    """Mean distance between confidence and accuracy, in 0..1, over 15 equal bins of the top label's probability.

    sum over bins of (pictures in the bin / pictures) * |accuracy - mean confidence|: Guo et al., "On Calibration of
    Modern Neural Networks", ICML 2017, eq. 3. Noise alone makes it positive, and resampling adds noise: its interval
    leans upwards, the more the fewer the pictures.
    """
    confidence, right, bins = _top(classes, probabilities)
    gap = (right - confidence)[:, None] * (bins[:, None] == np.arange(BINS))  # (N, BINS)
    everything = np.ones(len(classes), dtype=bool)

    def replicate(draws: Draws) -> Floats:
        result: Floats = np.abs(draws.total(gap)).sum(axis=1) / draws.total(everything)
        return result

    value = float(np.abs(gap.sum(axis=0)).sum() / len(classes)) if len(classes) else None
    return Figure(value, replicate, (everything,))


def brier_score(classes: Ints, probabilities: Floats) -> Figure:
    """Mean over pictures of sum_k (p_k - y_k)^2, y being 1 for the true class and else 0; in 0..2, 0 is best.

    Brier's own form, for any number of classes (Monthly Weather Review 78, 1950); for two classes it is twice the
    form that counts only one of them.
    """
    truth = np.eye(probabilities.shape[1])[classes]
    return mean(((probabilities - truth) ** 2).sum(axis=1))


def negative_log_likelihood(classes: Ints, probabilities: Floats) -> Figure:
    """Mean of -log p(true class), in nats; 0 is best."""
    own = probabilities[np.arange(len(classes)), classes]
    return mean(-np.log(np.maximum(own, np.finfo(np.float64).tiny)))


def reliability(classes: Ints, probabilities: Floats) -> list[dict[str, Any]]:
    """For each bin (low, high] of the top label's probability: pictures, mean confidence, and the share right."""
    confidence, right, bins = _top(classes, probabilities)
    rows = []
    for index in range(BINS):
        mine = bins == index
        rows.append(
            {
                "low": index / BINS,
                "high": (index + 1) / BINS,
                "pictures": int(mine.sum()),
                "confidence": float(confidence[mine].mean()) if mine.any() else None,
                "accuracy": float(right[mine].mean()) if mine.any() else None,
            }
        )
    return rows


def _top(classes: Ints, probabilities: Floats) -> tuple[Floats, Floats, Ints]:
    """Of the most probable class: its probability, whether it is right (0 or 1), and the bin; each (N,)."""
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == classes).astype(np.float64)
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return confidence, right, bins
