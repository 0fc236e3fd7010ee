"""95 % intervals: Wilson's for a proportion, and percentiles of bootstrap replicates; pure."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

PERCENTILES = (2.5, 97.5)
LEAST_DEFINED = 0.5  # share of the replicates in which a figure has to exist for their percentiles to describe it


def wilson_interval(hits: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % score interval of the proportion `hits` of `total` independent draws (Wilson, JASA 22, 1927)."""
    share = hits / total
    centre = share + z * z / (2 * total)
    reach = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)


def percentile_interval(replicates: npt.NDArray[np.float64]) -> tuple[float, float] | None:
    """The 2.5th and 97.5th percentile of replicates (R,), NaN where a replicate lacks the figure.

    Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7, 1979. None where the figure is
    missing from over half of the replicates, or the same in all of them: then they say nothing about its spread.
    """
    defined = replicates[np.isfinite(replicates)]
    if len(defined) < LEAST_DEFINED * len(replicates) or len(defined) == 0:
        return None
    low, high = np.percentile(defined, PERCENTILES)
    if np.isclose(low, high, rtol=1e-12, atol=1e-12):
        return None
    return float(low), float(high)
