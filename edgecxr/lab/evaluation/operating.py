"""Operating points: the threshold on a class's probability at which a stated share of its pictures is found; pure.

The most probable class is no clinical decision: who must not miss a finding takes the threshold that finds 95 % of
it, and pays with the specificity stated beside. Fitted on one split, reported on others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgecxr.bundle import OperatingPoint
from edgecxr.lab.evaluation.bootstrap import Bools, Floats, Ints
from edgecxr.lab.evaluation.metrics import share

SITE = "site"  # the split of points whose sensitivity is a lower bound: more than it is what they promise
TARGETS = (0.90, 0.95)  # 0.99 would hang on a handful of dev pictures of the rarest class


def fit_operating_points(
    labels: Sequence[str], classes: Ints, probabilities: Floats, *, split: str, targets: Sequence[float] = TARGETS
) -> tuple[OperatingPoint, ...]:
    """For each class and target, the highest threshold on its calibrated probability that finds that share of it.

    `classes` (N,) are indices into `labels`, `probabilities` (N, K) the calibrated ones of `split`, on which the
    thresholds are fitted. A threshold lies midway between the scores that it divides, so that a last bit changed by
    another engine moves no picture across. A class without pictures, or without others to tell it from, gets none.
    """
    points = []
    for index, label in enumerate(labels):
        scores, mine = probabilities[:, index], classes == index
        if mine.all() or not mine.any():
            continue
        for target in targets:
            threshold = _threshold(scores, np.sort(scores[mine])[::-1], target)
            points.append(fitted_point(label, target, threshold, scores, mine, split))
    return tuple(points)


def fitted_point(
    label: str, target: float, threshold: float, scores: Floats, mine: Bools, split: str
) -> OperatingPoint:
    """The operating point of a threshold, with what it gives on the `scores` (N,) on which it was fitted.

    `mine` (N,) says which pictures are of the class; some are, and some aren't.
    """
    return OperatingPoint(
        label=label,
        target_sensitivity=target,
        threshold=threshold,
        sensitivity=float((scores[mine] >= threshold).mean()),
        specificity=float((scores[~mine] < threshold).mean()),
        split=split,
        pictures=len(scores),
    )


def at_operating_points(
    points: Sequence[OperatingPoint], labels: Sequence[str], classes: Ints, probabilities: Floats
) -> list[dict[str, Any]]:
    """What each point gives on these pictures: sensitivity, specificity and PPV as Figures, beside what was fitted.

    A picture is called positive where p(label) >= threshold. PPV holds at these data's share of the class.
    """
    rows = []
    for point in points:
        index = labels.index(point.label)
        positive, mine = probabilities[:, index] >= point.threshold, classes == index
        rows.append(
            {
                "label": point.label,
                "target_sensitivity": point.target_sensitivity,
                "threshold": point.threshold,
                "fitted": {
                    "split": point.split,
                    "pictures": point.pictures,
                    "sensitivity": point.sensitivity,
                    "specificity": point.specificity,
                },
                "sensitivity": share(positive, mine),
                "specificity": share(~positive, ~mine),
                "ppv": share(mine, positive & mine.any()),
            }
        )
    return rows


def unkept(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each row of `at_operating_points` whose interval excludes the sensitivity that it promises.

    The rows are those of a report, with their Figures as JSON. A row without an interval says nothing, and one that was
    fitted on a site's films promises at least that sensitivity.
    """
    sentences = []
    for row in rows:
        target, found = row["target_sensitivity"], row["sensitivity"]
        low, high = found["interval95"] or (target, target)
        if target > high or (target < low and row["fitted"]["split"] != SITE):
            sentences.append(
                f"{row['label']} at {target:.0%}: {found['value']:.1%} found ({low:.1%}–{high:.1%}), "
                f"{'less' if high < target else 'more'} than promised"
            )
    return sentences


def _threshold(scores: Floats, own: Floats, target: float) -> float:
    """Midway between the lowest score of the class that has to be found and the next lower score of any picture.

    `own` are the class's scores, highest first.
    """
    # The tolerance undoes what a product like 0.95 * 20 gains in binary.
    return midway(scores, own[max(0, int(np.ceil(target * len(own) - 1e-9)) - 1)])


def midway(scores: Floats, lowest: float) -> float:
    """The threshold midway between `lowest`, one of `scores` (N,) that has to be found, and the next lower of them."""
    lower = scores[scores < lowest]
    return float((lowest + (lower.max() if len(lower) else 0.0)) / 2)
