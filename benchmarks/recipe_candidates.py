"""What each candidate for the default recipe brings on films of a source that was left out, measured cheaply.

    python benchmarks/recipe_candidates.py DATA/radiography DATA/sources --where source=siim \
        --leave-out DATA/radiography/doubts.csv --backbone-weights FILE -o benchmarks/results/recipe-candidates.json

Each variant changes one thing of `plain` and is fitted with the same seeds on the same films of the first data set.
What is compared is measured on train and dev films of the source left out, never on its test films: the AUROC of covid
against normal, which no threshold decides, and the balanced accuracy of the answers. Differences are per seed, so that
what a seed brings cancels. A call that was stopped goes on with the fits that are missing. `--also` fits on the train
films of a further source too, and `--only plain` leaves the candidates out, to compare sources and lengths of a fit.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from data_parts import part
from sklearn.metrics import roc_auc_score

from edgecxr.lab.dataset import Example, read_dataset, with_splits
from edgecxr.lab.run import read_run
from edgecxr.lab.train import model
from edgecxr.lab.train.batches import predict
from edgecxr.lab.train.fit import Call, default_cache, fit_dataset
from edgecxr.lab.train.pictures import Corpus
from edgecxr.lab.train.recipes import Augmentation, Recipe, recipe

SIZE = 128  # px
EPOCHS = 3  # of fine-tuning
SEEDS = (0, 1)
TRAIN, DEV, TEST, LEFT_OUT = 1500, 300, 60, 700  # films; the test split plays no part
FIGURES = ("left_out_auroc", "left_out_balanced_accuracy", "dev_accuracy")


def variants(size: int, epochs: int) -> dict[str, Recipe]:
    base = recipe("default")
    stages = (*base.stages[:-1], replace(base.stages[-1], epochs=epochs))
    plain = replace(base, input_size=size, stages=stages)

    def tuned(**changes: Any) -> Recipe:
        return replace(plain, stages=(*stages[:-1], replace(stages[-1], **changes)))

    wide = Augmentation(rotate=15.0, shift=0.1, zoom=0.25, contrast=0.4, brightness=0.15, soften=0.25)
    exit_flow = tuned(trainable_from="block13")
    return {
        "plain": plain,
        "weight decay 0.05": replace(plain, weight_decay=0.05),
        "exit flow alone": exit_flow,
        "exit flow alone, twice the augmentation": replace(exit_flow, augmentation=wide),
        "all layers, rate 5e-5": tuned(trainable_from="", learning_rate=5e-5),
        "twice the augmentation": replace(plain, augmentation=wide),
    }


def measure(run: Path, others: tuple[Example, ...], cache: Path) -> dict[str, float]:
    read = read_run(run)
    dev = read.logits("dev")
    fitted = model.load_run(read)
    inputs = Corpus(others).inputs(read.contract, cache)
    logits = predict(fitted, inputs, range(len(others)))
    covid, normal = (read.labels.index(label) for label in ("covid", "normal"))
    truth = np.array([example.label == "covid" for example in others])
    answers = logits.argmax(axis=1)
    found = ((answers == covid)[truth].mean(), (answers == normal)[~truth].mean())
    return {
        "left_out_auroc": float(roc_auc_score(truth, logits[:, covid] - logits[:, normal])),
        "left_out_balanced_accuracy": float(np.mean(found)),
        "left_out_covid_found": float(found[0]),
        "left_out_normal_found": float(found[1]),
        "dev_accuracy": float((dev.logits.argmax(axis=1) == dev.classes).mean()),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean of each variant, and its difference from `plain` over the seeds that both have, with the spread."""
    table: dict[str, Any] = {}
    for name in dict.fromkeys(row["variant"] for row in rows):
        table[name] = {"seeds": [row["seed"] for row in rows if row["variant"] == name]}
        for figure in FIGURES:
            mine = {row["seed"]: row[figure] for row in rows if row["variant"] == name}
            base = {row["seed"]: row[figure] for row in rows if row["variant"] == "plain"}
            differences = [mine[seed] - base[seed] for seed in mine if seed in base]
            table[name][figure] = {
                "mean": statistics.mean(mine.values()),
                "difference": statistics.mean(differences) if differences else None,
                "differences": differences,
            }
    return table


def left_out(folder: Path, where: Mapping[str, str], wanted: int) -> tuple[Example, ...]:
    """Covid and normal films of the source that is left out, none of its test films among them."""
    dataset = read_dataset(folder).where(where)
    kept = tuple(e for e in dataset.examples if e.split in ("train", "dev") and e.label in ("covid", "normal"))
    chosen = part(replace(dataset, examples=tuple(replace(e, split="train") for e in kept)), {"train": wanted})
    return chosen.examples


def condition(text: str) -> dict[str, str]:
    column, _, value = text.partition("=")
    return {column: value}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--where", required=True, metavar="COLUMN=VALUE", help="of OTHER, what is left out")
    parser.add_argument("--also", metavar="COLUMN=VALUE", help="of OTHER, what is learnt from beside DATA")
    parser.add_argument("--only", choices=variants(SIZE, EPOCHS), help="the one variant to fit")
    parser.add_argument("--leave-out", type=Path, help="a CSV whose column file names films of DATA to leave out")
    parser.add_argument("--backbone-weights", default="imagenet")
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--train", type=int, default=TRAIN, help="training pictures")
    parser.add_argument("--measured", type=int, default=LEFT_OUT, help="films of OTHER to measure on")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    cache = default_cache()
    dataset = with_splits(read_dataset(options.data), 0)
    if options.leave_out:
        with options.leave_out.open(newline="") as file:
            doubtful = {row["file"] for row in csv.DictReader(file)}
        dataset = replace(dataset, examples=tuple(e for e in dataset.examples if e.file not in doubtful))
    dataset = part(dataset, {"train": options.train, "dev": DEV, "test": TEST})
    others = left_out(options.other, condition(options.where), options.measured)
    if options.also:
        further = read_dataset(options.other).where(condition(options.also)).split("train")
        known = tuple(example for example in further if example.label in dataset.labels)
        dataset = replace(dataset, examples=dataset.examples + known)
    about = {
        "schema": 2,
        "size": options.size,
        "fine_tuning_epochs": options.epochs,
        "train_pictures": len(dataset.split("train")),
        "dev_pictures": len(dataset.split("dev")),
        "also": options.also,
        "left_out": {"where": options.where, "pictures": len(others)},
    }
    before = json.loads(options.output.read_text()) if options.output.is_file() else {**about, "fits": []}
    if any(before.get(name) != value for name, value in about.items()):
        parser.error(f"{options.output} is of another comparison")  # its fits would stand under this one's settings
    rows = before["fits"]
    for seed in options.seeds:
        for name, chosen in variants(options.size, options.epochs).items():
            if options.only not in (None, name) or any(row["variant"] == name and row["seed"] == seed for row in rows):
                continue
            with tempfile.TemporaryDirectory() as scratch:
                run = Path(scratch) / "run"
                print(f"{name}, seed {seed}", flush=True)
                call = Call((options.data,), chosen, options.backbone_weights, seed)
                fit_dataset(call, dataset, run, cache=cache, workers=2)
                rows.append({"variant": name, "seed": seed, **measure(run, others, cache)})
            report = {**about, "variants": summary(rows), "fits": rows}
            options.output.write_text(json.dumps(report, indent=1) + "\n")
            print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
