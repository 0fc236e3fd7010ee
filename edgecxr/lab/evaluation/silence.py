"""Outliers and films scored by the artifact that runs, and int8 beside fp32: what is turned away, and what is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgecxr.engines.select import Asked
from edgecxr.errors import UnavailableError
from edgecxr.lab.dataset import Example
from edgecxr.lab.evaluation.turned_away import films_of, of_films, of_outliers
from edgecxr.lab.outliers import Outlier
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import Session, open_session

COMPARED = ("int8", "fp32")


def silence(
    session: Session,
    outliers: Sequence[Outlier],
    films: Sequence[Example],
    statuses: Mapping[str, str],
    data: str,
    advance: Callable[[int, int], Any] = lambda done, total: None,
) -> dict[str, Any]:
    """Shares of `outliers` turned away by kind and of `films` kept by source, an artifact a column.

    `statuses` are those of the films that `session` has scored already, by file, and `data` is what films are called
    that name no source. Films of labels that the model doesn't know are films too. Raises what opening a session does.
    """
    sessions = [session, *_beside(session)]
    controls = [outlier for outlier in outliers if outlier.use == "control"]
    unknown = [[film for film in films if film.file not in statuses], *([films] * (len(sessions) - 1))]
    total = len(sessions) * len(outliers) + sum(map(len, unknown))
    done = 0

    def run(one: Session, paths: list[Path]) -> list[str]:
        nonlocal done
        found: list[str] = []
        for prediction in pipeline.stream(one, paths):
            found.append(prediction.status)
            done += 1
            advance(done, total)
        return found

    of_each: list[Sequence[str]] = []
    kept: list[Sequence[str]] = []
    for one, some in zip(sessions, unknown, strict=True):
        of_each.append(run(one, [outlier.path for outlier in outliers]))
        scored = run(one, [film.path for film in some])
        known = {**statuses, **dict(zip((film.file for film in some), scored, strict=True))}
        control = [status for outlier, status in zip(outliers, of_each[-1], strict=True) if outlier.use == "control"]
        kept.append([*(known[film.file] for film in films), *control])
    names = [*films_of(films, session.bundle.labels, data), *(outlier.kind for outlier in controls)]
    return {
        "artifacts": [{"artifact": one.artifact.file, **one.provenance.__dict__} for one in sessions],
        **of_outliers(outliers, of_each),
        "films": of_films(names, kept),
    }


def _beside(session: Session) -> list[Session]:
    """The same engine on the bundle's other artifacts of COMPARED, as many as it holds and this device runs."""
    engine, plan = session.engine, session.plan
    found = []
    for precision in COMPARED:
        if precision == engine.precision:
            continue
        asked = Asked(engine.name, engine.device, precision)
        try:
            found.append(open_session(session.bundle, asked, **plan.__dict__))
        except UnavailableError:
            continue  # the bundle holds no such artifact, or a GPU runs none
    return found
