"""The audit from a data set to a report: read once, find copies, ask for shortcuts, say what to do."""

from __future__ import annotations

import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

import edgecxr
from edgecxr.errors import DataError
from edgecxr.lab.audit import duplicates, findings, shortcuts
from edgecxr.lab.audit.duplicates import DuplicateSet, Prints
from edgecxr.lab.audit.films import Films, read_films
from edgecxr.lab.audit.findings import Finding
from edgecxr.lab.audit.probes import margin_sentence, probe, provenances
from edgecxr.lab.dataset import Dataset

SCHEMA = 1

Progress = Callable[[str, int, int], None]  # what is being done, how far, of how much


def audit(
    dataset: Dataset, others: Mapping[str, Dataset], *, workers: int, seed: int, progress: Progress = lambda *_: None
) -> dict[str, Any]:
    """The report on a data set, and on what `others` (by name) share with it.

    Raises DataError where not one picture can be read.
    """
    begin = time.perf_counter()
    # The threads are ours: with two more of BLAS on two busy cores the probes took over ten times as long.
    with threadpool_limits(1):
        films = _read(dataset, workers, progress, "reading")
        if not len(films):
            reason = films.rejected[0][2]
            raise DataError(f"none of the {len(films.rejected)} pictures can be read, the first: {reason}")
        prints = Prints.of(films)
        exact = duplicates.exact_sets(films)
        near = duplicates.near_sets(films, prints, workers, _stage(progress, "comparing"))
        found: list[Finding | None] = [
            findings.unreadable(films),
            findings.without_split(films),
            *findings.duplicates("exact", films, exact),
            *findings.duplicates("near", films, near),
            findings.divided("group", films),
            findings.divided("patient", films),
            findings.ungrouped(films, duplicates.joined(exact, near)),
        ]
        for name, other in others.items():
            other_films = _read(other, workers, progress, f"reading {name}")
            comparing = _stage(progress, f"comparing with {name}")
            matches = duplicates.matches(films, prints, other_films, Prints.of(other_films), workers, comparing)
            found.append(findings.against(name, films, other_films, matches))
        places = provenances(films)
        tables = {column: findings.provenance_table(column, films) for column in places}
        found += [findings.confounded(column, table) for column, table in tables.items()]
        units = _units(films, [*exact, *near])
        probes, notes = probe(films, units, seed, _stage(progress, "probing"))
    found += [*(p.finding() for p in probes), *notes]
    ordered = findings.in_order([finding for finding in found if finding is not None])
    splits = Counter(example.split for example in films.examples if example.split)
    return {
        "schema": SCHEMA,
        "edgecxr": edgecxr.__version__,
        "data": dataset.name,
        "seed": seed,
        "pictures": len(films),
        "labels": dict(sorted(Counter(example.label for example in films.examples).items())),
        "splits": dict(splits) or None,
        "against": {name: len(other.examples) for name, other in others.items()},
        "leaks": any(finding.severity == "leak" for finding in ordered),
        "findings": [finding.to_json() for finding in ordered],
        "provenance": tables,
        "method": {
            "hash_bits_apart_at_most": duplicates.MAX_DISTANCE,
            "outline_correlation_at_least": duplicates.MIN_OUTLINE,
            "detail_correlation_at_least": duplicates.MIN_SIMILARITY,
            "components": shortcuts.COMPONENTS,
            "folds": shortcuts.FOLDS,
            "resamples": shortcuts.RESAMPLES,
            "margin": shortcuts.MARGIN,
            "claim": margin_sentence(),
        },
        "seconds": time.perf_counter() - begin,
    }


def _stage(progress: Progress, what: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(what, done, total)


def _read(dataset: Dataset, workers: int, progress: Progress, what: str) -> Films:
    count = itertools.count(1)
    return read_films(dataset.examples, workers, lambda: progress(what, next(count), len(dataset.examples)))


def _units(films: Films, sets: Iterable[DuplicateSet]) -> npt.NDArray[np.intp]:
    """For each film the number of what it hangs together with: group, patient or copies. No fold divides a unit."""
    together: list[Sequence[int]] = [s.members for s in sets]
    for names in ([e.group for e in films.examples], [e.columns.get("patient", "") for e in films.examples]):
        members: dict[str, list[int]] = defaultdict(list)
        for position, name in enumerate(names):
            if name:
                members[name].append(position)
        together += members.values()
    return duplicates.components(len(films), together)
