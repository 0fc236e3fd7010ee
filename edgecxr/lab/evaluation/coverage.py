"""What silence is worth: how many films are answered, how often those are right, and risk against coverage; pure.

Everywhere `classes` (N,) are true classes and `answers` (N,) the most probable ones, indices into the labels;
`probabilities` (N, K) sum to 1, and `ood` (N,) is higher the further a picture is from frontal chest films.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgecxr.lab.evaluation.bootstrap import Bools, Floats, Ints
from edgecxr.lab.evaluation.metrics import auroc, share

SHARES = (1.0, 0.98, 0.95, 0.9, 0.8)  # coverages at which the risk is named
MAX_POINTS = 200  # of a curve in a report


def silence(
    classes: Ints, answers: Ints, probabilities: Floats, ood: Floats, threshold: float, sources: Sequence[str]
) -> dict[str, Any]:
    """Where pictures of ood `threshold` or more aren't answered: rows for all films and for each source, with Figures.

    `sources` (N,) says where each is from, "" where that isn't known. A row has the share that is `answered`, the
    `accuracy` of what is answered and that `of_all`, how well the ood and the probability tell wrong answers
    (`finds_wrong`, AUROC), and the risk against coverage of both.
    """
    given = np.array(sources, dtype=object)
    parts = [("", np.ones(len(classes), dtype=bool))]
    parts += [(name, given == name) for name in sorted({*sources} - {""})]
    doubts = {"ood": ood, "probability": -probabilities.max(axis=1) if len(classes) else ood}
    wrong, answered = answers != classes, ood < threshold
    rows = [
        {
            "source": name,
            "answered": share(answered, mine),
            "accuracy": share(~wrong, mine & answered),
            "of_all": share(~wrong, mine),
            "finds_wrong": {doubt: auroc(wrong, scores, mine) for doubt, scores in doubts.items()},
            "risk": {doubt: _risk(wrong[mine], scores[mine]) for doubt, scores in doubts.items()},
        }
        for name, mine in parts
    ]
    return {"threshold": threshold, "rows": rows}


def risk_coverage(wrong: Bools, doubts: Floats) -> tuple[Floats, Floats]:
    """(coverage, risk), each (M,): the share of pictures that is answered, and the share of those that is `wrong`.

    The pictures (N,) of the least doubt are answered first, those of equal doubt together: M is the number of
    different doubts. El-Yaniv and Wiener, "On the Foundations of Noise-free Selective Classification", JMLR 11, 2010;
    Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS 2017.
    """
    order = np.argsort(doubts, kind="stable")
    last = np.flatnonzero(np.diff(doubts[order], append=np.inf))  # picture of each doubt
    answered = last + 1.0
    return answered / len(doubts), np.cumsum(wrong[order])[last] / answered


def risk_at(coverage: Floats, risk: Floats, least: float) -> float:
    """The risk where at least this share is answered, and no more pictures than that takes."""
    return float(risk[np.searchsorted(coverage, least - 1e-12)])


def _risk(wrong: Bools, doubts: Floats) -> dict[str, Any] | None:
    if not len(wrong):
        return None
    coverage, risk = risk_coverage(wrong, doubts)
    kept = np.unique(np.linspace(0, len(coverage) - 1, MAX_POINTS).round().astype(int))
    return {
        "at": [{"coverage": least, "risk": risk_at(coverage, risk, least)} for least in SHARES],
        "curve": {"coverage": coverage[kept].tolist(), "risk": risk[kept].tolist()},
    }
