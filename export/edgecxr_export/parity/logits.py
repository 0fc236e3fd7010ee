"""How far an artifact's logits lie from the reference's, beside how far a film's logits lie apart; pure.

A constant added to all logits of a film changes no answer, so a film's logits are taken less their mean. And a factor
on the logits of both models changes nothing here: a sharper fit isn't punished, as differences of probabilities do.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def centred(logits: npt.NDArray[np.floating]) -> Floats:
    """Logits (N, K) less each film's mean."""
    values = np.asarray(logits, dtype=np.float64)
    found: Floats = values - values.mean(axis=1, keepdims=True)
    return found


def scale(reference: npt.NDArray[np.floating]) -> float:
    """How far a film's logits (N, K) lie apart: the root mean square of the centred ones, over films and classes."""
    return float(np.sqrt((centred(reference) ** 2).mean()))


def errors(logits: npt.NDArray[np.floating], reference: npt.NDArray[np.floating]) -> Floats:
    """Each film's largest |difference| of a centred logit, (N,), as a share of the reference's `scale`.

    Where the reference knows no difference between classes at all, any error is infinite.
    """
    moved = np.abs(centred(logits) - centred(reference)).max(axis=1)
    apart = scale(reference)
    found: Floats = np.divide(moved, apart, out=np.where(moved == 0, 0.0, np.inf), where=apart > 0)
    return found
