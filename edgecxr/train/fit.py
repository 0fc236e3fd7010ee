"""`edgecxr train`: from labelled pictures to a RUN."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import PIL
from rich.console import Console
from rich.progress import Progress

import edgecxr
from edgecxr.dataset import Dataset, read_dataset, with_splits
from edgecxr.errors import UsageError
from edgecxr.preprocess import Contract
from edgecxr.train import model as models
from edgecxr.train import pictures
from edgecxr.train.curves import draw_curves
from edgecxr.train.recipes import Recipe, Stage
from edgecxr.train.run import (
    CURVES,
    DESCRIPTION,
    HISTORY,
    SCHEMA,
    WEIGHTS,
    Logits,
    write_json,
    write_logits,
)

EVALUATION_BATCH = 32


def fit(
    data: Path,
    folder: Path,
    recipe: Recipe,
    *,
    backbone_weights: str = "imagenet",
    seed: int = 0,
    where: dict[str, str] | None = None,
    cache: Path | None = None,
    workers: int = 1,
    console: Console | None = None,
) -> None:
    """Fit `recipe` on the train split of `data` and write a RUN to `folder`, which must be absent or empty.

    The dev split is watched, never learnt from; the test split's logits are computed once, after the last step, and
    nothing here looks at them. Raises UsageError, DataError and UnavailableError.
    """
    console = console or Console(stderr=True)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"the output folder exists and isn't empty: {folder}")
    dataset = read_dataset(data)
    dataset = with_splits(dataset.where(where) if where else dataset, seed)
    if len(dataset.labels) < 2:
        raise UsageError(f"a classifier needs two classes or more, the data has only {dataset.labels[0]!r}")
    contract = Contract(height=recipe.input_size, width=recipe.input_size)
    contract = replace(contract, source_size=pictures.source_size(dataset.split("train"), contract))
    data_fingerprint = pictures.fingerprint(dataset.examples)
    inputs = _load(dataset, contract, cache or default_cache(), data_fingerprint, console)
    _describe(console, dataset, contract, recipe)

    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy("mixed_bfloat16" if recipe.mixed_precision else "float32")
    try:
        model = models.build(recipe, len(dataset.labels), backbone_weights)
        folder.mkdir(parents=True, exist_ok=True)
        counts = _run_stages(model, dataset, inputs, recipe, folder, seed, workers)
    finally:
        keras.config.set_dtype_policy("float32")
    model.save_weights(folder / WEIGHTS)
    draw_curves(folder / HISTORY, folder / CURVES)
    console.print("logits of the float32 model on dev and test …")
    by_split = evaluate(folder / WEIGHTS, dataset, inputs, recipe)
    write_logits(folder, by_split)
    write_json(
        folder / DESCRIPTION,
        {
            "schema": SCHEMA,
            "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "recipe": recipe.to_json(),
            "labels": list(dataset.labels),
            "preprocessing": contract.to_json(),
            "parameters": [{"total": total, "trainable": trainable} for total, trainable in counts],
            "seed": seed,
            "backbone_weights": _weights_identity(backbone_weights),
            "data": {
                "folder": str(data.resolve()),
                "fingerprint": data_fingerprint,
                "where": where or {},
                "splits": {
                    split: dict(Counter(e.label for e in dataset.split(split))) for split in ("train", "dev", "test")
                },
                "sources": sorted({e.columns["source"] for e in dataset.examples if e.columns.get("source")}),
                "origins": sorted({e.origin for e in dataset.examples if e.origin}),
            },
            "accuracy": {split: accuracy(part) for split, part in by_split.items()},
            "versions": versions(),
        },
    )
    shares = ", ".join(f"{split} {accuracy(part):.1%} of {len(part.files)}" for split, part in by_split.items())
    console.print(f"accuracy: {shares}; run written to {folder}", highlight=False)


def default_cache() -> Path:
    """Where decoded pictures are kept: XDG_CACHE_HOME/edgecxr, or ~/.cache/edgecxr."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgecxr"


def accuracy(part: Logits) -> float:
    return float((part.logits.argmax(axis=1) == part.classes).mean())


def evaluate(weights: Path, dataset: Dataset, inputs: npt.NDArray[np.uint8], recipe: Recipe) -> dict[str, Logits]:
    """Logits of the model rebuilt in float32, on dev and test: what every artifact is later compared with."""
    model = models.build(recipe, len(dataset.labels))
    model.load_weights(weights)
    result = {}
    for split in ("dev", "test"):
        rows = [row for row, example in enumerate(dataset.examples) if example.split == split]
        classes = [dataset.labels.index(dataset.examples[row].label) for row in rows]
        batches = pictures.Batches(inputs, rows, classes, len(dataset.labels), EVALUATION_BATCH)
        logits = model.predict(batches, verbose=0)
        files = tuple(dataset.examples[row].file for row in rows)
        result[split] = Logits(files, np.array(classes), np.asarray(logits, dtype=np.float32))
    return result


