"""The tutorial's own experiment: its recipe, ImageNet weights, all 30 epochs; its split, and one without leaks.

    python benchmarks/tutorial.py DATA/radiography --where seed=1 --backbone-weights FILE \
        -o benchmarks/results/tutorial.json

The tutorial divides its films at random, 75 to 25, whoever they are of; near-equal films and films of one patient may
stand on both sides. The other split is the data's own: its test films are the validation, all others are learnt from.
Nothing is chosen on either, so a validation accuracy is what the tutorial called by that name. A call that was stopped
goes on with the split that is missing.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from data_parts import part

from edgecxr.lab.dataset import Dataset, Example, read_dataset, with_splits
from edgecxr.lab.evaluation.intervals import wilson_interval
from edgecxr.lab.run import read_run
from edgecxr.lab.train.fit import Call, default_cache, fit_dataset, versions
from edgecxr.lab.train.recipes import Recipe, recipe

SHARE = 0.25  # of the films, in the tutorial's validation
LAST = 10  # epochs whose mean is told beside the last one, which is luck of a few films
PUBLISHED = {"the tutorial": 0.9434, "Chowdhury et al. 2020": 0.983}
AS_TUTORIAL, WITHOUT_LEAKS = "at random, 75 to 25", "without leaks"


def at_random(dataset: Dataset, seed: int) -> Dataset:
    """The tutorial's split: every film by itself, the classes in proportion."""
    rng = np.random.default_rng(seed)
    watched: set[str] = set()
    for label in dataset.labels:
        files = sorted(e.file for e in dataset.examples if e.label == label)
        watched.update(rng.permutation(files)[: round(SHARE * len(files))].tolist())
    return _divided(dataset, watched)


def without_leaks(dataset: Dataset) -> Dataset:
    """The test films as validation; no group and no patient stands on both sides."""
    return _divided(dataset, {e.file for e in dataset.split("test")})


def _divided(dataset: Dataset, watched: set[str]) -> Dataset:
    """A RUN has three splits: one film a class of the validation is its test, and counts with the rest."""
    first = {
        label: min(e.file for e in dataset.examples if e.file in watched and e.label == label)
        for label in dataset.labels
    }

    def split(example: Example) -> str:
        if example.file not in watched:
            return "train"
        return "test" if example.file == first[example.label] else "dev"

    return replace(dataset, examples=tuple(replace(e, split=split(e)) for e in dataset.examples))


def divided_groups(examples: Sequence[Example]) -> int:
    """Validation films of which another film of the same group was learnt from."""
    sides: dict[str, set[bool]] = defaultdict(set)
    for example in examples:
        sides[example.group].add(example.split == "train")
    return sum(len(sides[e.group]) == 2 for e in examples if e.split != "train")


def fit(dataset: Dataset, chosen: Recipe, options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        call = Call((options.data,), chosen, options.backbone_weights, options.seed)
        fit_dataset(call, dataset, run, cache=default_cache(), workers=2)
        with (run / "history.csv").open(newline="") as file:
            epochs = [float(row["val_accuracy"]) for row in csv.DictReader(file)]
        parts = [read_run(run).logits(name) for name in ("dev", "test")]
    hits = sum(int((p.logits.argmax(axis=1) == p.classes).sum()) for p in parts)
    total = sum(len(p.files) for p in parts)
    return {
        "train_pictures": len(dataset.split("train")),
        "validation_pictures": total,
        "validation_pictures_whose_group_was_learnt_from": divided_groups(dataset.examples),
        "right": hits,
        "validation_accuracy": hits / total,
        "interval95": wilson_interval(hits, total),
        "mean_of_last_epochs": statistics.mean(epochs[-LAST:]),
        "best_epoch": {"epoch": int(np.argmax(epochs)) + 1, "validation_accuracy": max(epochs)},
        "epochs": epochs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--where", action="append", default=[], help="COLUMN=VALUE in the manifest")
    parser.add_argument("--backbone-weights", default="imagenet")
    parser.add_argument("--views", type=int, help="feature views (default: the recipe's)")
    parser.add_argument("--pictures", type=int, help="at most so many of each side, to try the script")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    dataset = read_dataset(options.data).where(dict(condition.split("=", 1) for condition in options.where))
    dataset = with_splits(dataset, options.seed)
    chosen = recipe("seed")
    if options.views is not None:
        chosen = replace(chosen, feature_views=options.views)
    splits = json.loads(options.output.read_text())["splits"] if options.output.is_file() else {}
    for name, divided in (
        (AS_TUTORIAL, at_random(dataset, options.seed)),
        (WITHOUT_LEAKS, without_leaks(dataset)),
    ):
        if name in splits:
            continue
        sizes = {"train": options.pictures, "dev": options.pictures} if options.pictures else {}
        splits[name] = fit(part(divided, sizes), chosen, options)
        report = {
            "what": "the tutorial's recipe on its own films",
            "published_validation_accuracy": PUBLISHED,
            "size": chosen.input_size,
            "views": chosen.feature_views,
            "seed": options.seed,
            "versions": versions(),
            "splits": splits,
        }
        options.output.write_text(json.dumps(report, indent=1) + "\n")
        print(f"{name}: {splits[name]['validation_accuracy']:.1%} of {splits[name]['validation_pictures']}", flush=True)


if __name__ == "__main__":
    main()
