"""How far a picture is from frontal chest films, fitted: a residual and a linear unit over moments of the maps; pure.

The residual knows films alone, and finds what is like none of them. The unit has seen what isn't a film, and finds what
shares the films' own directions: laterals, films on their side. A picture is as far away as the farther of the two
says: a sum could let either call back what the other found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

DIRECTIONS = 64  # of the subspace in which films vary
# Chosen among 0.3 to 100 on kinds that may be learnt from, each repository and way left out in turn, at the threshold
# that is kept: 84 % of them are turned away with 1, 89 with 10, 90 with 30 and 100.
STRENGTH = 30.0
HELD = 4  # every fourth film sets the scales
KEPT = 0.995  # of clean films


@dataclass(frozen=True)
class Score:
    """What the network computes of moments (N, D) = (means, standard deviations) of its maps over places.

    With u = moments / |moments| - centre the larger of `residual` |u - directions directions' u| + `residual_bias` and
    `unit` u + `unit_bias`, (N,); higher is further from films. Over films either has mean 0 and standard deviation 1.
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
    logistic regression (scikit-learn, L2, C = `strength` where all weights add up to 1) in which every kind weighs
    alike, and the films as much as all kinds. Either is measured on every fourth film, which neither has seen: films
    that span a subspace lie nearer to it than others. The same input gives the same bits on any number of threads.
    """
    with threadpool_limits(1):  # a sum that threads share has other last bits, and an artifact other bytes
        return _fit(films, unlike, directions, strength)


def _fit(
    films: npt.NDArray[np.floating], unlike: Mapping[str, npt.NDArray[np.floating]], directions: int, strength: float
) -> Score:
    u = normalised(films)
    apart = np.arange(len(u)) % HELD == 0 if len(u) >= 2 * HELD else np.ones(len(u), dtype=bool)
    learnt = u[~apart] if not apart.all() else u
    centre = learnt.mean(axis=0)
    u, learnt = u - centre, learnt - centre
    basis = np.linalg.svd(learnt, full_matrices=False)[2][: max(1, min(directions, len(learnt) // 4))].T  # (D, R)
    others = [normalised(values) - centre for values in unlike.values()]
    unit = _unit(learnt, others, strength)
    held = u[apart]
    residual, residual_bias = _scaled(np.linalg.norm(held - (held @ basis) @ basis.T, axis=1))
    factor, unit_bias = _scaled(held @ unit)
    return Score(
        centre.astype(np.float32),
        basis.astype(np.float32),
        residual,
        residual_bias,
        (factor * unit).astype(np.float32),
        unit_bias,
    )


def _unit(films: Floats, others: Sequence[Floats], strength: float) -> Floats:
    """The normal (D,) of a plane between films (N, D) and the kinds (n, D) of others, towards these."""
    width = films.std() or 1.0  # one for all: a channel that hardly moves between films isn't blown up
    weights = [np.full(len(films), 0.5 / len(films)), *(np.full(len(x), 0.5 / len(x) / len(others)) for x in others)]
    inputs = np.concatenate([films, *others]) / width
    regression = LogisticRegression(C=strength, max_iter=1000)
    regression.fit(inputs, np.arange(len(inputs)) >= len(films), sample_weight=np.concatenate(weights))
    found: Floats = regression.coef_[0] / width
    return found


def _scaled(values: Floats) -> tuple[float, float]:
    """(factor, constant) that give values (N,) the mean 0 and the standard deviation 1."""
    width = float(values.std()) or 1.0
    return 1 / width, float(-values.mean() / width)


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
