"""Copies of one film: equal decoded content, and near-duplicates found by perceptual hash and confirmed by detail.

Where the thresholds come from. Measured on 8,292 films of the Radiography Database and Kermany et al. (34 million
pairs; `group` in the manifest), 1,124 of DarkCovidNet and 150 originals against them, and by looking at pairs:

- Every one of 300 films that was coded as JPEG of quality 30, resized to 100 or 448 px, given a gamma of 0.6 or 1.6,
  cropped by 1 % a side or turned by 1 degree was found again; of crops by 2 % a side and black frames of 2 %, 96 %; of
  crops by 3 %, 71 %; by 5 %, 15 %. Turned by 3 degrees: none at the final threshold.
- Of the pairs of different groups, those from 0.95 up (75 within `MAX_DISTANCE`) showed one film, every one looked at:
  the groups had missed crops. From 0.85 to 0.90 they showed one patient on another day, below 0.80 mostly different
  people. Hardly any pair falls between 0.90 and 0.95, so `MIN_SIMILARITY` stands at the lower end of that gap.
- Beyond `MAX_DISTANCE`, among hashes 14 apart, the first false alarm at 0.86 appeared: black frames of the same shape.
- `MIN_OUTLINE` only saves work: it halves what is to be confirmed, and costs 4 in a hundred of the 3 % crops.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from edgecxr.lab.audit.align import CHUNK, aligned_similarity, outline_similarity, outlines
from edgecxr.lab.audit.films import Films

MAX_DISTANCE = 12  # of 64 bits that may differ; different films differ by 32 on average
MIN_OUTLINE = 0.70  # correlation of the outlines as they lie
MIN_SIMILARITY = 0.90  # correlation of the fine detail once fitted

_CELLS = 4_000_000  # of a block of the matrix of distances: 36 MB
_WAVE = 8  # chunks confirmed at a time; not the number of workers, so that this changes no result

Indices = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float32]
Advance = Callable[[int, int], None]  # films compared, of how many


@dataclass(frozen=True)
class DuplicateSet:
    """Films that are linked as copies of each other, by their positions; `similarity` is that of the weakest link."""

    members: tuple[int, ...]
    similarity: float


@dataclass(frozen=True)
class Match:
    """A film of one folder and its most similar copy in another, by their positions; 1.0 is equal content."""

    film: int
    other: int
    similarity: float


@dataclass(frozen=True)
class Prints:
    """What two films are compared by; row i of each belongs to film `positions[i]`, one for each distinct content."""

    positions: Indices  # (n,)
    phashes: npt.NDArray[np.uint64]  # (n,)
    thumbnails: npt.NDArray[np.uint8]  # (n, 64, 64)
    outlines: npt.NDArray[np.float16]  # (n, 32, 32)

    @classmethod
    def of(cls, films: Films) -> Prints:
        first: dict[bytes, int] = {}
        for position, content in enumerate(films.content):
            first.setdefault(content, position)
        rows = np.array(sorted(first.values()), dtype=np.intp)
        # Where nothing is left out, the thumbnails aren't copied: they are most of what is in memory.
        thumbnails = films.thumbnails if len(rows) == len(films) else films.thumbnails[rows]
        return cls(rows, films.phashes[rows], thumbnails, outlines(thumbnails))


def exact_sets(films: Films) -> list[DuplicateSet]:
    """Films whose decoded pixels are equal, whatever their files' names, formats and metadata."""
    return [DuplicateSet(members, 1.0) for members in _by_content(films).values() if len(members) > 1]


def near_sets(films: Films, prints: Prints, workers: int, progress: Advance) -> list[DuplicateSet]:
    """Films of different content that show one exposure, with their exact copies; connected links make one set."""
    forest = _Forest(len(prints.positions))
    for first, second, similarity in _links(prints, prints, workers, progress, forest.apart):
        forest.join(first, second, similarity)
    copies = _by_content(films)
    sets = []
    for rows, weakest in forest.trees():
        positions = [int(prints.positions[row]) for row in rows]
        members = sorted(member for p in positions for member in copies[films.content[p]])
        sets.append(DuplicateSet(tuple(members), weakest))
    return sets


def joined(exact: Sequence[DuplicateSet], near: Sequence[DuplicateSet]) -> list[DuplicateSet]:
    """Both as one: a near set holds the exact copies of its members already."""
    covered = {member for each in near for member in each.members}
    return [*near, *(each for each in exact if each.members[0] not in covered)]


