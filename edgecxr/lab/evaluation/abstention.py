"""How far a picture is from frontal chest films, fitted: a residual and a linear unit over moments of the maps; pure.

The residual knows films alone, and finds what is like none of them. The unit has seen what isn't a film, and finds what
shares the films' own directions: laterals, films on their side. Either alone misses what the other finds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

DIRECTIONS = 64  # of the subspace in which films vary
KEPT = 0.995  # of clean films


@dataclass(frozen=True)
class Score:
    """What the network computes of moments (N, D) = (means, standard deviations) of its maps over places.

    With u = moments / |moments| - centre: `residual` |u - directions directions' u| + `unit` u + `bias`, (N,). The mean
    over the films that it was fitted on is 0, and their standard deviation 1; higher is further from them.
    """

    centre: Float32  # (D,)
    directions: Float32  # (D, R), orthonormal columns
    residual: float
    unit: Float32  # (D,)
    bias: float

    def of(self, moments: npt.NDArray[np.floating]) -> Floats:
        """Scores (N,) of moments (N, D), in float64."""
        u = normalised(moments) - self.centre
        rest = u - (u @ self.directions) @ self.directions.T
        found: Floats = self.residual * np.linalg.norm(rest, axis=1) + u @ self.unit + self.bias
        return found


@dataclass(frozen=True)
class Threshold:
    """A picture abstains where its score is `value` or more."""

    value: float
    kept: float  # share of films that stays below it: at least that of new ones, in expectation
    pictures: int  # that it was taken from


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
