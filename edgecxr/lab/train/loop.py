"""The training loop: stages of epochs, a checkpoint after each, and what is watched on the way."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from rich.console import Console

from edgecxr.errors import DivergedError, Interrupted
from edgecxr.lab.train import distill, features
from edgecxr.lab.train import model as models
from edgecxr.lab.train.batches import BATCH, Epoch, Places, Source, Targets, augmented, predict
from edgecxr.lab.train.checkpoint import Checkpoint, Variables
from edgecxr.lab.train.recipes import Augmentation, Recipe, Stage
from edgecxr.scoring.postprocess import probabilities
from edgecxr.system.signals import StopOnSignal
from edgecxr.views.terminal import progress

LOOK_EVERY = 32  # batches between looks at the loss: each look waits for the accelerator


@dataclass(frozen=True)
class Inputs:
    """The decoded pictures (all of them, in memory-mapped order), and which of them are learnt from and watched."""

    pictures: npt.NDArray[np.uint8]  # (N, H, W)
    train: Sequence[int]
    train_classes: Sequence[int]
    dev: Sequence[int]
    dev_classes: Sequence[int]
    class_count: int
    train_sources: Sequence[str]
    teacher: distill.Answers | None = None  # to the views of `train`, where the recipe has one


@dataclass(frozen=True)
class Surroundings:
    """What a fit needs that doesn't decide its result."""

    folder: Path  # the RUN
    cache: Path
    console: Console
    workers: int = 1
    devices: int = 1  # that share each batch
    # Names the backbone before training (its file's hash, say); features are kept under it.
    backbone_identity: str = ""
    data_fingerprint: str = ""


def train(
    model: Any,
    inputs: Inputs,
    recipe: Recipe,
    seed: int,
    around: Surroundings,
    identity: dict[str, Any],
    start: Checkpoint | None = None,
) -> tuple[list[tuple[int, int]], list[dict[str, Any]]]:
    """Fit `model` in place; ((all, trainable) parameters of each stage, history rows).

    A checkpoint is written after each epoch and when a signal asks to stop, which raises Interrupted. `start` is the
    checkpoint to go on from. Raises DivergedError and StorageError; the last checkpoint stays in both cases, and holds
    finite numbers only.
    """
    sources = inputs.train_sources if recipe.balance_sources else None
    targets = Targets.of(inputs.train_classes, inputs.class_count, balance=recipe.balance_classes, sources=sources)
    history = list(start.history) if start else []
    if start:
        start.variables.assign_model(model)
    counts = []
    done = 0  # epochs of the stages before
    for number, stage in enumerate(recipe.stages):
        models.freeze(model, stage.trainable_from, norms=not recipe.quantization_aware)
        counts.append(models.parameter_counts(model))
        epochs = range(done, done + stage.epochs)
        done += stage.epochs
        if start and start.epoch >= done:
            continue
        # The features of a frozen backbone, where they are computed, count as the first epoch's time.
        begin = time.perf_counter()
        at = _stage(model, inputs, recipe, number, seed, around)
        settings: dict[str, Any] = {"seed": seed, "multiple_of": around.devices}
        settings["beside"] = inputs.teacher.take if inputs.teacher else None
        steps = len(Epoch(at.source, targets, recipe.batch_size, epoch=0, **settings))
        _compile(at.trained, recipe, stage, steps * stage.epochs, inputs.class_count)
        # A checkpoint from the very end of the stage before holds that stage's optimizer.
        resumed = start if start and start.epoch in epochs and (start.epoch, start.step) > (epochs[0], 0) else None
        if resumed:
            resumed.variables.assign_optimizer(at.trained)
        remaining = epochs[epochs.index(start.epoch) if start and start.epoch in epochs else 0 :]
        # A signal is heard in the whole of an epoch, its evaluation and its checkpoint too.
        with StopOnSignal() as stop:
            for epoch in remaining:
                part = resumed if resumed and resumed.step and resumed.epoch == epoch else None
                first = part.step if part else 0
                batches = Epoch(
                    at.source, targets, recipe.batch_size, epoch=epoch, first=first, workers=around.workers, **settings
                )
                title = f"epoch {epoch + 1} of {sum(s.epochs for s in recipe.stages)}"
                watch = _Watch(model, around.console, title, first, steps, part.variables if part else None, stop)
                begin = (begin if epoch == remaining[0] else time.perf_counter()) - (part.seconds if part else 0.0)
                # Unless told not to, Keras draws the order of a PyDataset's batches once more, by Python's own random.
                at.trained.fit(
                    batches, epochs=epoch + 1, initial_epoch=epoch, verbose=0, callbacks=[watch], shuffle=False
                )
                assert watch.after is not None  # on_epoch_end has run
                if watch.step < steps:
                    seconds = time.perf_counter() - begin
                    Checkpoint(identity, epoch, watch.step, history, watch.after, seconds).save(around.folder)
                    raise _interrupted(f"in {title} after {watch.step} of {steps} steps", around.folder, stop)
                row = {"epoch": epoch, "stage": number, **watch.logs, **_figures(at.dev_logits(), inputs.dev_classes)}
                if not math.isfinite(row["val_loss"]):
                    raise DivergedError(_diverged(f"the loss on dev became {row['val_loss']}", title, steps))
                row["seconds"] = round(time.perf_counter() - begin, 3)
                history.append(row)
                Checkpoint(identity, epoch + 1, 0, history, watch.after).save(around.folder)
                if epoch == epochs[-1]:
                    at.remove_features()
                around.console.print(_line(title, row), highlight=False)
                if stop.signal is not None:
                    raise _interrupted(f"after {title}", around.folder, stop)
    return counts, history


