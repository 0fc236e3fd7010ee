"""What a site's labelled films can claim, how many that takes, and the fits of it; pure.

A group (a patient, or near-duplicates) is one piece of evidence: of its films the worst counts. Everywhere `classes`
(N,) are true classes, indices into the labels, and `groups` (N,) say which films belong together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import binom  # type: ignore[import-untyped]

from edgecxr.bundle import OperatingPoint
from edgecxr.errors import DataError
from edgecxr.lab.dataset import Dataset, Example, folds
from edgecxr.lab.evaluation import abstention
from edgecxr.lab.evaluation.bootstrap import Bools, Floats, Ints
from edgecxr.lab.evaluation.operating import SITE, TARGETS, fitted_point, midway

SPLIT = SITE  # as a bundle calls the films that its site's numbers were fitted on
CONFIDENCE = 0.95  # with which an operating point's sensitivity is promised
# Events that a regression needs for each parameter (Peduzzi et al., J Clin Epidemiol 49, 1996): a temperature is one
# parameter, and a wrong answer its rarer event.
WRONG = 10
LEAST_GROUPS = 4  # of a class, for two to fit and two to report

Kind = Literal["temperature", "operating point", "abstention"]


@dataclass(frozen=True)
class Claim:
    """Something that a site's bundle may say, and how many groups of films that takes."""

    kind: Kind
    label: str  # "" for all classes
    share: float | None  # the sensitivity, or the share of the films that is answered
    needed: int
    there: int  # of a temperature before anything is scored: all groups, of which some may be answered wrongly

    @property
    def possible(self) -> bool:
        return self.there >= self.needed

    @property
    def what(self) -> str:
        if self.kind == "temperature":
            return "the temperature"
        if self.kind == "operating point":
            return f"an operating point of {self.label} at {self.share:.0%}"
        return f"that {self.share:.1%} of {self.label} is answered"

    @property
    def of(self) -> str:
        return "groups that are answered wrongly" if self.kind == "temperature" else f"groups of {self.label}"

    @property
    def missing(self) -> str:
        """One sentence: what isn't claimed, and why."""
        return f"{self.what} isn't claimed, it needs {self.needed} {self.of} in the half that fits, got {self.there}"


def positives_needed(sensitivity: float) -> int:
    """Groups of a class of which the worst alone bounds the sensitivity from below with CONFIDENCE.

    n with sensitivity^n <= 1 - CONFIDENCE: a one-sided tolerance limit without a distribution (Wilks, Annals of
    Mathematical Statistics 12, 1941). 29 for 0.90, 59 for 0.95.
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(sensitivity))


def films_needed(kept: float) -> int:
    """Groups of which the largest score keeps the share `kept` of new ones: n / (n + 1) >= kept. 199 for 0.995."""
    return math.ceil(kept / (1 - kept) - 1e-9)


def halves(dataset: Dataset, seed: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """The films that fit and those that report, divided by group within each class; the same ones for a seed.

    Of an odd number of groups one more fits: what is fitted is what may be claimed.

    Raises DataError for films of one class, and for a class of fewer than LEAST_GROUPS groups.
    """
    if len(dataset.labels) < 2:
        raise DataError(
            f"calibration needs films of two classes or more, got only {', '.join(dataset.labels)}: {dataset.name}"
        )
    for label, count in groups_of(dataset.examples).items():
        if count < LEAST_GROUPS:
            raise DataError(
                f"calibration needs {LEAST_GROUPS} groups (patients) of each class, or --ignore-label for a class, "
                f"{label} has {count}: {dataset.name}"
            )
    divided = folds(dataset, 2, seed)[0]
    return divided.split("test"), tuple(example for example in divided.examples if example.split != "test")


def groups_of(examples: Sequence[Example]) -> dict[str, int]:
    """How many groups have films of each label, by label in the alphabet."""
    found = {(example.label, example.group) for example in examples}
    labels = sorted({label for label, _ in found})
    return {label: sum(one == label for one, _ in found) for label in labels}


def claims(groups: Mapping[str, int], total: int, kept: float | None) -> tuple[Claim, ...]:
    """What films may claim of which there are so many `groups` by label and in `total`.

    `kept` is the share of films to be answered, None for a network that doesn't say which it can't answer.
    """
    points = [
        Claim("operating point", label, target, positives_needed(target), count)
        for label, count in groups.items()
        for target in TARGETS
    ]
    answered = [] if kept is None else [(label, kept) for label in groups]
    return (
        Claim("temperature", "", None, WRONG, total),
        *points,
        *(Claim("abstention", label, share, films_needed(share), groups[label]) for label, share in answered),
    )


def wrong_groups(classes: Ints, logits: npt.NDArray[np.floating], groups: Sequence[str]) -> int:
    """Groups with a film whose most probable class by `logits` (N, K) isn't its own."""
    wrong = logits.argmax(axis=1) != classes
    return len({group for group, missed in zip(groups, wrong, strict=True) if missed})


def operating_points(
    labels: Sequence[str], classes: Ints, probabilities: Floats, groups: Sequence[str]
) -> tuple[OperatingPoint, ...]:
    """For each class and each of TARGETS, the threshold on its calibrated probability that finds that share of it.

    `probabilities` (N, K). With CONFIDENCE at least the share of new groups is found to the last film: the threshold is
    the r-th smallest of the groups' lowest scores, r as large as that allows. It lies midway to the next lower score,
    as those of `fit_operating_points` do. A class with too few groups gets none.
    """
    points = []
    for index, label in enumerate(labels):
        scores, mine = probabilities[:, index], classes == index
        lowest = -_largest(-scores, groups, mine)[::-1]  # ascending
        for target in TARGETS:
            rank = int(binom.ppf(1 - CONFIDENCE, len(lowest), 1 - target)) if len(lowest) else 0
            if rank == 0 or mine.all():
                continue
            threshold = midway(scores, float(lowest[rank - 1]))
            points.append(fitted_point(label, target, threshold, scores, mine, SPLIT))
    return tuple(points)


def thresholds(
    labels: Sequence[str], classes: Ints, ood: Floats, groups: Sequence[str], kept: float
) -> dict[str, abstention.Threshold]:
    """For each class that is there, from which `ood` (N,) on a film abstains so that the share `kept` is answered.

    Split conformal prediction within the class (Vovk, "Conditional validity of inductive conformal predictors", ACML
    2012): of new groups of the class that share is answered to the last film. A film's class isn't known where it is
    scored, so a bundle takes the largest.
    """
    found = {}
    for index, label in enumerate(labels):
        mine = classes == index
        if mine.any():
            found[label] = abstention.threshold(_largest(ood, groups, mine), kept)
    return found


def _largest(values: Floats, groups: Sequence[str], mine: Bools) -> Floats:
    """The largest of `values` (N,) of each group among the films `mine` (N,), ascending."""
    own = np.asarray(groups, dtype=object)[mine].astype(str)
    names, place = np.unique(own, return_inverse=True)
    found = np.full(len(names), -np.inf)
    np.maximum.at(found, place, values[mine])
    return np.sort(found)
