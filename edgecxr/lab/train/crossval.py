"""`edgecxr train --folds K`: cross-validation, where each picture is a test picture exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from edgecxr.errors import UsageError
from edgecxr.lab.dataset import Dataset
from edgecxr.lab.evaluation.report import evaluate_logits
from edgecxr.lab.evaluation.temperature import fit_temperature
from edgecxr.lab.run import DESCRIPTION, FOLDS, Logits, check_new, read_run, write_json
from edgecxr.lab.selection import Selection
from edgecxr.lab.sources import read_datasets
from edgecxr.lab.train import checkpoint, storage
from edgecxr.lab.train.fit import Call, accuracy, fit_dataset, say_account, weights_identity
from edgecxr.lab.train.pictures import Corpus
from edgecxr.lab.train.recipes import Recipe
from edgecxr.views.terminal import printable

SCHEMA = 1


def cross_validate(
    data: Path | Sequence[Path],
    folder: Path,
    recipe: Recipe,
    count: int,
    *,
    backbone_weights: str = "imagenet",
    seed: int = 0,
    selection: Selection | None = None,
    resume: bool = False,
    console: Console | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Fit `recipe` once for each of `count` folds; a RUN each in `folder`/fold-1 …, and the report, also in folds.json.

    The report evaluates the out-of-fold answers together: each fold's logits on its test part, with the temperature
    fitted on its dev part. `edgecxr eval` of the folder gives the same figures. `options` are those of `fit`. With
    `resume`, folds that the same call has finished are taken as they are. Raises what `fit` raises.
    """
    console = console or Console(stderr=True, markup=False)
    check_output(folder, FOLDS, "cross-validation", resume=resume)
    folders = (data,) if isinstance(data, Path) else tuple(data)
    selection = selection or Selection()
    everything = read_datasets(folders)
    say_account(console, everything)
    dataset = selection.narrowed(everything)
    calls = [
        Call(folders, recipe, backbone_weights, seed, replace(selection, fold=(number, count)))
        for number in range(1, count + 1)
    ]
    made = [call.selection.of(everything, seed) for call in calls]  # what can't be is said before the first fit
    # Each picture is learnt from in some fold, and one contract for all of them means one decoding.
    options |= {"corpus": Corpus(dataset.examples, apart=True), "sized": dataset.examples}
    parts = []
    for number, (call, part) in enumerate(zip(calls, made, strict=True), start=1):
        run = folder / f"fold-{number}"
        fit_or_take(call, part, run, f"fold {number} of {count}", resume=resume, console=console, **options)
        parts.append(answers_of(run))
    report = {
        "schema": SCHEMA,
        "folds": count,
        "recipe": recipe.to_json(),
        "seed": seed,
        "accuracy_by_fold": [accuracy(part) for part, _ in parts],
        "temperatures": [temperature for _, temperature in parts],
        **_pooled(dataset, parts),
    }
    try:
        write_json(folder / FOLDS, report)
    except OSError as error:
        raise storage.failed("the report", folder, error) from None
    return report


def check_output(folder: Path, report: str, what: str, *, resume: bool) -> None:
    """Raise UsageError where the runs can't go to `folder`, or the `report` over them stands there already."""
    if not resume:
        check_new(folder)
    if (folder / report).exists():
        raise UsageError(f"the {what} is finished, there is nothing to resume: {folder}")


def fit_or_take(
    call: Call,
    dataset: Dataset,
    run: Path,
    title: str,
    *,
    corpus: Corpus,
    resume: bool,
    console: Console,
    **options: Any,
) -> None:
    """Fit one of several runs, or, with `resume`, take it as it is where the same call has finished it."""
    if resume and (run / DESCRIPTION).is_file():
        _check_finished(run, call, dataset, corpus)
    else:
        console.print(printable(title), highlight=False)
        fit_dataset(call, dataset, run, resume=resume, console=console, corpus=corpus, **options)


def _check_finished(run: Path, call: Call, dataset: Dataset, corpus: Corpus) -> None:
    """Raise UsageError where the finished fold is another call's: its test pictures wouldn't be this fold's."""
    found = read_run(run).description
    expected = {
        "recipe": call.recipe.to_json(),
        "seed": call.seed,
        "data": corpus.fingerprint(dataset.examples),
        "backbone weights": weights_identity(call.backbone_weights),
    }
    then = {
        "recipe": found["recipe"],
        "seed": found["seed"],
        "data": found["data"]["fingerprint"],
        "backbone weights": found["backbone_weights"],
    }
    checkpoint.check_identity(then, expected)


def answers_of(run: Path) -> tuple[Logits, float]:
    """The run's answers to its test split, and the temperature fitted on its dev split."""
    fitted = read_run(run)
    dev = fitted.logits("dev")
    return fitted.logits("test"), fit_temperature(dev.logits, dev.classes).temperature


def _pooled(dataset: Dataset, parts: list[tuple[Logits, float]]) -> dict[str, Any]:
    by_file = {example.file: example for example in dataset.examples}
    examples = [by_file[file] for part, _ in parts for file in part.files]
    logits = np.concatenate([part.logits for part, _ in parts])
    temperatures = np.repeat([temperature for _, temperature in parts], [len(part.files) for part, _ in parts])
    return evaluate_logits(dataset.labels, examples, logits, temperatures)