def _interrupted(where: str, folder: Path, stop: StopOnSignal) -> Interrupted:
    return Interrupted(
        f"stopped {where}; everything is saved, go on with the same call and --resume: {folder}", stop.signal or 0
    )


def _diverged(what: str, title: str, step: int) -> str:
    return f"{what} in {title}, step {step}; the last checkpoint is kept; try a lower learning rate"


@dataclass(frozen=True)
class _Stage:
    """What a stage trains, where its inputs come from, and what the model answers to the dev pictures."""

    trained: Any
    source: Source
    dev_logits: Callable[[], npt.NDArray[np.float32]]
    features: Sequence[Path] = ()  # files of the frozen backbone's features
    maps: list[npt.NDArray[np.float16]] = field(default_factory=list)  # of those files

    def remove_features(self) -> None:
        """Make room: a frozen backbone's feature maps take more of it than the pictures do.

        TensorFlow keeps the source of each `fit` for good: it must hold no map, or the room isn't given back.
        """
        self.maps.clear()
        for file in self.features:
            with contextlib.suppress(OSError):  # Windows keeps a file that is mapped
                file.unlink()


def _stage(model: Any, inputs: Inputs, recipe: Recipe, number: int, seed: int, around: Surroundings) -> _Stage:
    """The whole model on pictures, or, as long as no stage has changed the backbone, the head on its features."""
    frozen = all(stage.trainable_from is None for stage in recipe.stages[: number + 1])
    if recipe.distillation:
        source = augmented(inputs.pictures, inputs.train, recipe.augmentation, seed, recipe.feature_views)
        return _Stage(distill.with_features(model), source, lambda: predict(model, inputs.pictures, inputs.dev))
    if not (frozen and recipe.feature_views):
        source = augmented(inputs.pictures, inputs.train, recipe.augmentation, seed)
        return _Stage(model, source, lambda: predict(model, inputs.pictures, inputs.dev))
    extractor, head = models.split(model, recipe)
    views = min(recipe.feature_views, recipe.stages[number].epochs)
    files: list[Path] = []

    def computed(rows: Sequence[int], views: int, augmentation: Augmentation, what: str) -> npt.NDArray[np.float16]:
        file = around.cache / features.cache_name(
            backbone=around.backbone_identity,
            data=around.data_fingerprint,
            input=[recipe.scale, recipe.offset, recipe.head, recipe.middle_blocks, *inputs.pictures.shape[1:]],
            precision=str(keras.config.dtype_policy().name),
            backend=keras.backend.backend(),
            rows=list(map(int, rows)),
            views=views,
            augmentation=asdict(augmentation),
            seed=seed,
        )
        files.append(file)
        about = f"features of the frozen backbone, {what}"
        return computed_features(extractor, inputs.pictures, rows, views, augmentation, seed, file, about, around)

    maps = [computed(inputs.train, views, recipe.augmentation, "train"), computed(inputs.dev, 1, Augmentation(), "dev")]

    def learnt(places: Places, turns: Places) -> npt.NDArray[Any]:
        return features.source(maps[0])(places, turns)

    def dev_logits() -> npt.NDArray[np.float32]:
        watched = maps[1][0]
        return np.concatenate(
            [
                np.asarray(head.predict_on_batch(watched[begin : begin + BATCH]), dtype=np.float32)
                for begin in range(0, len(watched), BATCH)
            ]
        )

    return _Stage(head, learnt, dev_logits, files, maps)


