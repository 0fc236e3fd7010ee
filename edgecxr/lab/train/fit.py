"""`edgecxr train`: from labelled pictures to a RUN."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import numpy.typing as npt
import PIL
from rich.console import Console

import edgecxr
from edgecxr.errors import DataError, UsageError
from edgecxr.lab.ancestry import strangers
from edgecxr.lab.dataset import Dataset, Example, check_outside
from edgecxr.lab.evaluation.biases import class_biases
from edgecxr.lab.run import (
    CURVES,
    DESCRIPTION,
    HISTORY,
    SCHEMA,
    WEIGHTS,
    Logits,
    Run,
    check_new,
    read_run,
    write_history,
    write_json,
    write_logits,
)
from edgecxr.lab.selection import Selection, check_told_apart
from edgecxr.lab.sources import read_datasets
from edgecxr.lab.train import accelerator as accelerators
from edgecxr.lab.train import checkpoint, distill, features, storage
from edgecxr.lab.train import model as models
from edgecxr.lab.train.accelerator import Accelerator
from edgecxr.lab.train.batches import predict
from edgecxr.lab.train.curves import draw_curves
from edgecxr.lab.train.loop import Inputs, Surroundings, computed_features, train
from edgecxr.lab.train.pictures import Corpus
from edgecxr.lab.train.recipes import Recipe
from edgecxr.pictures.preprocess import Contract
from edgecxr.system.machine import cache_folder
from edgecxr.system.signals import StopOnSignal
from edgecxr.views.terminal import printable, progress

FLOAT32 = 4  # bytes
HDF5_OVERHEAD = 2**21  # bytes, beside the values: 0.4 MB in a file of 84


@dataclass(frozen=True)
class Call:
    """What decides a fit, besides the hardware."""

    data: tuple[Path, ...]
    recipe: Recipe
    backbone_weights: str = "imagenet"  # or none, a path, or a RUN; of a recipe that takes its head too, that RUN
    seed: int = 0
    selection: Selection = field(default_factory=Selection)


def fit(
    data: Path | Sequence[Path],
    folder: Path,
    recipe: Recipe,
    *,
    backbone_weights: str = "imagenet",
    seed: int = 0,
    selection: Selection | None = None,
    device: str = "auto",
    resume: bool = False,
    cache: Path | None = None,
    workers: int = 1,
    console: Console | None = None,
) -> None:
    """Fit `recipe` on the train split of `data` and write a RUN to `folder`, which must be absent or empty.

    Several folders are one data set, whose films are called FOLDERNAME/file. The dev split is watched; a recipe with
    `biases_on_dev` learns a number for each class from it. The test split's logits are computed once, after the last
    step, and nothing here looks at them. With `resume`, an unfinished run in `folder` goes on from its last checkpoint;
    on the same processor and thread count it ends with the same bits as if it had never stopped. Of a recipe with a
    teacher, `backbone_weights` is the teacher's RUN.

    Raises UsageError, DataError, UnavailableError, StorageError, DivergedError, and Interrupted after a signal.
    """
    folders = (data,) if isinstance(data, Path) else tuple(data)
    call = Call(folders, recipe, backbone_weights, seed, selection or Selection())
    console = console or Console(stderr=True, markup=False)
    everything = read_datasets(folders)
    say_account(console, everything)
    dataset = call.selection.of(everything, seed)
    if call.selection.held_out:
        check_told_apart(dataset)
    fit_dataset(call, dataset, folder, device=device, resume=resume, cache=cache, workers=workers, console=console)


def say_account(console: Console, dataset: Dataset) -> None:
    """What of the data folder isn't learnt from, in a line."""
    if dataset.account:
        console.print(printable(dataset.account), highlight=False, soft_wrap=True)


