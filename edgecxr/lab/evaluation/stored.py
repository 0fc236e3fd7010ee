"""A model's answers to labelled pictures: a bundle's, scored on this device, or those that training stored."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecxr.bundle import load
from edgecxr.engines.select import Asked
from edgecxr.errors import UsageError
from edgecxr.lab import run as runs
from edgecxr.lab.dataset import Dataset, Example
from edgecxr.lab.evaluation.operating import fit_operating_points
from edgecxr.lab.evaluation.score import (
    Scored,
    check_ignored,
    check_logits,
    default_split,
    narrowed,
    run_split,
    score,
    select,
    stored,
)
from edgecxr.lab.evaluation.temperature import fit_temperature
from edgecxr.lab.outliers import Outlier, check_apart
from edgecxr.lab.selection import Selection
from edgecxr.lab.sources import read_datasets
from edgecxr.records.prediction import Prediction
from edgecxr.scoring.postprocess import probabilities
from edgecxr.scoring.session import open_session

# What else the report needs to know: data, labels, split, temperature, operating_points, provenance; and `account`, a
# line on what of the data folder was left out. Of a bundle also all `films` of the split, the `session` that scored
# and the `statuses` of those that it scored, by file.
Found = dict[str, Any]
Reader = Callable[[Path, Sequence[Path], str | None, Selection], tuple[Scored, Found]]


def reader_of(path: Path) -> Reader | None:
    """What reads the stored answers of a RUN, or of a cross-validation's folder of them; None for anything else."""
    readers: dict[str, Reader] = {runs.DESCRIPTION: of_run, runs.FOLDS: of_folds}
    return next((reader for file, reader in readers.items() if (path / file).is_file()), None)


def of_bundle(
    path: Path,
    data: Sequence[Path],
    split: str | None,
    films: Selection,
    asked: Asked,
    shape: Mapping[str, int | None],
    advance: Callable[[int, int], Any],
    outliers: Sequence[Outlier] = (),
) -> tuple[Scored, Found]:
    """Logits of the pictures through the bundle's pipeline; `asked` and `shape` are as
    `open_session` takes them.

    `advance` is told the number of pictures done, and of all. Where there are `outliers`, raises DataError before the
    first picture if one is among the data, and UsageError if the bundle answers every picture.
    """
    opened = load(None if str(path) == "-" else path)
    dataset = read_datasets(data)
    check_ignored(films.ignored_labels, dataset.labels, opened.labels)
    chosen = split or default_split(dataset)
    examples = select(films.wanted(dataset), opened.labels, chosen, films.ignored_labels)
    check_apart(outliers, dataset.examples)
    if outliers and opened.abstention is None:
        raise UsageError(f"--outliers needs a bundle that abstains, this one answers every picture: {opened.path}")
    session = open_session(opened, asked, workers=shape["workers"], threads=shape["threads"])
    done = itertools.count(1)
    statuses: list[str] = []

    def heard(prediction: Prediction) -> None:
        statuses.append(prediction.status)
        advance(next(done), len(examples))

    scored = score(session, examples, heard)
    return scored, {
        "data": dataset.name,
        "account": dataset.account,
        "labels": opened.labels,
        "split": chosen,
        "temperature": opened.temperature,
        "operating_points": opened.operating_points,
        "provenance": session.provenance.__dict__,
        "films": _films(films.wanted(dataset), chosen),
        "session": session,
        "statuses": dict(zip((example.file for example in examples), statuses, strict=True)),
    }


def _films(dataset: Dataset, split: str) -> tuple[Example, ...]:
    """Those of a split, whatever their label."""
    return dataset.examples if split == "all" else dataset.split(split)


