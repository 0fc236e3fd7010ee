"""Figures of a classifier: the value by scikit-learn, and the same figure as sums over resampled groups; pure.

Everywhere `classes` (N,) are true classes and `answers` (N,) the most probable ones, both indices into the labels, and
`probabilities` (N, K) the calibrated ones, in 0..1 and summing to 1. What the data leave undefined (no picture of a
class, say) is None, and is left out of the averages over classes.
"""

from __future__ import annotations

import numpy as np
from sklearn import metrics as sk

from edgecxr.lab.evaluation.bootstrap import Bools, Draws, Figure, Floats, Ints, ratio

MAX_ROC_POINTS = 200


def confusion(classes: Ints, answers: Ints, count: int) -> list[list[int]]:
    """Pictures by [true class][answer], for `count` classes."""
    # By hand: scikit-learn's refuses an empty table and warns of one class.
    table: list[list[int]] = np.bincount(classes * count + answers, minlength=count**2).reshape(count, count).tolist()
    return table


def share(hit: Bools, of: Bools) -> Figure:
    """The proportion of the pictures `of` (N,) that are a `hit` (N,)."""
    hits, total = int((hit & of).sum()), int(of.sum())

    def replicate(draws: Draws) -> Floats:
        return ratio(draws.total(hit & of), draws.total(of))

    return Figure(hits / total if total else None, replicate, (of,), hits)


def accuracy(classes: Ints, answers: Ints) -> Figure:
    """Share of the pictures whose answer is right."""
    return share(classes == answers, np.ones(len(classes), dtype=bool))


def sensitivity(classes: Ints, answers: Ints, index: int) -> Figure:
    """Share of the pictures of a class that were found (recall)."""
    return share(answers == index, classes == index)


def specificity(classes: Ints, answers: Ints, index: int) -> Figure:
    """Share of the pictures of other classes that weren't taken for this one."""
    return share(answers != index, classes != index)


def positive_predictive_value(classes: Ints, answers: Ints, index: int) -> Figure:
    """Share of the answers of this class that were right (precision), at the data's own shares of the classes.

    Undefined where the data hold no picture of the class: it would be 0 whatever the classifier does.
    """
    mine = classes == index
    return share(mine, (answers == index) & mine.any())


def balanced_accuracy(classes: Ints, answers: Ints) -> Figure:
    """Mean sensitivity of the classes present (Brodersen et al., ICPR 2010)."""
    present = np.unique(classes)

    def replicate(draws: Draws) -> Floats:
        mine = classes[:, None] == present
        return _mean_defined(ratio(draws.total(mine & (answers == classes)[:, None]), draws.total(mine)))

    value = None
    if len(present):
        value = float(sk.recall_score(classes, answers, labels=present, average="macro", zero_division=0.0))
    return Figure(value, replicate, tuple(classes == index for index in present))


def f1(classes: Ints, answers: Ints, index: int) -> Figure:
    """2 TP / (2 TP + FP + FN): harmonic mean of sensitivity and PPV. Undefined where the class is absent."""
    mine = classes == index
    value = None
    if mine.any():
        value = float(sk.f1_score(classes, answers, labels=[index], average="macro", zero_division=0.0))
    return Figure(value, lambda draws: _f1(draws, classes, answers, np.array([index]))[:, 0], (mine,))


def macro_f1(classes: Ints, answers: Ints) -> Figure:
    """Mean F1 of the classes present."""
    present = np.unique(classes)
    value = None
    if len(present):
        value = float(sk.f1_score(classes, answers, labels=present, average="macro", zero_division=0.0))
    return Figure(
        value,
        lambda draws: _mean_defined(_f1(draws, classes, answers, present)),
        tuple(classes == index for index in present),
    )


def auroc(positive: Bools, scores: Floats, among: Bools | None = None) -> Figure:
    """Area under the ROC curve: how often a positive picture scores above a negative one, a tie counting half.

    Undefined unless there are both among the pictures `among` (default: all).
    """
    among = np.ones(len(positive), dtype=bool) if among is None else among
    sides = (among & positive, among & ~positive)
    value = None
    if all(side.any() for side in sides):
        value = float(sk.roc_auc_score(positive[among], scores[among]))
    return Figure(value, lambda draws: _auroc(draws, positive, scores, among), sides)


def macro_auroc(classes: Ints, probabilities: Floats) -> Figure:
    """Mean one-against-rest AUROC of the classes that have one, each by its own probability."""
    figures = [auroc(classes == index, probabilities[:, index]) for index in range(probabilities.shape[1])]
    defined = [figure for figure in figures if figure.value is not None]

    def replicate(draws: Draws) -> Floats:
        return _mean_defined(np.stack([figure.replicate(draws) for figure in defined], axis=1))

    value = float(np.mean([figure.value for figure in defined])) if defined else None
    return Figure(value, replicate, tuple(side for figure in defined for side in figure.rests_on))


def mean(values: Floats) -> Figure:
    """The mean of a value per picture (N,)."""
    everything = np.ones(len(values), dtype=bool)
    return Figure(
        float(values.mean()) if len(values) else None,
        lambda draws: ratio(draws.total(values), draws.total(everything)),
        (everything,),
    )


def roc_curve(positive: Bools, scores: Floats) -> dict[str, list[float]] | None:
    """Corners of the ROC curve, at most MAX_ROC_POINTS of them, evenly thinned; None where AUROC is undefined."""
    if positive.all() or not positive.any():
        return None
    false_positive, found, _ = sk.roc_curve(positive, scores)
    kept = np.unique(np.linspace(0, len(found) - 1, MAX_ROC_POINTS).round().astype(int))
    return {"false_positive_rate": false_positive[kept].tolist(), "sensitivity": found[kept].tolist()}


def _f1(draws: Draws, classes: Ints, answers: Ints, indices: Ints) -> Floats:
    """F1 of each class (R, k), NaN in the replicates that lack its pictures."""
    mine, given = classes[:, None] == indices, answers[:, None] == indices
    true = draws.total(mine)
    return np.where(true > 0, ratio(2 * draws.total(mine & given), true + draws.total(given)), np.nan)


def _auroc(draws: Draws, positive: Bools, scores: Floats, among: Bools) -> Floats:
    """Weighted AUROC (R,): each picture counts as often as it was drawn."""
    chosen = np.flatnonzero(among)
    order = chosen[np.argsort(scores[chosen], kind="stable")]
    weights = draws.of_pictures(order)
    own = weights * positive[order]
    rest = weights - own
    first = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # where a score first occurs
    if len(first) < len(order):
        own, rest = np.add.reduceat(own, first, axis=1), np.add.reduceat(rest, first, axis=1)
    below = np.cumsum(rest, axis=1) - rest / 2  # a tie counts half
    return ratio((own * below).sum(axis=1), own.sum(axis=1) * rest.sum(axis=1))


def _mean_defined(values: Floats) -> Floats:
    """Mean over the columns (R, k) that are defined in a replicate; every replicate has one, for it holds pictures."""
    defined = np.isfinite(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1).astype(np.float64))
