"""A RUN as the repository keeps it: its weights rounded, in parts that are small enough, and what re-exports them.

    python benchmarks/kept_run.py keep RUN benchmarks/runs/full --data DATA/radiography --data DATA/sources
    python benchmarks/kept_run.py restore benchmarks/runs/full RUN

`keep` rounds kernels to float16 (norms and biases stay float32), computes the logits of every split anew with the
rounded weights, and leaves out where the pictures were. `restore` makes a RUN of it again, which `edgecxr export RUN
--data …` takes: what is embedded was exported from such a one.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from edgecxr.lab.run import DESCRIPTION, HISTORY, LOGITS, WEIGHTS, Logits, Run, read_run, write_json, write_logits
from edgecxr.lab.train import model as models
from edgecxr.lab.train.batches import predict
from edgecxr.lab.train.fit import accuracy, default_cache
from edgecxr_export import labelled

PART_BYTES = 19_000_000  # of float16 and float32 values; a repository's host complains above 50 MB a file
SPLITS = ("train", "dev", "test")


def parts(values: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Arrays by their place, in files of at most PART_BYTES each."""
    found: list[dict[str, np.ndarray]] = [{}]
    size = 0
    for place, value in enumerate(values):
        kept = value.astype(np.float16 if value.ndim > 1 else np.float32)
        if size + kept.nbytes > PART_BYTES and found[-1]:
            found.append({})
            size = 0
        found[-1][f"{place:04d}"] = kept
        size += kept.nbytes
    return found


def weights(folder: Path) -> list[np.ndarray]:
    """The kept arrays in float32, in Keras's order."""
    found: dict[str, np.ndarray] = {}
    for file in sorted(folder.glob("weights-*.npz")):
        with np.load(file, allow_pickle=False) as arrays:
            found |= {name: arrays[name].astype(np.float32) for name in arrays.files}
    return [found[name] for name in sorted(found)]


def keep(run: Run, target: Path, data: list[Path]) -> None:
    target.mkdir(parents=True)
    for number, part in enumerate(parts(models.load_run(run).get_weights()), start=1):
        np.savez_compressed(target / f"weights-{number}.npz", **part)
    model = models.build(run.recipe, len(run.labels))
    model.set_weights(weights(target))
    films = labelled.load(run, data, default_cache())
    by_split = {}
    for split in SPLITS:
        rows = films.rows(split)
        examples = [films.dataset.examples[row] for row in rows]
        classes = np.array([run.labels.index(example.label) for example in examples])
        files = tuple(example.file for example in examples)
        by_split[split] = Logits(files, classes, predict(model, films.pictures, rows))
    write_logits(target, by_split)
    about: dict[str, Any] = dict(run.description)
    places = [folder.resolve().name for folder in data]
    about["data"] = {k: v for k, v in about["data"].items() if k not in ("folder", "folders")} | {"folders": places}
    about["accuracy"] = {split: accuracy(part) for split, part in by_split.items()}
    about["rounded"] = "kernels to float16; accuracy and logits are of the rounded weights"
    write_json(target / DESCRIPTION, about)
    shutil.copyfile(run.folder / HISTORY, target / HISTORY)
    print(json.dumps(about["accuracy"]))


def restore(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in (DESCRIPTION, HISTORY, LOGITS):
        shutil.copyfile(source / name, folder / name)
    (folder / WEIGHTS).touch()  # which a RUN has
    run = read_run(folder)
    model = models.build(run.recipe, len(run.labels))
    model.set_weights(weights(source))
    model.save_weights(folder / WEIGHTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("keep", "restore"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--data", type=Path, action="append", default=[])
    options = parser.parse_args()
    if options.what == "keep":
        keep(read_run(options.source), options.target, options.data)
    else:
        restore(options.source, options.target)


if __name__ == "__main__":
    main()
