"""Is an artifact's answer the trained model's answer? Measured on real pictures, through the device's own engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.bench import spread
from edgecxr.engines import Engine
from edgecxr.errors import GateError, UsageError
from edgecxr.postprocess import probabilities
from edgecxr.train.run import Logits

BATCH = 8
EVIDENCE_PICTURES = 32  # the sum of the evidence is arithmetic, not statistics: a few pictures tell
SPOT_CHECK = 8

# The stored logits of the reference against the same weights recomputed here. Up to `SAME` it is rounding. Above it,
# and up to `KIN`, the fit ended on hardware that rounds more (TF32 on a GPU): then the reference is computed anew.
# Beyond, weights and logits are of different fits.
SAME = 1e-3
KIN = 0.5

FP32_MAX_DP = 1e-4


@dataclass(frozen=True)
class Parity:
    """An artifact against the float32 Keras reference. Probabilities are calibrated with the bundle's temperature."""

    precision: str
    engine: str
    provider: str
    split: str
    pictures: int
    flips: int  # pictures whose most probable class is another
    flipped_files: tuple[str, ...]
    max_dp: float  # largest |difference| of a probability
    p99_dp: float  # 99th percentile over pictures of each one's largest |difference| of a probability
    max_dlogit: float  # largest |difference| of a logit
    accuracy: float
    reference_accuracy: float
    evidence_pictures: int
    # Mean and largest |logits - (sum of evidence + bias)|.
    evidence_residual_mean: float
    evidence_residual_max: float


def run_logits(
    engine: Engine,
    pictures: npt.NDArray[np.uint8],
    rows: Sequence[int],
    advance: Callable[[int], Any] = lambda done: None,
) -> npt.NDArray[np.float32]:
    """Logits (n, K) of the network inputs `pictures` (N, H, W) at `rows` (n); `advance` is told how many are done."""
    parts = []
    for start in range(0, len(rows), BATCH):
        chosen = np.asarray(rows[start : start + BATCH])
        parts.append(engine.run(pictures[chosen][..., None]))
        advance(min(start + BATCH, len(rows)))
    return np.concatenate(parts)


def evidence_residual(
    engine: Engine, inputs: npt.NDArray[np.uint8], bias: npt.NDArray[np.float32]
) -> tuple[float, float]:
    """Mean and largest |logits - (sum of evidence + bias)| over inputs uint8 (N, H, W, 1)."""
    residuals = []
    for start in range(0, len(inputs), BATCH):
        batch = inputs[start : start + BATCH]
        total = engine.evidence(batch).astype(np.float64).sum(axis=(1, 2)) + bias
        residuals.append(np.abs(engine.run(batch) - total))
    joined = np.concatenate(residuals)
    return float(joined.mean()), float(joined.max())


def compare(
    precision: str,
    engine: Engine,
    split: str,
    reference: Logits,
    logits: npt.NDArray[np.float32],
    temperature: float,
    residual: tuple[float, float],
    evidence_pictures: int,
) -> Parity:
    """An artifact's `logits` (N, K) against the reference's, picture by picture in the same order."""
    dp = np.abs(probabilities(logits, temperature) - probabilities(reference.logits, temperature)).max(axis=1)
    answers, expected = logits.argmax(axis=1), reference.logits.argmax(axis=1)
    return Parity(
        precision=precision,
        engine=engine.name,
        provider=engine.provider,
        split=split,
        pictures=len(logits),
        flips=int((answers != expected).sum()),
        flipped_files=tuple(reference.files[i] for i in np.flatnonzero(answers != expected)),
        max_dp=float(dp.max()),
        p99_dp=float(np.percentile(dp, 99)),
        max_dlogit=float(np.abs(logits - reference.logits).max()),
        accuracy=float((answers == reference.classes).mean()),
        reference_accuracy=float((expected == reference.classes).mean()),
        evidence_pictures=evidence_pictures,
        evidence_residual_mean=residual[0],
        evidence_residual_max=residual[1],
    )


def gate(parity: Parity) -> None:
    """The one place where an artifact is refused for straying from the reference; raises GateError.

    fp32 is the same arithmetic in another order: no picture may change its class, no probability move by 1e-4.
    """
    # Written so that a NaN fails.
    if parity.precision == "fp32" and not (parity.max_dp <= FP32_MAX_DP and parity.flips == 0):
        raise GateError(
            f"the fp32 artifact must agree with Keras to {FP32_MAX_DP:g} in every probability and in every class, got "
            f"{parity.max_dp:.2g} and {parity.flips} flips on {parity.pictures} pictures of {parity.split}"
        )


def checked_reference(
    stored: Logits, recompute: Callable[[Sequence[int]], npt.NDArray[np.float32]]
) -> tuple[Logits, dict[str, Any]]:
    """(the reference logits to compare with, what the spot check found).

    `recompute` gives the reference model's logits (n, K) at places of `stored`. Raises UsageError where the stored
    logits can't come from these weights.
    """
    places = spread(len(stored.files), SPOT_CHECK)
    difference = float(np.abs(recompute(places) - stored.logits[places]).max())
    found = {"pictures": len(places), "max_dlogit": difference, "recomputed": not difference <= SAME}
    if difference <= SAME:
        return stored, found
    if not difference <= KIN:
        raise UsageError(
            "the run's weights don't give the run's logits; they were expected to agree to "
            f"{KIN:g}, and differ by {difference:.2g}"
        )
    return Logits(stored.files, stored.classes, recompute(range(len(stored.files)))), found
