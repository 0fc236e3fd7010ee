"""Is an artifact's answer the trained model's answer? Measured on real pictures, through the device's own engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.bench import spread
from edgecxr.engines import Engine
from edgecxr.errors import UsageError
from edgecxr.lab.evaluation.bootstrap import draws
from edgecxr.lab.evaluation.calibration import expected_calibration_error
from edgecxr.lab.evaluation.intervals import percentile_interval, wilson_interval
from edgecxr.lab.run import Logits
from edgecxr.scoring.postprocess import probabilities
from edgecxr_export.parity.logits import errors as logit_errors

BATCH = 8
EVIDENCE_PICTURES = 32  # the sum of the evidence is arithmetic, not statistics: a few pictures tell
SPOT_CHECK = 8
REPLICATES = 1000
TAIL = 0.99

# The stored logits of the reference against the same weights recomputed here. Up to `SAME` it is rounding. Above it,
# and up to `KIN`, the fit ended on hardware that rounds more (TF32 on a GPU): then the reference is computed anew.
# Beyond, weights and logits are of different fits.
SAME = 1e-3
KIN = 0.5

# A flip where the reference's two most probable classes are nearer than this is a coin that fell on its edge.
EDGE = 0.01


@dataclass(frozen=True)
class Evidence:
    """An artifact's evidence maps on a few pictures, against its own logits and the reference's maps."""

    pictures: int
    # Mean and largest |logits - (sum of evidence + bias)|.
    residual_mean: float
    residual_max: float
    # Pearson's correlation with the reference's map of a picture, over places and classes; 1 is the same map.
    correlation_mean: float
    correlation_min: float


@dataclass(frozen=True)
class Parity:
    """An artifact against the float32 Keras reference. Probabilities are calibrated with the bundle's temperature."""

    engine: str
    provider: str
    split: str
    pictures: int
    flips: int  # pictures whose most probable class is another
    flips_interval95: tuple[float, float]  # of their share; Wilson
    flipped_files: tuple[str, ...]
    decided_flips: int  # of those, where the reference's two most probable classes are `EDGE` apart or more
    max_dp: float  # largest |difference| of a probability
    p99_dp: float  # 99th percentile over pictures of each one's largest |difference| of a probability
    mean_dp: float
    p99_logits: float  # 99th percentile over pictures of `logits.errors`: a share of how far a film's logits lie apart
    p99_logits_interval95: tuple[float, float] | None  # bootstrap over groups
    max_dlogit: float  # largest |difference| of a logit
    accuracy: float
    reference_accuracy: float
    drop_interval95: tuple[float, float] | None  # of reference_accuracy - accuracy; bootstrap over groups
    ece: float  # expected calibration error
    reference_ece: float

    @property
    def drop(self) -> float:
        return self.reference_accuracy - self.accuracy


@dataclass(frozen=True)
class Answers:
    """What a network gave for n pictures, without their maps."""

    logits: npt.NDArray[np.float32]  # (n, K)
    ood: npt.NDArray[np.float32] | None  # (n,), of networks that have such an output


def run_answers(
    engine: Engine,
    pictures: npt.NDArray[np.uint8],
    rows: Sequence[int],
    advance: Callable[[int], Any] = lambda done: None,
) -> Answers:
    """Of the network inputs `pictures` (N, H, W) at `rows` (n); `advance` is told how many are done."""
    logits, scores = [], []
    for start in range(0, len(rows), BATCH):
        chosen = np.asarray(rows[start : start + BATCH])
        outputs = engine.run(pictures[chosen][..., None])
        logits.append(outputs.logits)
        if outputs.ood is not None:
            scores.append(outputs.ood[:, 0])
        advance(min(start + BATCH, len(rows)))
    return Answers(np.concatenate(logits), np.concatenate(scores) if scores else None)


def run_logits(
    engine: Engine,
    pictures: npt.NDArray[np.uint8],
    rows: Sequence[int],
    advance: Callable[[int], Any] = lambda done: None,
) -> npt.NDArray[np.float32]:
    """Logits (n, K) alone, as `run_answers`."""
    return run_answers(engine, pictures, rows, advance).logits