def computed_features(
    extractor: Any,
    pictures: npt.NDArray[np.uint8],
    rows: Sequence[int],
    views: int,
    augmentation: Augmentation,
    seed: int,
    file: Path,
    about: str,
    around: Surroundings,
) -> npt.NDArray[np.float16]:
    """What `features.compute` does, with a progress bar that says `about`; a signal raises Interrupted."""
    bar = progress(around.console, about)
    with StopOnSignal() as stop, bar:
        task = bar.add_task("", total=views * len(rows))
        check = stop.check(f"while the {about.partition(',')[0]} were computed", around.folder)

        def advance(done: int) -> None:
            bar.update(task, completed=done)
            check()

        found = features.compute(
            extractor, pictures, rows, views, augmentation, seed, file, advance, workers=around.workers
        )
        check()  # what came while the file was written
        return found


def _compile(model: Any, recipe: Recipe, stage: Stage, steps: int, class_count: int) -> None:
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
    accuracy, width = keras.metrics.CategoricalAccuracy(name="accuracy"), class_count
    if recipe.distillation:
        loss = distill.loss(recipe.distillation, recipe.label_smoothing, class_count)
        accuracy, width = distill.accuracy(class_count), distill.truth_width(model, class_count)
    model.compile(optimizer=_optimizer(model, recipe, stage, steps), loss=loss, metrics=[accuracy])
    # Both make their variables in the first step otherwise, which is too late to put a checkpoint's values into them.
    model.optimizer.build(model.trainable_variables)
    model.compute_metrics(None, np.zeros((1, width), np.float32), np.zeros((1, model.output_shape[-1]), np.float32))
    model.reset_metrics()


def _optimizer(model: Any, recipe: Recipe, stage: Stage, steps: int) -> Any:
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
        optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)
        optimizer.exclude_from_weight_decay(var_list=[v for v in model.trainable_variables if len(v.shape) < 2])
        return optimizer
    return keras.optimizers.Adam(rate)


def _figures(logits: npt.NDArray[np.float32], classes: Sequence[int]) -> dict[str, float]:
    """Accuracy and cross-entropy (nats) of logits (N, K)."""
    shares = probabilities(logits, 1.0)[np.arange(len(classes)), np.asarray(classes)]
    return {
        "val_accuracy": float((logits.argmax(axis=1) == classes).mean()),
        "val_loss": float(-np.log(np.maximum(shares, np.finfo(np.float64).tiny)).mean()),
    }


def _line(title: str, row: dict[str, Any]) -> str:
    return (
        f"{title}: loss {row['loss']:.4f}, accuracy {row['accuracy']:.1%} on augmented train; "
        f"loss {row['val_loss']:.4f}, accuracy {row['val_accuracy']:.1%} on dev; {row['seconds']:.0f} s"
    )


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Progress, a loss that must stay finite, a signal to stop, and the variables as the last step left them."""

    def __init__(
        self,
        whole: Any,
        console: Console,
        title: str,
        first: int,
        steps: int,
        metrics: Variables | None,
        stop: StopOnSignal,
    ) -> None:
        super().__init__()
        self.whole, self.title, self.step, self.steps, self.metrics = whole, title, first, steps, metrics
        self.bar, self.stop = progress(console, title), stop
        self.after: Variables | None = None
        self.logs: dict[str, float] = {}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self.metrics:
            self.metrics.assign_metrics(self.model)  # the running means of the epoch's first part
        self.bar.start()
        self.task = self.bar.add_task("", total=self.steps, completed=self.step)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.step += 1
        self.bar.advance(self.task)
        if self.step % LOOK_EVERY == 0:
            self._look(logs)
        if self.stop.signal is not None:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.bar.stop()
        self._look(logs)
        self.logs = {name: float(logs[name]) for name in ("loss", "accuracy")}
        self.after = Variables.read(self.whole, self.model)
        if not self.after.finite():  # the loss of the last step is from before its update
            raise DivergedError(_diverged("a weight became infinite or not a number", self.title, self.step))

    def _look(self, logs: Any) -> None:
        if not math.isfinite(float(logs["loss"])):
            self.bar.stop()
            raise DivergedError(_diverged(f"the loss became {float(logs['loss'])}", self.title, self.step))