def versions() -> dict[str, str]:
    """Versions of what decides a fit's numbers."""
    backend = keras.backend.backend()
    found = {
        "edgecxr": edgecxr.__version__,
        "python": platform.python_version(),
        "keras": keras.__version__,
        "backend": backend,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
    }
    module = sys.modules.get(backend)
    if module is not None:
        found[backend] = str(getattr(module, "__version__", "unknown"))
    return found


def _load(
    dataset: Dataset, contract: Contract, cache: Path, data_fingerprint: str, console: Console
) -> npt.NDArray[np.uint8]:
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("decoding", total=len(dataset.examples))
        return pictures.load(
            dataset.examples, contract, cache, data_fingerprint, lambda done: progress.update(task, completed=done)
        )


def _describe(console: Console, dataset: Dataset, contract: Contract, recipe: Recipe) -> None:
    for split in ("train", "dev", "test"):
        counts = Counter(example.label for example in dataset.split(split))
        console.print(
            f"{split:>5}: " + ", ".join(f"{label} {n}" for label, n in sorted(counts.items())), highlight=False
        )
    reduced = f", pictures first reduced to {contract.source_size} px" if contract.source_size else ""
    console.print(f"recipe {recipe.name} at {contract.width} px{reduced}", highlight=False)


def _run_stages(
    model: Any,
    dataset: Dataset,
    inputs: npt.NDArray[np.uint8],
    recipe: Recipe,
    folder: Path,
    seed: int,
    workers: int,
) -> list[tuple[int, int]]:
    rows = {s: [i for i, e in enumerate(dataset.examples) if e.split == s] for s in ("train", "dev")}
    classes = {s: [dataset.labels.index(dataset.examples[i].label) for i in rows[s]] for s in rows}
    weights = _class_weights(classes["train"], len(dataset.labels)) if recipe.balance_classes else None
    dev = pictures.Batches(inputs, rows["dev"], classes["dev"], len(dataset.labels), EVALUATION_BATCH)
    counts = []
    done = 0
    for stage in recipe.stages:
        models.freeze(model, stage.trainable_from)
        counts.append(models.parameter_counts(model))
        train = pictures.Batches(
            inputs,
            rows["train"],
            classes["train"],
            len(dataset.labels),
            recipe.batch_size,
            augmentation=recipe.augmentation,
            class_weights=weights,
            seed=seed,
            first_epoch=done,
            workers=workers,
        )
        model.compile(
            optimizer=_optimizer(recipe, stage, steps=len(train) * stage.epochs),
            loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
            metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        )
        model.fit(
            train,
            validation_data=dev,
            initial_epoch=done,
            epochs=done + stage.epochs,
            verbose=1 if sys.stdout.isatty() else 2,  # Keras draws its bar on stdout
            callbacks=[
                keras.callbacks.CSVLogger(folder / HISTORY, append=done > 0),
                keras.callbacks.ModelCheckpoint(folder / "checkpoint.weights.h5", save_weights_only=True),
            ],
        )
        done += stage.epochs
    (folder / "checkpoint.weights.h5").unlink(missing_ok=True)
    return counts


def _optimizer(recipe: Recipe, stage: Stage, steps: int) -> Any:
    warmup = int(steps * stage.warmup)
    rate: Any = stage.learning_rate
    if stage.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup else rate,
            decay_steps=max(1, steps - warmup),
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    elif warmup:
        boundaries = [warmup * i // 4 for i in range(1, 5)]
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, [rate * i / 5 for i in range(1, 6)])
    if recipe.weight_decay:
        return keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)
    return keras.optimizers.Adam(rate)


def _class_weights(classes: Sequence[int], class_count: int) -> npt.NDArray[np.float32]:
    """Weights (K,) inverse to each class's share, whose mean over the pictures is 1."""
    counts = np.bincount(classes, minlength=class_count)
    return (len(classes) / (class_count * counts)).astype(np.float32)


def _weights_identity(backbone_weights: str) -> dict[str, str]:
    path = Path(backbone_weights)
    if backbone_weights in ("imagenet", "none") or not path.is_file():
        return {"source": backbone_weights}
    return {"source": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
