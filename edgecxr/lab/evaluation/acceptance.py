"""Is a bundle good enough here? Requirements on figures, judged by the bounds of their intervals; pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecxr.errors import UsageError
from edgecxr.lab.dataset import Example
from edgecxr.lab.evaluation import metrics
from edgecxr.lab.evaluation.bootstrap import Figure, Floats, Ints, with_intervals
from edgecxr.lab.evaluation.calibration import expected_calibration_error
from edgecxr.lab.evaluation.intervals import wilson_interval
from edgecxr.lab.evaluation.score import Scored
from edgecxr.scoring.postprocess import probabilities

OF_ALL = ("accuracy", "balanced_accuracy", "ece")
OF_A_CLASS = ("sensitivity", "specificity", "ppv", "auroc")
_REQUIREMENT = re.compile(r"\s*(\w+)\s*(?:\((.*)\))?\s*(>=|<=)\s*(\d*\.?\d+)\s*")


@dataclass(frozen=True)
class Requirement:
    """A figure that has to reach `bound`: from above for ece, from below for any other."""

    figure: str  # of OF_ALL or OF_A_CLASS
    label: str  # "" for a figure of all classes
    bound: float  # above 0 and below 1

    @property
    def at_most(self) -> bool:
        return self.figure == "ece"

    @property
    def name(self) -> str:
        return f"{self.figure}({self.label})" if self.label else self.figure

    def __str__(self) -> str:
        return f"{self.name}{'<=' if self.at_most else '>='}{self.bound:g}"

    def met(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound


def parse(text: str) -> Requirement:
    """A requirement as it was asked for; raises UsageError for one that can't be read."""
    found = _REQUIREMENT.fullmatch(text)
    if found:
        figure, label, sense, bound = found[1], (found[2] or "").strip(), found[3], float(found[4])
        fits = (figure in OF_ALL and found[2] is None) or (figure in OF_A_CLASS and label)
        if fits and sense == ("<=" if figure == "ece" else ">=") and 0 < bound < 1:
            return Requirement(figure, label, bound)
    of_a_class = ", ".join(f"{figure}(LABEL)" for figure in OF_A_CLASS)
    raise UsageError(
        f"--require expects accuracy, balanced_accuracy, {of_a_class} >= X, or ece <= X, with X between 0 and 1, "
        f"got {text[:80]!r}"
    )


def check_labels(requirements: Sequence[Requirement], labels: Sequence[str]) -> None:
    """Raise UsageError for a requirement on a class that the model doesn't know."""
    for wanted in requirements:
        if wanted.label and wanted.label not in labels:
            raise UsageError(f"--require needs a class of the model, {', '.join(labels)}, got {str(wanted)!r}")