def fit_dataset(
    call: Call,
    dataset: Dataset,
    folder: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    cache: Path | None = None,
    workers: int = 1,
    console: Console | None = None,
    corpus: Corpus | None = None,
    sized: Sequence[Example] | None = None,
) -> None:
    """`fit` on a dataset whose splits are made.

    Fits of the same pictures in other splits share a `corpus` that holds them all, and so read each file once. The
    resolution of `sized` decides the contract (default: of the train split).
    """
    console = console or Console(stderr=True, markup=False)
    recipe, cache = call.recipe, cache or default_cache()
    if not resume:
        check_new(folder)
    if (folder / DESCRIPTION).exists():
        raise UsageError(f"the run is finished, there is nothing to resume: {folder}")
    for place in (folder, cache):
        check_outside(call.data, place)
    if len(dataset.labels) < 2:
        raise UsageError(f"a classifier needs two classes or more, the data has only {dataset.labels[0]!r}")
    teacher = distill.read_teacher(call.backbone_weights, recipe, dataset.labels) if recipe.distillation else None
    fitted = teacher
    if recipe.keeps_head:
        fitted = models.read_fitted(call.backbone_weights, recipe, dataset.labels, "fitted model")
    accelerator = accelerators.choose(device, recipe.batch_size)
    contract = Contract(height=recipe.input_size, width=recipe.input_size)
    corpus = corpus or Corpus(dataset.examples, apart=True)
    contract = replace(contract, source_size=corpus.source_size(sized or dataset.split("train"), contract))
    backbone = weights_identity(call.backbone_weights)
    mixed = recipe.mixed_precision and accelerator.bfloat16
    identity: dict[str, Any] = {
        "recipe": recipe.to_json(),
        "labels": dataset.labels,
        "seed": call.seed,
        "backbone weights": backbone,
        "preprocessing": contract.to_json(),
        "bfloat16": mixed,
        "backend": accelerator.backend,
        "devices": len(accelerator.names),
    }
    start = checkpoint.load(folder) if resume else None
    if start and checkpoint.differing({**start.identity, "data": None}, {**identity, "data": None}):
        # The data too, so that all of it is named; nothing needs to be decoded for that.
        checkpoint.check_identity(start.identity, {**identity, "data": corpus.fingerprint(dataset.examples)})
    keras.utils.set_random_seed(call.seed)
    with _arithmetic(mixed, accelerator):
        # Before the decoding, which takes long: weights that are absent or don't fit are noticed here, as is a place
        # that can't hold a run.
        model = models.build(
            recipe,
            len(dataset.labels),
            "none" if start or fitted else call.backbone_weights,
            quantization_aware=recipe.quantization_aware,
        )
        before = models.load_run(fitted) if fitted else None
        if before and not start:
            models.begin(model, before)
        storage.check_place(folder, 2 * FLOAT32 * model.count_params(), "a checkpoint and the weights")
        with StopOnSignal() as stop:
            check = stop.check("while the pictures were decoded", folder)
            inputs = _load(corpus, contract, cache, console, check)
            check()  # what came while the file was written
        identity["data"] = data_fingerprint = corpus.fingerprint(dataset.examples)
        if start:
            checkpoint.check_identity(start.identity, identity)
            console.print(f"going on after {start.epoch} epochs and {start.step} steps", highlight=False)
        _describe(console, dataset, contract, recipe, f"{accelerator}{', bfloat16' if mixed else ''}")
        _warn_of_leak(console, backbone, data_fingerprint)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"the run's folder can't be made ({error.strerror}): {folder}") from None
        around = Surroundings(
            folder,
            cache,
            console,
            workers=workers,
            devices=len(accelerator.names),
            backbone_identity=backbone.get("sha256", f"{backbone['source']}-{call.seed}"),
            data_fingerprint=data_fingerprint,
        )
        learnt = _inputs(dataset, corpus, inputs)
        if teacher:
            learnt = replace(learnt, teacher=_answers(teacher, before, learnt.train, corpus, call, around))
        del before  # its weights take as much memory as the model's
        counts, history = train(model, learnt, recipe, call.seed, around, identity, start)
        values = model.get_weights()
    console.print("logits of the float32 model on dev and test …")
    # Rebuilt in float32: what every artifact is later compared with. It knows no optimizer, so the file stays small.
    final = models.build(recipe, len(dataset.labels))
    final.set_weights(values)
    by_split = {split: _logits(final, dataset, corpus, inputs, split) for split in ("dev", "test")}
    moved: dict[str, float] = {}
    if recipe.biases_on_dev:
        by_split, found = _with_biases(final, by_split)
        moved = dict(zip(dataset.labels, map(float, found), strict=True))
        told = ", ".join(f"{label} {by:+.2f}" for label, by in moved.items())
        console.print(printable(f"biases moved to what dev says: {told}"), highlight=False)
    places = [str(data.resolve()) for data in call.data]
    size = sum(value.nbytes for value in values)
    storage.check_room(folder / WEIGHTS, size + size // 50 + HDF5_OVERHEAD, "the run's weights")
    try:
        final.save_weights(folder / WEIGHTS)
        write_history(folder / HISTORY, history)
        draw_curves(folder / HISTORY, folder / CURVES)
        write_logits(folder, by_split)
        about = {
            "schema": SCHEMA,
            "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "recipe": recipe.to_json(),
            "labels": list(dataset.labels),
            "preprocessing": contract.to_json(),
            "parameters": [{"total": total, "trainable": trainable} for total, trainable in counts],
            "seed": call.seed,
            "backbone_weights": backbone,
            **({"teacher": {key: backbone[key] for key in ("source", "sha256", "fitted_on")}} if teacher else {}),
            "data": {
                **({"folder": places[0]} if len(places) == 1 else {"folders": places}),
                "fingerprint": data_fingerprint,
                **call.selection.to_json(),
                "splits": {
                    split: dict(Counter(e.label for e in dataset.split(split))) for split in ("train", "dev", "test")
                },
                "sources": sorted({e.source for e in dataset.examples if e.source}),
                "origins": sorted({e.origin for e in dataset.examples if e.origin}),
            },
            "accuracy": {split: accuracy(part) for split, part in by_split.items()},
            **({"biases_on_dev": moved} if moved else {}),
            "training": {
                "device": str(accelerator),
                "bfloat16": mixed,
                "seconds": round(sum(row["seconds"] for row in history), 1),
            },
            "versions": versions(),
        }
        write_json(folder / DESCRIPTION, about)
    except (OSError, RuntimeError) as error:  # a RuntimeError is HDF5's, and not only of a full disk
        raise storage.failed("the run", folder, error) from None
    (folder / checkpoint.FILE).unlink(missing_ok=True)
    shares = ", ".join(f"{split} {accuracy(part):.1%} of {len(part.files)}" for split, part in by_split.items())
    console.print(printable(f"accuracy: {shares}; run written to {folder}"), highlight=False)


@contextmanager
def _arithmetic(mixed: bool, accelerator: Accelerator) -> Iterator[None]:
    """Precision and devices of the training, put back afterwards."""
    policy, distribution = keras.config.dtype_policy(), accelerators.share_batches(accelerator)
    keras.config.set_dtype_policy("mixed_bfloat16" if mixed else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
        keras.distribution.set_distribution(distribution)


def _inputs(dataset: Dataset, corpus: Corpus, inputs: npt.NDArray[np.uint8]) -> Inputs:
    learnt, watched = dataset.split("train"), dataset.split("dev")
    return Inputs(
        inputs,
        corpus.rows(learnt),
        _classes(dataset, learnt),
        corpus.rows(watched),
        _classes(dataset, watched),
        len(dataset.labels),
        [example.source for example in learnt],
    )


def _answers(
    teacher: Run, model: Any, rows: Sequence[int], corpus: Corpus, call: Call, around: Surroundings
) -> distill.Answers:
    """What the teacher, with its `model`, answers to the views that the recipe shows of the pictures `rows`.

    A view is what the same draws make of the picture as the teacher's contract gives it. Neither the student's size nor
    its blocks play a part, so that all students of the same films share one file in the cache.
    """
    recipe = call.recipe
    file = around.cache / features.cache_name(
        teacher=around.backbone_identity,
        data=around.data_fingerprint,
        contract=teacher.contract.to_json(),
        precision=str(keras.config.dtype_policy().name),
        backend=keras.backend.backend(),
        rows=list(map(int, rows)),
        views=recipe.feature_views,
        augmentation=asdict(recipe.augmentation),
        seed=call.seed,
    )
    pictures = np.empty(0, np.uint8)
    if not file.is_file():
        hashes = corpus.hashes()
        with StopOnSignal() as stop:
            check = stop.check("while the teacher's pictures were decoded", around.folder)
            pictures = _load(corpus, teacher.contract, around.cache, around.console, check)
            check()
        if corpus.hashes() != hashes:  # of another size they are read once more
            raise DataError("a picture changed while it was read at the student's size and at the teacher's")
    found = computed_features(
        models.split(model, teacher.recipe)[0],
        pictures,
        rows,
        recipe.feature_views,
        recipe.augmentation,
        call.seed,
        file,
        "answers of the teacher",
        around,
    )
    return distill.Answers.of(model, found)


def _classes(dataset: Dataset, examples: Sequence[Example]) -> list[int]:
    return [dataset.labels.index(example.label) for example in examples]


def default_cache() -> Path:
    """Where decoded pictures are kept; raises UsageError where this user has no place for caches."""
    folder = cache_folder()
    if folder is None:
        raise UsageError("this user has no home folder to keep decoded pictures in; give --cache")
    return folder


def accuracy(part: Logits) -> float:
    return float((part.logits.argmax(axis=1) == part.classes).mean())


def _logits(model: Any, dataset: Dataset, corpus: Corpus, inputs: npt.NDArray[np.uint8], split: str) -> Logits:
    examples = dataset.split(split)
    files = tuple(example.file for example in examples)
    return Logits(files, np.array(_classes(dataset, examples)), predict(model, inputs, corpus.rows(examples)))


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
        "opencv": cv2.__version__,
    }
    module = sys.modules.get(backend)
    if module is not None:
        found[backend] = str(getattr(module, "__version__", "unknown"))
    return found


def _with_biases(model: Any, by_split: Mapping[str, Logits]) -> tuple[dict[str, Logits], npt.NDArray[np.float64]]:
    """Move the biases of `model` by what dev's logits ask for; (logits with them, by how much)."""
    found = class_biases(by_split["dev"].logits, by_split["dev"].classes)
    layer = model.get_layer("logits")
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel, bias + found.astype(np.float32)])
    moved = {s: replace(part, logits=part.logits + found.astype(np.float32)) for s, part in by_split.items()}
    return moved, found


