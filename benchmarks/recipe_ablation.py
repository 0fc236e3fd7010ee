"""What three choices of the default recipe bring, measured cheaply: small pictures, part of the data, three seeds.

    python benchmarks/recipe_ablation.py DATA/radiography DATA/darkcovidnet --backbone-weights FILE -o results.json

Each variant switches one choice of `default` and is fitted with the same seeds on the same pictures. What is compared
is the accuracy on dev, and the balanced accuracy of covid and normal on the other source, whose near-duplicates in the
first are left out: differences are per seed, so that what a seed brings cancels. A run that was stopped goes on with
the fits that are missing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from data_parts import part

from edgecxr.lab.dataset import Example, read_dataset, with_splits
from edgecxr.lab.run import read_run
from edgecxr.lab.train import model, pictures
from edgecxr.lab.train.batches import predict
from edgecxr.lab.train.fit import Call, default_cache, fit_dataset
from edgecxr.lab.train.recipes import Recipe, recipe

SIZE = 128  # px
EPOCHS = 2  # of fine-tuning
SEEDS = (0, 1, 2)
TRAIN, DEV, TEST = 800, 400, 60  # pictures; the test split plays no part


def variants(size: int, epochs: int) -> dict[str, Recipe]:
    base = recipe("default")
    base = replace(base, input_size=size, stages=(*base.stages[:-1], replace(base.stages[-1], epochs=epochs)))
    changes = base.augmentation
    return {
        "default": base,
        "with a horizontal flip": replace(base, augmentation=replace(changes, flip=True)),
        "with weight averaging": replace(base, weight_averaging=0.99),
        "without resolution jitter": replace(base, augmentation=replace(changes, soften=0.0)),
    }


def other_source(folder: Path, labels: tuple[str, ...]) -> tuple[Example, ...]:
    examples = read_dataset(folder).examples
    return tuple(e for e in examples if e.label in labels and not e.columns.get("near_radiography"))


def measure(run: Path, others: tuple[Example, ...], cache: Path) -> dict[str, float]:
    read = read_run(run)
    dev = read.logits("dev")
    fitted = model.load_run(read)
    inputs = pictures.load(others, read.contract, cache, pictures.fingerprints(others)[1])
    answers = predict(fitted, inputs, range(len(others))).argmax(axis=1)
    right = np.array([read.labels[a] == e.label for a, e in zip(answers, others, strict=True)])
    shares = [right[[e.label == label for e in others]].mean() for label in sorted({e.label for e in others})]
    return {
        "dev_accuracy": float((dev.logits.argmax(axis=1) == dev.classes).mean()),
        "other_source_balanced_accuracy": float(np.mean(shares)),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean of each variant, and its difference from `default` over the seeds that both have, with the spread."""
    table: dict[str, Any] = {}
    for name in dict.fromkeys(row["variant"] for row in rows):
        table[name] = {"seeds": [row["seed"] for row in rows if row["variant"] == name]}
        for figure in ("dev_accuracy", "other_source_balanced_accuracy"):
            mine = {row["seed"]: row[figure] for row in rows if row["variant"] == name}
            base = {row["seed"]: row[figure] for row in rows if row["variant"] == "default"}
            differences = [mine[seed] - base[seed] for seed in mine if seed in base]
            table[name][figure] = {
                "mean": statistics.mean(mine.values()),
                "difference": statistics.mean(differences) if differences else None,
                "differences": differences,
            }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--backbone-weights", default="imagenet")
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--train", type=int, default=TRAIN, help="training pictures")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    cache = default_cache()
    dataset = part(with_splits(read_dataset(options.data), 0), {"train": options.train, "dev": DEV, "test": TEST})
    others = other_source(options.other, dataset.labels)
    rows = json.loads(options.output.read_text())["fits"] if options.output.is_file() else []
    for seed in SEEDS:
        for name, chosen in variants(options.size, options.epochs).items():
            if any(row["variant"] == name and row["seed"] == seed for row in rows):
                continue
            with tempfile.TemporaryDirectory() as scratch:
                run = Path(scratch) / "run"
                print(f"{name}, seed {seed}", flush=True)
                call = Call(options.data, chosen, options.backbone_weights, seed)
                fit_dataset(call, dataset, run, cache=cache, workers=1)
                rows.append({"variant": name, "seed": seed, **measure(run, others, cache)})
            report = {
                "schema": 1,
                "size": options.size,
                "fine_tuning_epochs": options.epochs,
                "train_pictures": len(dataset.split("train")),
                "dev_pictures": len(dataset.split("dev")),
                "other_source_pictures": len(others),
                "variants": summary(rows),
                "fits": rows,
            }
            options.output.write_text(json.dumps(report, indent=1) + "\n")
            print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
