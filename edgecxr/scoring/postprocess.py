"""From logits to calibrated probabilities and a decision; pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def probabilities(logits: npt.NDArray[np.floating], temperature: float) -> npt.NDArray[np.float64]:
    """softmax(logits / temperature) along the last axis, in float64.

    Temperature scaling after Guo et al., "On Calibration of Modern Neural Networks", ICML 2017: it moves confidences
    and never the order of the classes.
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    shifted = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    result: npt.NDArray[np.float64] = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def is_finite(output: npt.NDArray[np.floating]) -> bool:
    """Whether a picture's logits (K,) or ood (1,) may be turned into an answer: NaN and Inf never are."""
    return bool(np.isfinite(output).all())