def matches(
    films: Films, prints: Prints, others: Films, other_prints: Prints, workers: int, progress: Advance
) -> list[Match]:
    """For each film that has a copy in another folder, its most similar one there; ordered by film."""
    best: dict[int, tuple[float, int]] = {}  # row of prints -> similarity, row of other_prints
    there = {others.content[p]: row for row, p in enumerate(other_prints.positions)}
    for row, position in enumerate(prints.positions):
        if (same := there.get(films.content[position])) is not None:
            best[row] = (1.0, same)
    exact = np.array(sorted(best), dtype=np.intp)
    for first, second, similarity in _links(prints, other_prints, workers, progress, lambda i, j: ~np.isin(i, exact)):
        for row, other, value in zip(first.tolist(), second.tolist(), similarity.tolist(), strict=True):
            if value > best.get(row, (0.0, 0))[0]:
                best[row] = (value, other)
    copies = _by_content(films)
    found = [
        Match(member, int(other_prints.positions[other]), similarity)
        for row, (similarity, other) in best.items()
        for member in copies[films.content[prints.positions[row]]]
    ]
    return sorted(found, key=lambda match: match.film)


def components(size: int, sets: Iterable[Sequence[int]]) -> npt.NDArray[np.intp]:
    """For 0..size-1 a number (size,) that two share where a chain of `sets` connects them."""
    pairs = np.array([(members[0], member) for members in sets for member in members], dtype=np.intp).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    numbers: npt.NDArray[np.intp] = connected_components(graph, directed=False)[1].astype(np.intp)
    return numbers


def _by_content(films: Films) -> dict[bytes, tuple[int, ...]]:
    found: dict[bytes, list[int]] = defaultdict(list)
    for position, content in enumerate(films.content):
        found[content].append(position)
    return {content: tuple(members) for content, members in found.items()}


def _links(
    first: Prints,
    second: Prints,
    workers: int,
    progress: Advance,
    wanted: Callable[[Indices, Indices], npt.NDArray[np.bool_]],
) -> Iterator[tuple[Indices, Indices, Floats]]:
    """Confirmed pairs of rows with their similarity, of those that are `wanted` when their turn comes."""
    step = max(1, _CELLS // max(1, len(second.phashes)))
    starts = range(0, len(first.phashes), step)
    with ThreadPoolExecutor(workers, thread_name_prefix="edgecxr") as pool:
        for start in starts:
            i, j = _candidates(first, second, start, start + step)
            for at in range(0, len(i), _WAVE * CHUNK):
                rows, columns = i[at : at + _WAVE * CHUNK], j[at : at + _WAVE * CHUNK]
                open_ones = wanted(rows, columns)
                rows, columns = rows[open_ones], columns[open_ones]
                chunks = [slice(k, k + CHUNK) for k in range(0, len(rows), CHUNK)]
                similarities = pool.map(lambda c, r=rows, s=columns: _compare(first, second, r[c], s[c]), chunks)
                for chunk, similarity in zip(chunks, similarities, strict=True):
                    confirmed = similarity >= MIN_SIMILARITY
                    if confirmed.any():
                        yield rows[chunk][confirmed], columns[chunk][confirmed], similarity[confirmed]
            progress(min(start + step, len(first.phashes)), len(first.phashes))


def _candidates(first: Prints, second: Prints, begin: int, end: int) -> tuple[Indices, Indices]:
    """Rows `begin` to `end` of `first` and rows of `second` whose hashes and outlines are near; each pair once."""
    distance = np.bitwise_count(first.phashes[begin:end, None] ^ second.phashes[None, :])
    i, j = np.nonzero(distance <= MAX_DISTANCE)
    i += begin
    if first is second:
        i, j = i[j > i], j[j > i]
    near = np.empty(len(i), bool)
    for k in range(0, len(i), CHUNK):
        rows = slice(k, k + CHUNK)
        near[rows] = outline_similarity(first.outlines[i[rows]], second.outlines[j[rows]]) >= MIN_OUTLINE
    return i[near], j[near]


def _compare(first: Prints, second: Prints, i: Indices, j: Indices) -> Floats:
    return aligned_similarity(first.thumbnails[i], second.thumbnails[j], first.outlines[i], second.outlines[j])


class _Forest:
    """Which rows are connected: what is joined already needs no second look, however many copies there are."""

    def __init__(self, size: int) -> None:
        self.tree = np.arange(size)
        self.weakest: dict[int, float] = {}  # of each tree that has links

    def apart(self, first: Indices, second: Indices) -> npt.NDArray[np.bool_]:
        result: npt.NDArray[np.bool_] = self.tree[first] != self.tree[second]
        return result

    def join(self, first: Indices, second: Indices, similarity: Floats) -> None:
        for i, j, value in zip(first.tolist(), second.tolist(), similarity.tolist(), strict=True):
            kept, gone = sorted((int(self.tree[i]), int(self.tree[j])))
            if kept != gone:
                self.tree[self.tree == gone] = kept
                links = (value, self.weakest.get(kept, 1.0), self.weakest.pop(gone, 1.0))
                self.weakest[kept] = min(links)

    def trees(self) -> list[tuple[list[int], float]]:
        return [(np.flatnonzero(self.tree == tree).tolist(), low) for tree, low in sorted(self.weakest.items())]
