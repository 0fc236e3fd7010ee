"""A student and its teacher: the weights that it begins with, and what it learns beside the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from edgecxr.errors import UsageError
from edgecxr.lab.run import Run
from edgecxr.lab.train import model as models
from edgecxr.lab.train import xception
from edgecxr.lab.train.batches import Places
from edgecxr.lab.train.recipes import Distillation, Recipe

LARGEST = 224  # px, of a student's input: more is slower than a smaller network is fast
# Of the norms' statistics. With Keras's 0.99 they are still a twelfth the deeper teacher's after 250 steps.
MOMENTUM = 0.97


@dataclass(frozen=True)
class Answers:
    """What a teacher answers to V views of each of N training pictures: logits (V, N, K), pooled features (V, N, F)."""

    logits: npt.NDArray[np.float32]
    features: npt.NDArray[np.float16]

    @classmethod
    def of(cls, teacher: Any, features: npt.NDArray[np.float16]) -> Answers:
        """Of the pooled features (V, N, F) that `teacher`, a classifier with a pooled head, has computed."""
        weights, bias = teacher.get_layer("logits").get_weights()
        return cls(np.stack([view.astype(np.float32) @ weights + bias for view in features]), features)

    def take(self, places: Places, turns: Places) -> npt.NDArray[np.float32]:
        """Those to the views that pictures `places` (B,) show on their `turns` (B,): (B, K + F)."""
        views = turns % len(self.features)
        return np.concatenate([self.logits[views, places], self.features[views, places]], axis=1, dtype=np.float32)


def read_teacher(folder: str, recipe: Recipe, labels: Sequence[str]) -> Run:
    """The RUN in `folder`, which a student of `recipe` can begin with; raises UsageError where it can't."""
    teacher = models.read_fitted(folder, recipe, labels, "teacher")
    theirs, size = teacher.recipe, recipe.input_size
    if recipe.middle_blocks > theirs.middle_blocks:
        raise UsageError(
            f"a student has at most the teacher's {theirs.middle_blocks} middle blocks, got {recipe.middle_blocks}"
        )
    largest = min(LARGEST, theirs.input_size)
    if size > largest:
        raise UsageError(f"the input of this teacher's student is {largest} px or smaller, got {size}")
    fitting = [other for other in range(xception.SMALLEST, largest + 1) if xception.aligned(other, theirs.input_size)]
    if size not in fitting:
        near = sorted(sorted(fitting, key=lambda other: abs(other - size))[:2])
        raise UsageError(
            f"the poolings of a student must meet odd and even sides where the teacher's of {theirs.input_size} px do, "
            f"as those of {' and '.join(map(str, near)) or 'no smaller input'} px, got {size}"
        )
    return teacher


def with_features(student: Any) -> Any:
    """`student` as it is trained: its pooled features beside its logits, outputs float32 (N, K + F)."""
    for layer in student.get_layer(models.BACKBONE).layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = MOMENTUM
    beside = keras.layers.Concatenate(name="answers", dtype="float32")
    return keras.Model(student.input, beside([student.output, student.get_layer("pool").output]), name="student")


def truth_width(student: Any, class_count: int) -> int:
    """Values in a row of what a student is compared with: labels (K), the teacher's logits (K) and features (F)."""
    return int(student.output_shape[-1]) + class_count


def loss(distillation: Distillation, label_smoothing: float, class_count: int) -> Any:
    """Of truths (B, 2 K + F) and answers (B, K + F): a loss (B,), in nats but for its share of features."""

    def of(truths: Any, answers: Any) -> Any:
        labels, theirs, their_features = ops.split(truths, [class_count, 2 * class_count], axis=-1)
        logits, features = ops.split(answers, [class_count], axis=-1)
        hard = keras.losses.categorical_crossentropy(labels, logits, from_logits=True, label_smoothing=label_smoothing)
        heat = distillation.temperature
        their_logs = ops.log_softmax(theirs / heat)
        soft = ops.sum(ops.exp(their_logs) * (their_logs - ops.log_softmax(logits / heat)), axis=-1)
        cosine = ops.sum(ops.normalize(their_features, axis=-1) * ops.normalize(features, axis=-1), axis=-1)
        shares = distillation.labels, (1.0 - distillation.labels) * heat**2, distillation.features
        return shares[0] * hard + shares[1] * soft + shares[2] * (1.0 - cosine)

    return of


def accuracy(class_count: int) -> Any:
    """The metric of that name, over labels and logits in the same truths and answers."""

    def of(truths: Any, answers: Any) -> Any:
        return keras.metrics.categorical_accuracy(truths[:, :class_count], answers[:, :class_count])

    return keras.metrics.MeanMetricWrapper(of, name="accuracy")