def _load(
    corpus: Corpus, contract: Contract, cache: Path, console: Console, check: Callable[[], None]
) -> npt.NDArray[np.uint8]:
    bar = progress(console, "decoding")
    with bar:
        task = bar.add_task("", total=len(corpus.examples))

        def advance(done: int) -> None:
            bar.update(task, completed=done)
            check()

        return corpus.inputs(contract, cache, advance)


def _describe(console: Console, dataset: Dataset, contract: Contract, recipe: Recipe, where: str) -> None:
    for split in ("train", "dev", "test"):
        counts = Counter(example.label for example in dataset.split(split))
        shares = ", ".join(f"{label} {n}" for label, n in sorted(counts.items()))
        console.print(printable(f"{split:>5}: {shares}"), highlight=False)
    reduced = f", pictures first reduced to {contract.source_size} px" if contract.source_size else ""
    console.print(f"recipe {recipe.name} at {contract.width} px{reduced}; on {where}", highlight=False)


def weights_identity(backbone_weights: str) -> dict[str, Any]:
    """Where the backbone's weights come from; for a RUN, with what it was fitted on and its own beginning."""
    path = Path(backbone_weights)
    if backbone_weights in ("imagenet", "none") or not path.exists():
        return {"source": backbone_weights}
    if not path.is_dir():
        return {"source": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    run = read_run(path)
    if not {"data", "backbone_weights"} <= run.description.keys():
        raise UsageError(f"the run doesn't say what it was fitted on, or began with: {path}")
    return {
        "source": f"run {path.resolve().name}",
        "sha256": hashlib.sha256(run.weights.read_bytes()).hexdigest(),
        "fitted_on": run.description["data"].get("fingerprint"),
        "recipe": run.recipe.to_json(),
        "backbone_weights": run.description["backbone_weights"],
    }


def _warn_of_leak(console: Console, backbone: Mapping[str, Any], data_fingerprint: str) -> None:
    """The pictures that a RUN learnt from may be the test pictures of this one, unless both have the same splits.

    The same goes for the RUN in whose backbone that one began, and so on.
    """
    for stranger in strangers(backbone, data_fingerprint):
        said = (
            f"note: {stranger}; where it has learnt from a picture of this test split, or from its near-duplicate, the "
            "test figures flatter (edgecxr audit --against)"
        )
        console.print(printable(said), highlight=False)