def judge(
    requirements: Sequence[Requirement],
    labels: Sequence[str],
    scored: Scored,
    temperature: float | Floats,
    *,
    abstain_at: float | None = None,
    rejected: Sequence[Example] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """The verdict, as JSON: `passed`, how many films had no answer, and a row for each requirement.

    A film without an answer, abstained or `rejected`, isn't found and isn't taken for anything: it counts against
    accuracy and its class's sensitivity. AUROC and ECE are of the probabilities of all films that could be read. The
    lower bound of the 95 % interval decides, for ece the upper; a requirement that these films would leave open were
    every one answered rightly isn't met, and says so.
    """
    examples = [*scored.examples, *rejected]
    classes: Ints = np.array([labels.index(example.label) for example in examples], dtype=np.int64)
    raw: Floats = scored.logits / np.asarray(temperature, dtype=np.float64).reshape(-1, 1)
    none = len(labels)  # stands for no answer: no class's index
    answers: Ints = np.full(len(examples), none, dtype=np.int64)
    answers[: len(raw)] = raw.argmax(axis=1)
    abstained = 0
    if abstain_at is not None and scored.ood is not None:
        silent = scored.ood >= abstain_at
        answers[: len(raw)][silent] = none
        abstained = int(silent.sum())
    sides = (_Films(labels, classes, answers, probabilities(raw, 1.0), [example.group for example in examples]), seed)
    rows = [_row(wanted, *sides) for wanted in requirements]
    return {
        "passed": all(row["passed"] for row in rows),
        "pictures": len(examples),
        "abstained": abstained,
        "rejected": len(rejected),
        "requirements": rows,
    }


def refusal(verdict: dict[str, Any]) -> str:
    """One sentence for a verdict that isn't a pass."""
    return "the acceptance test failed: " + "; ".join(
        row["why"] for row in verdict["requirements"] if not row["passed"]
    )


@dataclass(frozen=True)
class _Films:
    """All films, those that were read first; `probabilities` (M, K) are of those."""

    labels: Sequence[str]
    classes: Ints  # (N,)
    answers: Ints  # (N,), one more than the last class where there is none
    probabilities: Floats
    groups: Sequence[str]

    def figure(self, wanted: Requirement) -> tuple[Figure, int]:
        """The figure, and how many of the films, from the first, it is of."""
        index = self.labels.index(wanted.label) if wanted.label else 0
        count = len(self.probabilities)
        read = self.classes[:count]
        match wanted.figure:
            case "accuracy":
                return metrics.accuracy(self.classes, self.answers), len(self.classes)
            case "balanced_accuracy":
                return metrics.balanced_accuracy(self.classes, self.answers), len(self.classes)
            case "sensitivity":
                return metrics.sensitivity(self.classes, self.answers, index), len(self.classes)
            case "specificity":
                return metrics.specificity(self.classes, self.answers, index), len(self.classes)
            case "ppv":
                return metrics.positive_predictive_value(self.classes, self.answers, index), len(self.classes)
            case "auroc":
                return metrics.auroc(read == index, self.probabilities[:, index]), count
        return expected_calibration_error(read, self.probabilities), count


def _row(wanted: Requirement, films: _Films, seed: int) -> dict[str, Any]:
    figure, count = films.figure(wanted)
    group_of = np.unique(np.asarray(films.groups[:count], dtype=object).astype(str), return_inverse=True)[1]
    group_of = group_of.astype(np.int64)
    found = with_intervals(figure, group_of, seed=seed)
    groups = [len(np.unique(group_of[pictures])) for pictures in figure.rests_on]
    decided, why = _decided(wanted, found, groups)
    return {
        "require": str(wanted),
        "figure": wanted.figure,
        "label": wanted.label or None,
        "bound": wanted.bound,
        **{key: found[key] for key in ("value", "interval95", "method")},
        "groups": min(groups, default=0),
        "deciding": decided,
        "passed": decided is not None and wanted.met(decided),
        "why": why,
    }


def _decided(wanted: Requirement, found: dict[str, Any], groups: Sequence[int]) -> tuple[float | None, str]:
    """The bound that decides, None where nothing can; and why, in a sentence."""
    sense = "at most" if wanted.at_most else "at least"
    if found["value"] is None:
        return None, f"{wanted.name} can't be decided, there is no film that it is of"
    best = _were_all_right(wanted.figure, groups)
    if not wanted.met(best):
        there = " and ".join(map(str, groups))
        needs = "" if len(groups) > 1 else f" and {_needed(wanted)} are needed"
        return None, (
            f"{wanted.name} {sense} {wanted.bound:g} can't be decided, there are {there} groups (patients){needs}: "
            f"were every film answered rightly, the bound would be {best:.3f}"
        )
    interval = found["interval95"]
    if interval is None and found["value"] != 1:
        return None, f"{wanted.name} is {found['value']:.3f} and can't be decided, these films give it no interval"
    # What is right everywhere doesn't vary where films are drawn anew, and has the bound that its films allow at best.
    low, high = interval or (best, 1.0)
    decided = high if wanted.at_most else low
    which = "upper" if wanted.at_most else "lower"
    verdict = "as required" if wanted.met(decided) else "required"
    return decided, (
        f"{wanted.name} is {found['value']:.3f}, the {which} bound {decided:.3f}, {sense} {wanted.bound:g} {verdict}"
    )


def _were_all_right(figure: str, groups: Sequence[int]) -> float:
    """The bound that so many groups would give were every film answered rightly, and surely.

    Wilson's of the share that is right; for balanced accuracy the mean of those of the classes. AUROC is at least the
    product of the shares of positives above a threshold and of others below it. ECE is at most what the share that is
    right may lack.
    """
    shares = [wilson_interval(count, count)[0] if count else 0.0 for count in groups]
    if figure == "balanced_accuracy":
        return sum(shares) / len(shares)
    return 1 - shares[0] if figure == "ece" else math.prod(shares)


def _needed(wanted: Requirement) -> int:
    """Groups of which `_were_all_right` meets a requirement on one share: n / (n + z^2) >= bound, z = 1.96."""
    share = 1 - wanted.bound if wanted.at_most else wanted.bound
    return math.ceil(1.959964**2 * share / (1 - share) - 1e-9)