def compare_evidence(
    engine: Engine, inputs: npt.NDArray[np.uint8], bias: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]
) -> Evidence:
    """Evidence of inputs uint8 (N, H, W, 1) against the head's `bias` (K,) and the `reference`'s maps (N, h, w, K)."""
    residuals, correlations = [], []
    for start in range(0, len(inputs), BATCH):
        batch, theirs = inputs[start : start + BATCH], reference[start : start + BATCH]
        ours = engine.run(batch)
        total = ours.evidence.astype(np.float64).sum(axis=(1, 2)) + bias
        residuals.append(np.abs(ours.logits - total))
        correlations += [_correlation(a.ravel(), b.ravel()) for a, b in zip(ours.evidence, theirs, strict=True)]
    joined = np.concatenate(residuals)
    return Evidence(
        len(inputs), float(joined.mean()), float(joined.max()), float(np.mean(correlations)), float(min(correlations))
    )


def _correlation(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> float:
    a, b = (values.astype(np.float64) - values.mean(dtype=np.float64) for values in (ours, theirs))
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / scale) if scale else 0.0


def compare(
    engine: Engine,
    split: str,
    reference: Logits,
    logits: npt.NDArray[np.float32],
    temperature: float,
    groups: Sequence[str] | None = None,
) -> Parity:
    """An artifact's `logits` (N, K) against the reference's, picture by picture in the same order.

    `groups` (N,) name what is drawn as a whole for the drop's interval; None: every picture is one.
    """
    theirs = probabilities(reference.logits, temperature)
    ours = probabilities(logits, temperature)
    dp = np.abs(ours - theirs).max(axis=1)
    answers, expected = logits.argmax(axis=1), reference.logits.argmax(axis=1)
    flipped = answers != expected
    second, first = np.sort(theirs, axis=1)[:, -2:].T
    lost = (expected == reference.classes).astype(np.float64) - (answers == reference.classes)
    moved = logit_errors(logits, reference.logits)
    drop_interval, logits_interval = _intervals(lost, moved, groups)
    return Parity(
        engine=engine.name,
        provider=engine.provider,
        split=split,
        pictures=len(logits),
        flips=int(flipped.sum()),
        flips_interval95=wilson_interval(int(flipped.sum()), len(flipped)),
        flipped_files=tuple(reference.files[i] for i in np.flatnonzero(flipped)),
        # Written so that a NaN counts.
        decided_flips=int((flipped & ~(first - second < EDGE)).sum()),
        max_dp=float(dp.max()),
        p99_dp=float(np.percentile(dp, 99)),
        mean_dp=float(dp.mean()),
        p99_logits=float(np.percentile(moved, 100 * TAIL, method="inverted_cdf")),
        p99_logits_interval95=logits_interval,
        max_dlogit=float(np.abs(logits - reference.logits).max()),
        accuracy=float((answers == reference.classes).mean()),
        reference_accuracy=float((expected == reference.classes).mean()),
        drop_interval95=drop_interval,
        ece=_ece(reference.classes, ours),
        reference_ece=_ece(reference.classes, theirs),
    )


def _ece(classes: npt.NDArray[np.int64], calibrated: npt.NDArray[np.float64]) -> float:
    value = expected_calibration_error(classes, calibrated).value
    assert value is not None  # there are pictures
    return value


def _intervals(
    lost: npt.NDArray[np.float64], moved: npt.NDArray[np.float64], groups: Sequence[str] | None
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """95 % intervals by bootstrap over groups: of the mean of `lost` (N,), and of the `TAIL` of `moved` (N,).

    None where all replicates are equal.
    """
    group_of = np.arange(len(lost)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    everything, order = np.ones(len(lost)), np.argsort(moved)
    means, tails = [], []
    for draw in draws(group_of.astype(np.int64), REPLICATES, 0):
        means.append(draw.total(lost) / draw.total(everything))
        counted = draw.of_pictures(order).cumsum(axis=1)  # (R, N): how many pictures have moved so far or less
        tails.append(moved[order][(counted < TAIL * counted[:, -1:]).sum(axis=1)])
    return percentile_interval(np.concatenate(means)), percentile_interval(np.concatenate(tails))


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
