"""Bootstrap over groups: what a figure would have been with other patients; vectorised over replicates.

A group (a patient, or near-duplicates) is drawn as a whole, so that pictures which resemble each other never count as
independent evidence: the cluster bootstrap (Field and Welsh, "Bootstrapping clustered data", JRSS B 69, 2007).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.lab.evaluation.intervals import percentile_interval, wilson_interval

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

REPLICATES = 1000
CHUNK = 1 << 18  # weights in hand at a time: 2 MB stay in a core's cache, and memory is bounded for any data


@dataclass(frozen=True)
class Draws:
    """Some replicates: how often each group was drawn in each."""

    weights: Floats  # (R, G), whole numbers
    group_of: Ints  # (N,), the group of each picture

    def total(self, values: npt.NDArray[Any]) -> Floats:
        """Sum over pictures of `values` (N,) or (N, C), each as often as its group was drawn: (R,) or (R, C)."""
        groups = self.weights.shape[1]
        columns = values.reshape(len(values), -1).T
        by_group = np.stack([np.bincount(self.group_of, column, groups) for column in columns])  # (C, G)
        result: Floats = (self.weights @ by_group.T).reshape(-1, *values.shape[1:])
        return result

    def of_pictures(self, order: Ints) -> Floats:
        """How often each picture was drawn, (R, n), for the pictures `order` (n,)."""
        return self.weights[:, self.group_of[order]]


@dataclass(frozen=True)
class Figure:
    """One number of a report: its value, and what it is in resampled data.

    `rests_on` are the sets of pictures (N,) that the figure compares or averages over: each has to hold two groups or
    more for resampling groups to say anything. A figure with `hits` is a proportion: hits among `rests_on[0]`.
    """

    value: float | None  # None where these data leave it undefined
    replicate: Callable[[Draws], Floats]  # (R,), NaN where a replicate leaves it undefined
    rests_on: tuple[Bools, ...]
    hits: int | None = None

    def to_json(self, replicates: Floats, group_of: Ints) -> dict[str, Any]:
        """Value, interval and method; for a proportion also hits, total and the groups among the total."""
        groups = min((len(np.unique(group_of[pictures])) for pictures in self.rests_on), default=0)
        interval, method = self._interval(replicates, groups)
        found = {"value": self.value, "interval95": None if interval is None else list(interval), "method": method}
        if self.hits is not None:
            found |= {"hits": self.hits, "total": int(self.rests_on[0].sum()), "groups": groups}
        return found

    def _interval(self, replicates: Floats, groups: int) -> tuple[tuple[float, float] | None, str | None]:
        if self.value is None or groups == 0:
            return None, None
        if self.hits is not None and self.value in (0.0, 1.0):
            # Every replicate repeats the value. All groups agree to the last picture, so the group is what counts.
            return wilson_interval(round(self.value) * groups, groups), "wilson"
        found = percentile_interval(replicates) if groups > 1 else None
        return found, None if found is None else "bootstrap"


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Elementwise quotient, NaN where the denominator is 0."""
    result: Floats = np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
    return result


def draws(group_of: Ints, replicates: int, seed: int) -> Iterator[Draws]:
    """The replicates in chunks; the same ones for a seed, however they are cut."""
    groups = int(group_of.max()) + 1
    rng = np.random.default_rng(seed)
    rows = max(1, CHUNK // max(groups, len(group_of)))
    for start in range(0, replicates, rows):
        count = min(rows, replicates - start)
        drawn = rng.integers(0, groups, (count, groups)) + groups * np.arange(count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=count * groups).reshape(count, groups)
        yield Draws(weights.astype(np.float64), group_of)


def with_intervals(
    tree: Any,
    group_of: Ints,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    advance: Callable[[int, int], Any] = lambda done, total: None,
) -> Any:
    """`tree` (nested mappings and sequences) with each Figure replaced by its JSON; the rest stays as it is.

    `advance` is told how many of how many replicates are done.
    """
    figures = list(_figures(tree))
    found: list[list[Floats]] = [[] for _ in figures]
    if len(group_of):
        done = 0
        for part in draws(group_of, replicates, seed):
            for figure, rows in zip(figures, found, strict=True):
                if figure.value is not None:
                    rows.append(figure.replicate(part))
            done += len(part.weights)
            advance(done, replicates)
    answers = iter(
        figure.to_json(np.concatenate(rows) if rows else np.empty(0), group_of)
        for figure, rows in zip(figures, found, strict=True)
    )
    return _replaced(tree, answers)


def _figures(tree: Any) -> Iterator[Figure]:
    if isinstance(tree, Figure):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _figures(value)
    elif isinstance(tree, Sequence) and not isinstance(tree, str):
        for value in tree:
            yield from _figures(value)


def _replaced(tree: Any, answers: Iterator[dict[str, Any]]) -> Any:
    if isinstance(tree, Figure):
        return next(answers)
    if isinstance(tree, Mapping):
        return {key: _replaced(value, answers) for key, value in tree.items()}
    if isinstance(tree, Sequence) and not isinstance(tree, str):
        return [_replaced(value, answers) for value in tree]
    return tree
