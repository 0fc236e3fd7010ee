"""Speed against accuracy of students of one teacher: input sizes and middle blocks, a short fit each.

    python benchmarks/edge_curve.py DATA/radiography DATA/sources --teacher RUN -o benchmarks/results/edge-curve.json

Every point is fitted by the recipe `edge` with the same seed on the same part of the teacher's own train films, whose
answers are computed once for all of them, and watched on the teacher's dev: at home, the first folder, and elsewhere,
the others. Test films play no part. Speeds are of int8 files on one thread, all points in each round in random order,
beside the teacher's network and the base's (299 px, 8 middle blocks); what the weights are doesn't change them. The
report is written after each point, and a call that was stopped goes on with the points that are missing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from data_parts import part
from edge_speeds import speeds

from edgecxr.lab.dataset import Dataset
from edgecxr.lab.run import Logits, Run, read_run
from edgecxr.lab.selection import Selection
from edgecxr.lab.sources import read_datasets
from edgecxr.lab.train.fit import Call, default_cache, fit_dataset
from edgecxr.lab.train.pictures import Corpus
from edgecxr.lab.train.recipes import Recipe, recipe

POINTS = ("224/5", "224/2", "192/5", "192/3", "192/2", "160/2")  # px/middle blocks
BASE = "299/8"  # 0.1.0's
EPOCHS = 2
VIEWS = 2  # what two epochs see of most films
TRAIN, TEST = 1500, 60  # films; the test split plays no part


def student(point: str, epochs: int) -> Recipe:
    size, blocks = map(int, point.split("/"))
    base = recipe("edge")
    stages = (replace(base.stages[0], epochs=epochs),)
    # Dev measures here, so it teaches nothing.
    return replace(base, input_size=size, middle_blocks=blocks, stages=stages, feature_views=VIEWS, biases_on_dev=False)


def films(data: Sequence[Path], teacher: Run, train: int, dev: int | None) -> Dataset:
    """The teacher's films in its splits: some of those that it learnt from and was watched on (None: all of them)."""
    chosen = Selection.from_json(teacher.description["data"]).of(read_datasets(data), teacher.description["seed"])
    return part(chosen, {"train": train, "dev": dev, "test": TEST})


def places(dataset: Dataset) -> dict[str, dict[str, str]]:
    """Names of the dev films at home and elsewhere, with their source."""
    home = dataset.examples[0].folder
    found: dict[str, dict[str, str]] = {"home": {}, "elsewhere": {}}
    for example in dataset.split("dev"):
        found["home" if example.folder == home else "elsewhere"][example.file] = example.source
    return found


def accuracies(dev: Logits, where: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Share of right answers at home and elsewhere, by source too, and mean negative log-likelihood over all."""
    right = dict(zip(dev.files, (dev.logits.argmax(axis=1) == dev.classes).tolist(), strict=True))
    table: dict[str, Any] = {}
    for name, sources in where.items():
        by_source: dict[str, list[bool]] = {}
        for file, source in sources.items():
            by_source.setdefault(source, []).append(right[file])
        answers = [answer for found in by_source.values() for answer in found]
        table[name] = {
            "accuracy": statistics.mean(answers) if answers else None,
            "films": len(answers),
            "sources": {source: statistics.mean(found) for source, found in sorted(by_source.items())},
        }
    shifted = dev.logits - dev.logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    table["nll"] = float(-logs[np.arange(len(logs)), dev.classes].mean())
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--teacher", type=Path, required=True, help="a RUN, fitted on these data")
    parser.add_argument("--points", nargs="+", default=list(POINTS), metavar="PX/BLOCKS")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--train", type=int, default=TRAIN, help="training films")
    parser.add_argument("--dev", type=int, help="dev films (default: all)")
    parser.add_argument("--cache", type=Path, help="folder for decoded pictures, answers and files to time")
    parser.add_argument("-j", "--workers", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    cache = options.cache or default_cache()
    teacher = read_run(options.teacher)
    dataset = films(options.data, teacher, options.train, options.dev)
    where = places(dataset)
    report: dict[str, Any] = json.loads(options.output.read_text()) if options.output.is_file() else {"points": {}}
    counts = {f"{split}_films": len(dataset.split(split)) for split in ("train", "dev")}
    asked = {"epochs": options.epochs, "views": VIEWS, **counts}
    if report["points"] and any(report[name] != value for name, value in asked.items()):
        raise SystemExit(f"the report is of other fits than {asked}; name another file: {options.output}")
    report = {"schema": 1, **asked, **report}
    report["teacher"] = {"run": teacher.folder.name, **accuracies(teacher.logits("dev"), where)}
    corpus = Corpus(dataset.examples, apart=True)

    def save() -> None:
        partial = options.output.with_name(f"{options.output.name}.partial")
        partial.write_text(json.dumps(report, indent=1) + "\n")
        partial.replace(options.output)

    for point in options.points:
        if point in report["points"]:
            continue
        chosen = student(point, options.epochs)
        with tempfile.TemporaryDirectory() as scratch:
            run = Path(scratch) / "run"
            print(point, flush=True)
            begin = time.process_time()
            call = Call(tuple(options.data), chosen, str(options.teacher), 0)
            fit_dataset(call, dataset, run, cache=cache, workers=options.workers, corpus=corpus)
            row = accuracies(read_run(run).logits("dev"), where)
        report["points"][point] = {**row, "cpu_seconds": round(time.process_time() - begin)}
        save()
        print(json.dumps({point: report["points"][point]}), flush=True)
    teachers = f"{teacher.recipe.input_size}/{teacher.recipe.middle_blocks}"
    report["int8_on_one_thread"] = speeds(list(dict.fromkeys([BASE, teachers, *report["points"]])), cache)
    save()
    print(json.dumps(report["int8_on_one_thread"], indent=1))


if __name__ == "__main__":
    main()
