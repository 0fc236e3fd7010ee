"""Logits against labels: the report, a dictionary of JSON's own types. The core: arrays in, no files, no engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.bundle import OperatingPoint
from edgecxr.errors import DataError
from edgecxr.lab.dataset import Example
from edgecxr.lab.evaluation import coverage, metrics, subsets
from edgecxr.lab.evaluation.bootstrap import REPLICATES, Figure, Floats, Ints, with_intervals
from edgecxr.lab.evaluation.calibration import calibration
from edgecxr.lab.evaluation.operating import at_operating_points
from edgecxr.scoring.postprocess import probabilities

SCHEMA = 2


def report(
    labels: Sequence[str],
    classes: npt.ArrayLike,
    logits: npt.ArrayLike,
    temperature: float | npt.NDArray[np.floating],
    groups: Sequence[str],
    origins: Sequence[str] | None = None,
    *,
    operating_points: Sequence[OperatingPoint] = (),
    ood: npt.ArrayLike | None = None,
    abstain_at: float | None = None,
    sources: Sequence[str] | None = None,
    seed: int = 0,
    replicates: int = REPLICATES,
    advance: Callable[[int, int], Any] = lambda done, total: None,
) -> dict[str, Any]:
    """Everything that logits and labels tell, with 95 % intervals by bootstrap over groups.

    `classes` (N,) are indices of the true classes into the K `labels`, `logits` (N, K) the uncalibrated outputs,
    `groups` (N,) name what is drawn as a whole (a patient, or near-duplicates), `origins` (N,) where a picture comes
    from ("" is unknown). `temperature` is the one that was fitted elsewhere, or one per picture (N,) where the
    pictures are held-out folds of several fits. `advance` is told how many of how many replicates are done.

    `ood` (N,) and `abstain_at` are of a model that abstains, and `sources` (N,) tell where a picture is from for that.
    Every figure is of all pictures, those that abstain among them, but for `silence`, which is None without.

    Each figure is {value, interval95, method} and a proportion also {hits, total, groups}; `method` is "bootstrap",
    "wilson" (a proportion of 0 or 1, over groups) or None where there is no interval. Undefined values are None. The
    same arguments give the same report. Raises DataError where a logit isn't finite, ValueError for arrays that don't
    fit each other.
    """
    true: Ints = np.asarray(classes, dtype=np.int64).reshape(-1)
    raw: Floats = np.asarray(logits, dtype=np.float64).reshape(len(true), len(labels))
    places = [""] * len(true) if origins is None else list(origins)
    if not len(groups) == len(places) == len(true):
        raise ValueError(f"expected {len(true)} groups and origins, got {len(groups)} and {len(places)}")
    if len(true) and not 0 <= true.min() <= true.max() < len(labels):
        raise ValueError(f"expected classes from 0 to {len(labels) - 1}, got {true.min()} to {true.max()}")
    if not np.isfinite(raw).all():
        raise DataError(f"expected finite logits, {int((~np.isfinite(raw)).any(axis=1).sum())} pictures have others")
    scaled = raw / np.asarray(temperature, dtype=np.float64).reshape(-1, 1)
    calibrated = probabilities(scaled, 1.0)
    answers: Ints = raw.argmax(axis=1) if len(true) else true
    group_of = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)[1].astype(np.int64)

    def of_each(figure: Callable[[Ints, Ints, int], Figure]) -> dict[str, Figure]:
        return {label: figure(true, answers, index) for index, label in enumerate(labels)}

    columns = {label: (true == index, calibrated[:, index]) for index, label in enumerate(labels)}
    tree = {
        "accuracy": metrics.accuracy(true, answers),
        "balanced_accuracy": metrics.balanced_accuracy(true, answers),
        "macro_f1": metrics.macro_f1(true, answers),
        "macro_auroc": metrics.macro_auroc(true, calibrated),
        "sensitivity": of_each(metrics.sensitivity),
        "specificity": of_each(metrics.specificity),
        "ppv": of_each(metrics.positive_predictive_value),
        "f1": of_each(metrics.f1),
        "auroc": {label: metrics.auroc(*column) for label, column in columns.items()},
        "confusion": metrics.confusion(true, answers, len(labels)),
        "calibration": {"before": calibration(true, probabilities(raw, 1.0)), "after": calibration(true, calibrated)},
        "by_origin": subsets.by_origin(labels, true, answers, places),
        "within_ages": subsets.within_ages(labels, true, scaled, places),
        "operating_points": at_operating_points(operating_points, labels, true, calibrated),
        "silence": None
        if ood is None or abstain_at is None
        else coverage.silence(
            true,
            answers,
            calibrated,
            np.asarray(ood, dtype=np.float64).reshape(len(true)),
            abstain_at,
            list(sources) if sources is not None else places,
        ),
        "roc": {label: metrics.roc_curve(*column) for label, column in columns.items()},
    }
    return {
        "schema": SCHEMA,
        "labels": list(labels),
        "pictures": len(true),
        "groups": int(group_of.max()) + 1 if len(true) else 0,
        "temperature": _temperatures(temperature),
        "intervals": {
            "level": 0.95,
            "method": "percentiles of a bootstrap over groups; Wilson over groups where a proportion is 0 or 1",
            "replicates": replicates,
            "seed": seed,
        },
        **with_intervals(tree, group_of, replicates=replicates, seed=seed, advance=advance),
    }


def evaluate_logits(
    labels: Sequence[str],
    examples: Sequence[Example],
    logits: npt.ArrayLike,
    temperature: float | npt.NDArray[np.floating],
    **options: Any,
) -> dict[str, Any]:
    """`report` of labelled pictures and their logits (N, K), in the same order; the options are those of `report`."""
    return report(
        labels,
        [labels.index(example.label) for example in examples],
        logits,
        temperature,
        [example.group for example in examples],
        [example.origin for example in examples],
        sources=[example.source or example.origin for example in examples],
        **options,
    )


def _temperatures(temperature: float | npt.NDArray[np.floating]) -> float | list[float]:
    """The one temperature, or the different ones in ascending order."""
    found: list[float] = np.unique(np.asarray(temperature, dtype=np.float64)).tolist()
    return found[0] if len(found) == 1 else found
