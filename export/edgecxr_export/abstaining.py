"""When a bundle gives no answer: the score, fitted on films and what is none, and each artifact's thresholds."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from edgecxr.bundle.thresholds import Abstention, Threshold
from edgecxr.errors import DataError, PictureRejected, UnavailableError
from edgecxr.lab.dataset import Example
from edgecxr.lab.evaluation import abstention
from edgecxr.lab.evaluation.altered import WAYS, alter
from edgecxr.lab.evaluation.intervals import wilson_interval
from edgecxr.lab.outliers import Outlier, check_apart
from edgecxr.lab.run import Run
from edgecxr.pictures import decode as images
from edgecxr.pictures import files
from edgecxr.pictures.preprocess import Contract
from edgecxr_export.graphs import ood
from edgecxr_export.graphs.artifacts import NetworkFile, openings
from edgecxr_export.labelled import DECIDING, Labelled, spread_over_origins
from edgecxr_export.parity.compare import run_answers
from edgecxr_export.parity.measure import KERAS_BATCH, Measured, bar

SPLIT = "dev"  # as the bundle calls the films of DECIDING, the half of it that chose nothing
FILMS = 2500  # of the training films that the score is fitted on, spread over classes and origins
ALTERED = 150  # of those that are altered, each way

Pictures = npt.NDArray[np.uint8]  # (N, H, W)
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Outliers:
    """Pictures that are no frontal films, decoded; those that may be learnt from."""

    name: str  # of their folder
    outliers: tuple[Outlier, ...]
    pictures: Pictures  # in the same order
    rejected: int  # further ones that aren't scored anyway


@dataclass(frozen=True)
class Sample:
    """Moments (N, D) of what a score is fitted on."""

    films: Floats
    unlike: Mapping[str, Floats]  # by kind


@dataclass(frozen=True)
class Abstaining:
    """What the bundle says about when it gives no answer."""

    fitted_on: Mapping[str, Any]
    said: Abstention

    @property
    def manifest(self) -> dict[str, Any]:
        """`abstention` of bundle.json."""
        return asdict(self.said)

    def metadata(self, artifact: NetworkFile) -> str:
        """What the artifact says of itself: JSON, with a threshold for each engine that computes its own precision."""
        own = {
            row.engine: row.threshold
            for row in self.said.thresholds
            if (row.artifact, row.precision) == (artifact.file, artifact.precision)
        }
        return json.dumps({**self.manifest, "thresholds": own}, sort_keys=True)


def decoded(folder: Path, everything: Sequence[Outlier], films: Sequence[Example], contract: Contract) -> Outliers:
    """Of the outliers of a folder those that may be learnt from: whose use is neither report nor control.

    Raises DataError where there are none, or where the folder holds one of the labelled `films`.
    """
    check_apart(everything, films)
    chosen, pictures, rejected = [], [], 0
    for outlier in everything:
        if outlier.use in ("report", "control"):
            continue
        try:
            picture = images.prepare(images.decode(files.read(outlier.path), contract), contract)
        except PictureRejected:
            rejected += 1
            continue
        chosen.append(outlier)
        pictures.append(picture)
    if not chosen:
        raise DataError(f"outliers to learn from are expected, none of {len(everything)} can be used: {folder}")
    return Outliers(folder.resolve().name, tuple(chosen), np.stack(pictures), rejected)


def altered_films(pictures: Pictures, rows: Sequence[int], way: str) -> Pictures:
    """The films at `rows`, altered one `way` of WAYS; the same bytes for the same rows."""
    place = list(WAYS).index(way)
    return np.stack([alter(pictures[row], way, len(pictures) * place + row) for row in rows])


def sample(run: Run, model: Any, data: Labelled, outliers: Outliers | None, console: Console) -> Sample:
    """The moments of the run's training films, of some of them altered, and of `outliers`; `model` is the reference."""
    extract = partial(_moments, ood.extractor(model, run.recipe))
    examples = data.dataset.examples
    rows, fewer = (spread_over_origins(examples, count) for count in (FILMS, ALTERED))
    console.print(f"learning what a film looks like from {len(rows)} films …")
    films = extract(data.pictures[np.asarray(rows)])
    unlike = {way: extract(altered_films(data.pictures, fewer, way)) for way in WAYS}
    if outliers is not None:
        shown = extract(outliers.pictures)
        for kind in dict.fromkeys(outlier.kind for outlier in outliers.outliers):
            unlike[kind] = shown[[outlier.kind == kind for outlier in outliers.outliers]]
    return Sample(films, unlike)


