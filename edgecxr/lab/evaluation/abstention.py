"""How far a picture is from frontal chest films, fitted: a residual and a linear unit over moments of the maps; pure.

The residual knows films alone, and finds what is like none of them. The unit has seen what isn't a film, and finds what
shares the films' own directions: laterals, films on their side. A picture is as far away as the farther of the two
says: a sum could let either call back what the other found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

DIRECTIONS = 64  # of the subspace in which films vary
STRENGTH = 1.0
KEPT = 0.995  # of clean films


@dataclass(frozen=True)
class Score:
    """What the network computes of moments (N, D) = (means, standard deviations) of its maps over places.

    With u = moments / |moments| - centre the larger of `residual` |u - directions directions' u| + `residual_bias` and
    `unit` u + `unit_bias`, (N,); higher is further from films. Over the films that it was fitted on either has mean 0
    and standard deviation 1.
    """

    centre: Float32  # (D,)
    directions: Float32  # (D, R), orthonormal columns
    residual: float
    residual_bias: float
    unit: Float32  # (D,)
    unit_bias: float

    def of(self, moments: npt.NDArray[np.floating]) -> Floats:
        """Scores (N,) of moments (N, D), in float64."""
        u = normalised(moments) - self.centre
        rest = u - (u @ self.directions) @ self.directions.T
        distance = self.residual * np.linalg.norm(rest, axis=1) + self.residual_bias
        found: Floats = np.maximum(distance, u @ self.unit + self.unit_bias)
        return found


@dataclass(frozen=True)
class Threshold:
    """A picture abstains where its score is `value` or more."""

    value: float
    kept: float  # share of films that stays below it: at least that of new ones, in expectation
    pictures: int  # that it was taken from


def fit(
    films: npt.NDArray[np.floating],
    unlike: Mapping[str, npt.NDArray[np.floating]],
    directions: int = DIRECTIONS,
    strength: float = STRENGTH,
) -> Score:
    """The score of films' moments (N, D) and those of what is no film, by kind, each (n, D).

    `directions` of the films' principal components, fewer where there are fewer than four films for each. The unit is a
    logistic regression (scikit-learn, L2, C = `strength`) in which every kind weighs alike, and the films as much as
    all kinds.
    """
    u = normalised(films)
    centre = u.mean(axis=0)
    u = u - centre
    basis = np.linalg.svd(u, full_matrices=False)[2][: min(directions, len(u) // 4)].T  # (D, R)
    residuals = np.linalg.norm(u - (u @ basis) @ basis.T, axis=1)
    spread = u.std()  # one for all: a channel that hardly moves between films isn't blown up
    others = [normalised(values) - centre for values in unlike.values()]
    weights = [np.full(len(u), 0.5 / len(u))] + [np.full(len(x), 0.5 / len(x) / len(others)) for x in others]
    inputs, told = np.concatenate([u, *others]) / spread, np.concatenate(weights)
    classes = np.arange(len(inputs)) >= len(u)
    regression = LogisticRegression(C=strength, max_iter=1000)
    regression.fit(inputs, classes, sample_weight=told * len(inputs))
    unit = regression.coef_[0] / spread
    said = u @ unit
    return Score(
        centre.astype(np.float32),
        basis.astype(np.float32),
        float(1 / residuals.std()),
        float(-residuals.mean() / residuals.std()),
        (unit / said.std()).astype(np.float32),
        float(-said.mean() / said.std()),
    )


def normalised(moments: npt.NDArray[np.floating]) -> Floats:
    """Moments (N, D) at length 1: contrast alone moves no picture."""
    values = np.asarray(moments, dtype=np.float64)
    found: Floats = values / np.linalg.norm(values, axis=1, keepdims=True)
    return found


def threshold(scores: npt.NDArray[np.floating], kept: float = KEPT) -> Threshold:
    """The threshold below which the share `kept` of films stays, from the scores (N,) of films that fitted nothing.

    Split conformal prediction: with the ceil((N + 1) kept)-th smallest of N exchangeable scores a new film stays below
    with that probability at least (Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005, ch. 2). Of
    too few films the largest score is taken, which keeps N / (N + 1).
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float32))
    count = len(ordered)
    rank = min(math.ceil((count + 1) * kept), count)
    # The next number: a film with that very score stays.
    value = np.nextafter(ordered[rank - 1], np.float32(np.inf))
    return Threshold(float(value), min(kept, count / (count + 1)), count)
