"""`edgecxr train --leave-one-out COLUMN`: a fit for each value of a manifest column, tested on that value alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from edgecxr.errors import DataError
from edgecxr.lab.dataset import Dataset, values_of
from edgecxr.lab.evaluation.report import evaluate_logits
from edgecxr.lab.run import LEFT_OUT, write_json
from edgecxr.lab.selection import Selection, check_told_apart
from edgecxr.lab.sources import read_datasets
from edgecxr.lab.train import storage
from edgecxr.lab.train.crossval import answers_of, check_output, fit_or_take
from edgecxr.lab.train.fit import Call, say_account
from edgecxr.lab.train.pictures import Corpus
from edgecxr.lab.train.recipes import Recipe
from edgecxr.views.terminal import printable

SCHEMA = 1
FIGURES = ("pictures", "groups", "temperature", "accuracy", "balanced_accuracy", "sensitivity", "auroc", "confusion")


def leave_one_out(
    data: Path | Sequence[Path],
    folder: Path,
    recipe: Recipe,
    column: str,
    *,
    backbone_weights: str = "imagenet",
    seed: int = 0,
    selection: Selection | None = None,
    resume: bool = False,
    console: Console | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Fit `recipe` once for each value of `column`, in a RUN each in `folder`; the report, also in left-out.json.

    Every film of the value is the test split of its fit; the others are learnt from and watched in their own splits,
    without their test films. A value without which a class vanishes, or with films of one class only, can't be tested:
    it is listed with the reason and not fitted. The contract's resolution is that of what the fit learns from.
    `options` are those of `fit`; with `resume`, runs that the same call has finished are taken as they are. Raises what
    `fit` raises, and DataError where no value can be tested.
    """
    console = console or Console(stderr=True, markup=False)
    check_output(folder, LEFT_OUT, "fit of each value", resume=resume)
    folders = (data,) if isinstance(data, Path) else tuple(data)
    selection = selection or Selection()
    everything = read_datasets(folders)
    say_account(console, everything)
    dataset = selection.narrowed(everything)
    values = values_of(dataset, column)
    if len(values) < 2:
        raise DataError(f"--leave-one-out needs a column of two values or more, {column} has {len(values)}")
    parts: list[tuple[Call, Dataset]] = []
    untested = []
    for value in values:
        call = Call(folders, recipe, backbone_weights, seed, replace(selection, held_out=(column, value)))
        try:
            part = call.selection.of(everything, seed)
            check_told_apart(part)
        except DataError as error:
            untested.append({"value": value, "reason": str(error)})
            console.print(printable(f"{value} can't be tested: {error}"), highlight=False)
        else:
            parts.append((call, part))
    if not parts:
        raise DataError(f"no value of {column} can be tested; of {values[0]!r}: {untested[0]['reason']}")
    corpus = Corpus(dataset.examples, apart=True)
    rows = []
    for number, (call, part) in enumerate(parts, start=1):
        assert call.selection.held_out
        value = call.selection.held_out[1]
        run = folder / f"{number}-{re.sub(r'[^A-Za-z0-9._-]+', '-', value)[:40].strip('-')}"
        title = f"{number} of {len(parts)}: without {value}"
        fit_or_take(call, part, run, title, corpus=corpus, resume=resume, console=console, **options)
        rows.append({"value": value, "run": run.name, **_figures(part, run)})
    report = {
        "schema": SCHEMA,
        "column": column,
        "labels": list(dataset.labels),
        "recipe": recipe.to_json(),
        "seed": seed,
        "values": rows,
        "untested": untested,
    }
    try:
        write_json(folder / LEFT_OUT, report)
    except OSError as error:
        raise storage.failed("the report", folder, error) from None
    return report


def _figures(dataset: Dataset, run: Path) -> dict[str, Any]:
    """What the run answers to the films that it has left out; figures are None for classes that they don't have."""
    stored, temperature = answers_of(run)
    by_file = {example.file: example for example in dataset.examples}
    examples = [by_file[file] for file in stored.files]
    found = evaluate_logits(dataset.labels, examples, stored.logits, temperature)
    return {"films": dict(Counter(example.label for example in examples)), **{name: found[name] for name in FIGURES}}
