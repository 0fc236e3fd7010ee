"""`edgecxr train --folds K`: cross-validation, where each picture is a test picture exactly once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from edgecxr.errors import UsageError
from edgecxr.lab.dataset import Dataset, folds, read_dataset
from edgecxr.lab.evaluation.report import evaluate_logits
from edgecxr.lab.evaluation.temperature import fit_temperature
from edgecxr.lab.run import DESCRIPTION, FOLDS, Logits, check_new, read_run, write_json
from edgecxr.lab.train import checkpoint, storage
from edgecxr.lab.train.fit import Call, accuracy, fit_dataset, say_account, weights_identity
from edgecxr.lab.train.pictures import fingerprint
from edgecxr.lab.train.recipes import Recipe

SCHEMA = 1


def cross_validate(
    data: Path,
    folder: Path,
    recipe: Recipe,
    count: int,
    *,
    backbone_weights: str = "imagenet",
    seed: int = 0,
    where: Mapping[str, str] | None = None,
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
    if not resume:
        check_new(folder)
    if (folder / FOLDS).exists():
        raise UsageError(f"the cross-validation is finished, there is nothing to resume: {folder}")
    dataset = read_dataset(data)
    say_account(console, dataset)
    dataset = dataset.where(where) if where else dataset
    call = Call(data, recipe, backbone_weights, seed, where or {})
    parts = []
    for number, part in enumerate(folds(dataset, count, seed), start=1):
        run = folder / f"fold-{number}"
        if resume and (run / DESCRIPTION).is_file():
            _check_finished(run, call, part)
        else:
            console.print(f"fold {number} of {count}", highlight=False)
            note = {"fold": number, "folds": count}
            fit_dataset(call, part, run, resume=resume, console=console, note=note, **options)
        parts.append(_out_of_fold(run))
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


def _check_finished(run: Path, call: Call, dataset: Dataset) -> None:
    """Raise UsageError where the finished fold is another call's: its test pictures wouldn't be this fold's."""
    found = read_run(run).description
    expected = {
        "recipe": call.recipe.to_json(),
        "seed": call.seed,
        "data": fingerprint(dataset.examples),
        "backbone weights": weights_identity(call.backbone_weights),
    }
    then = {
        "recipe": found["recipe"],
        "seed": found["seed"],
        "data": found["data"]["fingerprint"],
        "backbone weights": found["backbone_weights"],
    }
    checkpoint.check_identity(then, expected)


def _out_of_fold(run: Path) -> tuple[Logits, float]:
    """The answers for the fold's test part, and the temperature fitted on its dev part."""
    fitted = read_run(run)
    dev = fitted.logits("dev")
    return fitted.logits("test"), fit_temperature(dev.logits, dev.classes).temperature


def _pooled(dataset: Dataset, parts: list[tuple[Logits, float]]) -> dict[str, Any]:
    by_file = {example.file: example for example in dataset.examples}
    examples = [by_file[file] for part, _ in parts for file in part.files]
    logits = np.concatenate([part.logits for part, _ in parts])
    temperatures = np.repeat([temperature for _, temperature in parts], [len(part.files) for part, _ in parts])
    return evaluate_logits(dataset.labels, examples, logits, temperatures)
