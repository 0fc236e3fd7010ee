"""How well a label, or an origin, is told from what should show no disease: cross-validated logistic regression.

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
from sklearn.preprocessing import StandardScaler

from edgecxr.lab.audit.films import SIDE

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.intp]

FOLDS = 5
MIN_GROUPS = 10  # of a class: with fewer, a fold has hardly one to answer for
RESAMPLES = 1000  # of the bootstrap; its 2.5 % quantiles then rest on 25 values each
COMPONENTS = 64  # of the thumbnails' principal components
FITTED = 4096  # films that these are fitted to: 67 MB of float32
# Of the way from chance to certainty. A shortcut is claimed where the interval's lower bound is above it: a dozen
# questions are asked of each data set, and the bootstrap doesn't know how much the fits themselves vary.
MARGIN = 0.10
BLACK = slice(SIDE // 8, SIDE - SIDE // 8)  # the central three quarters of each side, which hold the lungs


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


def ask(targets: Sequence[str], units: Integers, rows: Integers, seed: int) -> Question | None:
    """The question to tell `targets`, one for each of `rows`; None where fewer than two have enough groups."""
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


def answer(question: Question, inputs: Floats, seed: int) -> Answer:
    """Tell the target of a question from `inputs` (N, columns) of all films, by models that saw no film of its unit.

    Classes count alike, however many films they have.
    """
    chosen = inputs[question.rows]
    told = np.empty(len(chosen), dtype=np.intp)
    for fold in question.folds:
        known = question.wanted[fold.train]
        if len(set(known.tolist())) < 2:  # so few units that the fold took all of a class
            told[fold.test] = known[0]
            continue
        model = LogisticRegression(class_weight="balanced", max_iter=300)
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


def property_inputs(values: Floats) -> Floats:
    """Properties (N, columns) and their squares, (N, 2 columns), so that a class of middling size is told too."""
    level = StandardScaler().fit_transform(values)
    square = StandardScaler().fit_transform(level**2)
    both: Floats = np.hstack([level, square])
    return both


def picture_inputs(thumbnails: npt.NDArray[np.uint8], seed: int, *, black_centre: bool) -> Floats:
    """Principal components (N, 64 or fewer) of thumbnails uint8 (N, 64, 64), the centre blacked out where asked for.

    No label is known to them, so that they are found once, for all folds and questions. All are scaled alike, by the
    first's deviation: scaled each to its own, those that are noise would drown a shortcut in a hundred films.
    """

    def pixels(part: npt.NDArray[np.uint8]) -> Floats:
        copy = part.astype(np.float32)
        if black_centre:
            copy[:, BLACK, BLACK] = 0
        return copy.reshape(len(part), -1)

    n = len(thumbnails)
    fitted = np.linspace(0, n - 1, min(n, FITTED)).astype(np.intp)
    components = PCA(min(COMPONENTS, len(fitted) - 1), svd_solver="randomized", random_state=seed)
    components.fit(pixels(thumbnails[fitted]))
    parts = [components.transform(pixels(thumbnails[k : k + FITTED])) for k in range(0, n, FITTED)]
    scores: Floats = np.concatenate(parts) / max(1.0, float(components.explained_variance_[0]) ** 0.5)
    return scores


def one_hot(values: Sequence[str]) -> Floats:
    """(N, number of values that `MIN_GROUPS` films or more have), 0 or 1."""
    common = sorted(value for value, count in Counter(values).items() if count >= MIN_GROUPS)
    return np.array([[value == other for other in common] for value in values], np.float32)
