"""What computing a frozen backbone once brings: time and accuracy of the seed recipe with and without it.

    python benchmarks/frozen_backbone.py DATA --backbone-weights FILE -o results.json [--where seed=1]

Both on the same pictures. Time, at the recipe's own size, both ways in turn: two epochs of plain `fit`, of which the
second (without what is compiled once) counts thirty times, against all thirty epochs on features, computing and
compiling included. Accuracy: the mean over the last ten epochs on dev, plain against features, for each seed; the
difference with its 95 % interval (Student's t over seeds).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from data_parts import part

from edgecxr.engines.select import fingerprint
from edgecxr.lab.dataset import Dataset, read_dataset, with_splits
from edgecxr.lab.train.fit import Call, default_cache, fit_dataset, versions
from edgecxr.lab.train.recipes import Recipe, recipe

SEEDS = (0, 1, 2)
T_95 = 4.303  # 97.5th percentile of Student's t with two degrees of freedom (any table of it)
LAST = 10  # epochs
TEST = 60  # pictures; the test split plays no part


def variant(size: int, views: int, epochs: int) -> Recipe:
    chosen = recipe("seed")
    stages = tuple(replace(stage, epochs=epochs) for stage in chosen.stages)
    return replace(chosen, input_size=size, feature_views=views, stages=stages)


def history(dataset: Dataset, chosen: Recipe, options: argparse.Namespace, seed: int) -> list[dict[str, float]]:
    """The rows of one fit; features are computed afresh."""
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) / "cache"
        cache.mkdir()
        for file in default_cache().glob("pictures-*.npy"):
            (cache / file.name).symlink_to(file)
        run = Path(scratch) / "run"
        fit_dataset(Call((options.data,), chosen, options.backbone_weights, seed), dataset, run, cache=cache)
        rows = np.genfromtxt(run / "history.csv", delimiter=",", names=True)
        return [dict(zip(rows.dtype.names, row, strict=True)) for row in np.atleast_1d(rows)]


def times(dataset: Dataset, options: argparse.Namespace) -> dict[str, Any]:
    """Both ways in turn, `--repeats` times: whatever else the machine does meanwhile meets the two alike."""
    size, epochs, views = recipe("seed").input_size, recipe("seed").stages[0].epochs, recipe("seed").feature_views
    repeats = []
    for _ in range(options.repeats):
        first, second = (row["seconds"] for row in history(dataset, variant(size, 0, 2), options, 0))
        total = sum(row["seconds"] for row in history(dataset, variant(size, views, epochs), options, 0))
        repeats.append(
            {
                "plain_two_epochs_seconds": [first, second],
                "features_all_epochs_seconds": total,
                "times_faster": epochs * second / total,
            }
        )
        print(repeats[-1], flush=True)
    faster = sorted(row["times_faster"] for row in repeats)
    return {
        "size": size,
        "epochs": epochs,
        "views": views,
        "train_pictures": len(dataset.split("train")),
        "dev_pictures": len(dataset.split("dev")),
        "repeats": repeats,
        "times_faster": {"median": statistics.median(faster), "min": faster[0], "max": faster[-1]},
    }


def accuracies(dataset: Dataset, options: argparse.Namespace) -> dict[str, Any]:
    epochs, views = recipe("seed").stages[0].epochs, recipe("seed").feature_views
    rows = []
    for seed in SEEDS:
        row: dict[str, Any] = {"seed": seed}
        for name, count in (("plain", 0), ("features", views)):
            fitted = history(dataset, variant(options.accuracy_size, count, epochs), options, seed)
            row[name] = statistics.mean(epoch["val_accuracy"] for epoch in fitted[-LAST:])
        rows.append({**row, "difference": row["features"] - row["plain"]})
        print(rows[-1], flush=True)
    differences = [row["difference"] for row in rows]
    mean = statistics.mean(differences)
    reach = T_95 * statistics.stdev(differences) / math.sqrt(len(differences))
    return {
        "size": options.accuracy_size,
        "train_pictures": len(dataset.split("train")),
        "dev_pictures": len(dataset.split("dev")),
        "seeds": rows,
        "difference": {"mean": mean, "interval95": [mean - reach, mean + reach]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone-weights", default="imagenet")
    parser.add_argument("--where", action="append", default=[], help="COLUMN=VALUE in the manifest")
    parser.add_argument("--train", type=int, help="training pictures, and a quarter as many of dev (default: all)")
    parser.add_argument("--accuracy-size", type=int, default=299, help="px, for the accuracy")
    parser.add_argument("--repeats", type=int, default=3, help="of the time measurement")
    parser.add_argument("--only", choices=("time", "accuracy"), help="measure one of the two, keep the other's figures")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    dataset = read_dataset(options.data).where(dict(condition.split("=", 1) for condition in options.where))
    dataset = with_splits(dataset, 0)
    report: dict[str, Any] = {"what": "a frozen backbone computed once"}
    if options.only and options.output.exists():
        report = json.loads(options.output.read_text())
    report |= {"machine": fingerprint(), "versions": versions()}
    dev = None if options.train is None else options.train // 4
    chosen = part(dataset, {"train": options.train, "dev": dev, "test": TEST})
    for name, measure in (("time", times), ("accuracy", accuracies)):
        if options.only not in (None, name):
            continue
        report[name] = measure(chosen, options)
        options.output.write_text(json.dumps(report, indent=1) + "\n")
        print(json.dumps(report[name], indent=1), flush=True)


if __name__ == "__main__":
    main()