def _moments(model: Any, pictures: Pictures) -> Floats:
    found: Floats = np.asarray(model.predict(pictures[..., None], batch_size=KERAS_BATCH, verbose=0))
    return found


def fitted_on(data: Labelled, outliers: Outliers | None) -> dict[str, Any]:
    """On what the score was fitted: a part of reports/abstention.json."""
    examples = data.dataset.examples
    rows, fewer = (spread_over_origins(examples, count) for count in (FILMS, ALTERED))
    groups = Counter((examples[row].label, examples[row].origin) for row in rows)
    return {
        "films": len(rows),
        "groups": [{"label": label, "origin": origin, "pictures": n} for (label, origin), n in sorted(groups.items())],
        "altered": [{"way": way, "pictures": len(fewer)} for way in WAYS],
        "outliers": None if outliers is None else _kinds(outliers),
    }


def _kinds(outliers: Outliers) -> dict[str, Any]:
    """The outliers by kind and source, with their terms as the manifest has them, less the address of each picture."""
    members: dict[tuple[str, str], list[Outlier]] = defaultdict(list)
    for outlier in outliers.outliers:
        members[outlier.kind, outlier.source].append(outlier)
    return {
        "data": outliers.name,
        "rejected": outliers.rejected,
        "kinds": [
            {
                "kind": kind,
                "near": any(outlier.near for outlier in own),
                "source": source,
                "terms": sorted({outlier.licence.split("http")[0].strip() or "none stated" for outlier in own}),
                "pictures": len(own),
            }
            for (kind, source), own in sorted(members.items())
        ],
    }


def settle(measured: Sequence[Measured], data: Labelled, fitted_on: Mapping[str, Any], console: Console) -> Abstaining:
    """The thresholds of every artifact on every engine that is installed here, from the half of dev that chose nothing.

    What the gates' engine gave there is known; the others run it.
    """
    rows = []
    for each in measured:
        for name, precision in openings(each.artifact):
            scores = _scores(each, name, precision, data, console)
            if scores is not None:
                found = abstention.threshold(scores)
                rows.append(Threshold(each.artifact.file, name, precision, found.value))
    console.print(f"abstention keeps {found.kept:.1%} of films like the {found.pictures} of {DECIDING}", markup=False)
    return Abstaining(fitted_on, Abstention(found.kept, SPLIT, found.pictures, tuple(rows)))


def _scores(each: Measured, name: str, precision: str, data: Labelled, console: Console) -> Floats | None:
    """`ood` (N,) of the deciding half; None where the engine is installed and can't be used."""
    artifact = each.artifact
    if (name, precision) == (artifact.engine.name, artifact.precision):
        return each.ood[DECIDING]
    rows = data.rows(DECIDING)
    try:
        engine = artifact.open(name, precision, artifact.engine.threads)
    except UnavailableError:
        return None  # said where its golden vectors are missing
    with bar(console, f"{artifact.file} on {name}") as advance:
        return run_answers(engine, data.pictures, rows, lambda done: advance(done, len(rows))).ood


def report(found: Abstaining, measured: Sequence[Measured], data: Labelled) -> dict[str, Any]:
    """reports/abstention.json: on what the score was fitted, the thresholds, and which test films are turned away."""
    first = {row.artifact: row for row in reversed(found.said.thresholds)}
    test = []
    for each in measured:
        row = first[each.artifact.file]
        turned = _turned_away(each, row.threshold, data)
        test.append({"artifact": row.artifact, "engine": row.engine, "sources": turned})
    return {"schema": 1, "fitted_on": dict(found.fitted_on), **found.manifest, "split": DECIDING, "test": test}


def _turned_away(each: Measured, threshold: float, data: Labelled) -> list[dict[str, Any]]:
    """Of the test films of each source, how many abstain."""
    scores = each.ood["test"]
    assert scores is not None
    sources = [data.dataset.examples[row].source for row in data.rows("test")]
    found = []
    for source in sorted(set(sources)):
        own = scores[[name == source for name in sources]]
        hits = int((own >= threshold).sum())
        found.append(
            {"source": source, "abstained": hits, "pictures": len(own), "interval95": wilson_interval(hits, len(own))}
        )
    return found
