"""Two models on the same films: where one is right and the other wrong; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest  # type: ignore[import-untyped]

from edgecxr.errors import DataError
from edgecxr.lab.evaluation.bootstrap import REPLICATES, Bools, Draws, Figure, Floats, Ints, ratio, with_intervals
from edgecxr.lab.evaluation.metrics import share
from edgecxr.lab.evaluation.score import Scored


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p of the films that only one of two models got right, were both equally often right.

    Exact: a fair coin for each of these films (McNemar, Psychometrika 12, 1947). 1 where there are none.
    """
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def paired(
    labels: Sequence[str],
    classes: Ints,
    first: Ints,
    second: Ints,
    groups: Sequence[str],
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> list[dict[str, Any]]:
    """A row over all films (label None), then one for each class that has any.

    `classes` (N,), and the answers `first` and `second` (N,), are indices into `labels`. `difference` is the first
    model's share of right answers less the second's, with an interval by bootstrap over `groups` (N,); `p_value` is
    `mcnemar`'s, which takes films for independent of each other, so that where groups are large the interval counts.
    """
    everything: Bools = np.ones(len(classes), dtype=bool)
    parts = [(None, everything), *((label, classes == index) for index, label in enumerate(labels))]
    rows = [_row(label, of, first == classes, second == classes) for label, of in parts if of.any()]
    group_of: Ints = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)[1].astype(np.int64)
    found: list[dict[str, Any]] = with_intervals(rows, group_of, replicates=replicates, seed=seed)
    return found


def _row(label: str | None, of: Bools, first: Bools, second: Bools) -> dict[str, Any]:
    only_first, only_second = int((of & first & ~second).sum()), int((of & second & ~first).sum())
    gained: Floats = (of & first).astype(np.float64) - (of & second)

    def replicate(draws: Draws) -> Floats:
        return ratio(draws.total(gained), draws.total(of))

    return {
        "label": label,
        "first": share(first, of),
        "second": share(second, of),
        "only_first": only_first,
        "only_second": only_second,
        "difference": Figure((only_first - only_second) / int(of.sum()), replicate, (of,)),
        "p_value": mcnemar(only_first, only_second),
    }


def compared(labels: Sequence[str], first: Scored, second: Scored, seed: int) -> list[dict[str, Any]]:
    """`paired` of the films that both models scored, known by their file; raises DataError where there are none."""
    place = {example.file: index for index, example in enumerate(second.examples)}
    ours = [index for index, example in enumerate(first.examples) if example.file in place]
    if not ours:
        raise DataError("two models are compared on the films that both scored, got none")
    examples = [first.examples[index] for index in ours]
    theirs = [place[example.file] for example in examples]
    return paired(
        labels,
        np.array([labels.index(example.label) for example in examples], dtype=np.int64),
        first.logits[ours].argmax(axis=1),
        second.logits[theirs].argmax(axis=1),
        [example.group for example in examples],
        seed=seed,
    )