def of_run(path: Path, data: Sequence[Path], split: str | None, films: Selection) -> tuple[Scored, Found]:
    """The logits that the run stored; temperature and operating points are fitted on those of dev, as an export's."""

    chosen = run_split(split)
    run = runs.read_run(path)
    dev, part = _logits(run, "dev"), _logits(run, chosen)
    dataset = _films_of(run, data)
    check_ignored(films.ignored_labels, dataset.labels, run.labels)
    scored = stored(dataset, run.labels, part.files, part.classes, part.logits)
    temperature = fit_temperature(dev.logits, dev.classes).temperature
    calibrated = probabilities(dev.logits, temperature)
    return narrowed(scored, films.wanted(dataset), films.ignored_labels), {
        "data": dataset.name,
        "account": dataset.account,
        "labels": run.labels,
        "split": chosen,
        "temperature": temperature,
        "operating_points": fit_operating_points(run.labels, dev.classes, calibrated, split="dev"),
        "provenance": _provenance_of(path),
    }


def of_folds(path: Path, data: Sequence[Path], split: str | None, films: Selection) -> tuple[Scored, Found]:
    """The out-of-fold logits of a cross-validation, each with the temperature fitted on its own fold's dev part.

    There are no operating points: each fold would have thresholds of its own, and none is kept for a bundle.
    """
    if split not in (None, "test"):
        raise UsageError(f"a cross-validation holds each picture's answer as a test picture only, got --split {split}")
    found = [runs.read_run(path / f"fold-{number}") for number in range(1, _fold_count(path) + 1)]
    if len({run.labels for run in found}) > 1:
        raise UsageError(f"not one cross-validation, its folds have different labels: {path}")
    dataset = _films_of(found[0], data)
    check_ignored(films.ignored_labels, dataset.labels, found[0].labels)
    parts = [_logits(run, "test") for run in found]
    files = [file for part in parts for file in part.files]
    classes = np.concatenate([part.classes for part in parts])
    logits = np.concatenate([part.logits for part in parts])
    scored = narrowed(
        stored(dataset, found[0].labels, files, classes, logits), films.wanted(dataset), films.ignored_labels
    )
    temperature_of: dict[str, float] = {}
    for run, part in zip(found, parts, strict=True):
        dev = _logits(run, "dev")
        temperature_of |= dict.fromkeys(part.files, fit_temperature(dev.logits, dev.classes).temperature)
    return scored, {
        "data": dataset.name,
        "account": dataset.account,
        "labels": found[0].labels,
        "split": f"test of {len(found)} folds",
        "temperature": np.array([temperature_of[example.file] for example in scored.examples]),
        "operating_points": (),
        "provenance": _provenance_of(path),
    }


def _fold_count(path: Path) -> int:
    """How many folds a cross-validation has; raises UsageError where its file doesn't say so."""
    try:
        count = json.loads((path / runs.FOLDS).read_text(encoding="utf-8"))["folds"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"not a cross-validation of edgecxr train ({type(error).__name__}): {path}") from None
    if type(count) is not int or count < 2:
        raise UsageError(f"a cross-validation has 2 folds or more, {runs.FOLDS} says {str(count)[:40]}: {path}")
    return count


def _logits(run: runs.Run, split: str) -> runs.Logits:
    """What the run stored of a split; raises DataError where it can't be used."""

    part = run.logits(split)
    check_logits(run.folder, split, len(run.labels), len(part.files), part.classes, part.logits)
    return part


def _films_of(run: runs.Run, data: Sequence[Path]) -> Dataset:
    """The labelled pictures in `data`, or where the run's were; raises UsageError where it doesn't say."""
    folders = data or run.data_folders
    if not folders:
        raise UsageError(f"the run doesn't say where its pictures are; give DATA: {run.folder}")
    return read_datasets(folders)


def _provenance_of(path: Path) -> dict[str, Any]:
    """What a bundle's pipeline would say of itself, for logits that Keras computed."""
    return {
        "model": f"run {path.resolve().name}",
        "bundle_sha256": None,
        "engine": "keras",
        "provider": None,
        "device": None,
        "precision": "fp32",
    }
