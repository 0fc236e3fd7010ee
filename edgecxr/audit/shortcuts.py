"""How well the label, or the origin, is told from what shows no disease: logistic regression, cross-validated by group.

The thumbnail with its centre blacked out is the test of Maguolo and Nanni, A critic evaluation of methods for COVID-19
automatic detection from X-ray images, Information Fusion 76 (2021): what the frame alone tells isn't in the lungs.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.intp]

FOLDS = 5
MIN_GROUPS = 10  # of a class: with fewer, a fold has hardly one to answer for
RESAMPLES = 1000  # of the bootstrap; its 2.5 % quantiles then rest on 25 values each
COMPONENTS = 64  # of the thumbnails' principal components
# Of the way from chance to certainty. A shortcut is claimed where the interval's lower bound is above it: a dozen
# questions are asked of each data set, and the bootstrap doesn't know how much the fits themselves vary. With random
# labels, 1 of 40 audits of 60 to 2,000 pictures made a claim at this margin and 12 of them at none.
MARGIN = 0.10
BLACK = slice(4, 28)  # of 32 px: the central three quarters of each side, which hold the lungs; 7/16 of the area stays


@dataclass(frozen=True)
class Fold:
    train: Integers
    test: Integers


@dataclass(frozen=True)
class Question:
    """A target to be told for some of the films: class numbers `wanted` (n,), units (n,), and folds over these rows."""

    classes: tuple[str, ...]
    left_out: tuple[str, ...]  # classes of too few groups
    rows: Integers  # (n,) positions of the films asked about
    wanted: Integers  # (n,)
    units: Integers  # (n,) 0..G-1; a unit is resampled, and put into a fold, as a whole
    folds: tuple[Fold, ...]

    @property
    def chance(self) -> float:
        return 1 / len(self.classes)


@dataclass(frozen=True)
class Answer:
    """How well it was told: balanced accuracy and the recall of each class, all 0..1; the interval covers 95 %."""

    balanced_accuracy: float
    interval: tuple[float, float]
    recalls: tuple[float, ...]

    def clear(self, chance: float) -> bool:
        """Whether even the lower bound is over chance by `MARGIN` of the way to 1."""
        return self.interval[0] > chance + MARGIN * (1 - chance)


def ask(targets: Sequence[str], units: npt.NDArray[np.intp], rows: Integers, seed: int) -> Question | None:
    """The question to tell `targets` apart (for each of `rows`); None where fewer than two classes have enough groups."""
    groups = {label: len({u for u, t in zip(units, targets, strict=True) if t == label}) for label in set(targets)}
    classes = tuple(sorted(label for label, count in groups.items() if count >= MIN_GROUPS))
    if len(classes) < 2:
        return None
    number = {label: index for index, label in enumerate(classes)}
    kept = np.array([label in number for label in targets])
    wanted = np.array([number[label] for label in targets if label in number], dtype=np.intp)
    _, numbered = np.unique(units[kept], return_inverse=True)
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    folds = [Fold(*pair) for pair in splitter.split(np.zeros(len(wanted)), wanted, numbered)]
    left_out = tuple(sorted(set(targets) - set(classes)))
    return Question(classes, left_out, rows[kept], wanted, numbered, tuple(folds))


def answer(question: Question, inputs: Floats, seed: int, *, pictures: bool = False) -> Answer:
    """Tell the target of a question from `inputs` (N, columns) of all films, by models that saw no film of its unit.

    Properties enter with their squares, so that a class of middling size is told too; `pictures` by their first
    `COMPONENTS` principal components. Classes count alike, however many films they have.
    """
    chosen = inputs[question.rows]
    told = np.empty(len(chosen), dtype=np.intp)
    for fold in question.folds:
        known = question.wanted[fold.train]
        if len(set(known.tolist())) < 2:  # so few units that the fold took all of a class
            told[fold.test] = known[0]
            continue
        model = _model(chosen[fold.train].shape, pictures, seed)
        with warnings.catch_warnings():
            # Classes that can be told perfectly have no finite optimum; the answers are long settled by then.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(chosen[fold.train], known)
        told[fold.test] = model.predict(chosen[fold.test])
    return score(question, told, seed)


def score(question: Question, told: Integers, seed: int) -> Answer:
    """Balanced accuracy of answers (n,), with a percentile interval of a bootstrap over units (Efron 1979)."""
    size, classes = int(question.units.max()) + 1, len(question.classes)
    totals, hits = np.zeros((size, classes)), np.zeros((size, classes))
    np.add.at(totals, (question.units, question.wanted), 1)
    np.add.at(hits, (question.units, question.wanted), told == question.wanted)
    recalls = hits.sum(axis=0) / totals.sum(axis=0)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(RESAMPLES):
        drawn = np.bincount(rng.integers(0, size, size), minlength=size)
        there = drawn @ totals
        values.append(float(np.mean((drawn @ hits)[there > 0] / there[there > 0])))
    low, high = np.quantile(values, (0.025, 0.975))
    return Answer(float(recalls.mean()), (float(low), float(high)), tuple(recalls.tolist()))


def picture_inputs(thumbnails: npt.NDArray[np.uint8], *, black_centre: bool) -> Floats:
    """Thumbnails uint8 (N, 64, 64) averaged to 32 x 32 px, 0..255, flat (N, 1024); the centre 0 where asked for."""
    n = len(thumbnails)
    small = np.empty((n, 32, 32), np.float32)
    for start in range(0, n, 4096):
        part = thumbnails[start : start + 4096]
        small[start : start + 4096] = part.reshape(-1, 32, 2, 32, 2).mean(axis=(2, 4), dtype=np.float32)
    if black_centre:
        small[:, BLACK, BLACK] = 0
    return small.reshape(n, -1)


def one_hot(values: Sequence[str]) -> Floats:
    """(N, number of distinct values), 0 or 1."""
    order = {value: index for index, value in enumerate(sorted(Counter(values)))}
    return np.eye(len(order), dtype=np.float32)[[order[value] for value in values]]


def _model(shape: tuple[int, ...], pictures: bool, seed: int):  # type: ignore[no-untyped-def]  # scikit-learn is untyped
    regression = LogisticRegression(class_weight="balanced", max_iter=300)
    if pictures:
        components = min(COMPONENTS, shape[0] - 1, shape[1])
        return make_pipeline(PCA(components, svd_solver="randomized", random_state=seed), StandardScaler(), regression)
    return make_pipeline(StandardScaler(), FunctionTransformer(_with_squares), StandardScaler(), regression)


def _with_squares(values: Floats) -> Floats:
    return np.hstack([values, values**2])
