"""The third output: how far a picture is from frontal chest films, from the maps in the middle of the network.

Keras layers, of which the fit uses the first and the deploy model both: what is fitted is what is computed.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from edgecxr.lab.evaluation.abstention import Score
from edgecxr.lab.train import model as models
from edgecxr.lab.train import xception
from edgecxr.lab.train.recipes import Recipe

NAME = "ood"
TINY = 1e-12  # of a square, before its root


def middle(backbone: Any, middle_blocks: int) -> Any:
    """The maps (N, h, w, C) after the last middle block of a backbone of `xception.backbone`, a Keras tensor.

    Behind it the network tells the classes apart, and forgets what all films share.
    """
    return backbone.get_layer(f"block{xception.FIRST_MIDDLE + middle_blocks - 1}_add").output


def extractor(reference: Any, recipe: Recipe) -> Any:
    """Images (N, S, S, 1), grey levels 0 to 255 -> `Moments` float32 (N, 2 C), of a model of `models.build`."""
    backbone = reference.get_layer(models.BACKBONE)
    maps = keras.Model(backbone.input, middle(backbone, recipe.middle_blocks))
    image = reference.input
    scaled = reference.get_layer("grey_to_rgb")([reference.get_layer("scaling")(image)] * 3)
    return keras.Model(image, Moments(name="moments")(maps(scaled)), name="moments_of_picture")


class Moments(keras.layers.Layer):  # type: ignore[misc]  # keras brings no types
    """(mean, standard deviation) over places of maps (N, h, w, C): (N, 2 C)."""

    def call(self, maps: Any) -> Any:
        # A row a place: of means over two axes tf2onnx makes one graph or another, by the process's hash seed.
        _, height, width, channels = maps.shape
        rows = keras.ops.reshape(maps, (-1, height * width, channels))
        mean = keras.ops.mean(rows, axis=1, keepdims=True)  # (N, 1, C)
        variance = keras.ops.mean(keras.ops.square(rows - mean), axis=1, keepdims=True)
        both = keras.ops.concatenate([mean, keras.ops.sqrt(variance + TINY)], axis=-1)
        return keras.ops.reshape(both, (-1, 2 * channels))


class Distance(keras.layers.Layer):  # type: ignore[misc]  # keras brings no types
    """`Score.of` of moments (N, D), as (N, 1)."""

    def __init__(self, score: Score, **options: Any) -> None:
        super().__init__(**options)
        self._score = score

    def build(self, shape: Any) -> None:
        # Weights and not constants: a constant becomes an input that the ONNX graph lacks.
        score = self._score
        self.centre = self._held("centre", score.centre[None])
        self.directions = self._held("directions", score.directions)
        self.unit = self._held("unit", score.unit[:, None])
        for name in ("residual", "residual_bias", "unit_bias"):
            setattr(self, name, self._held(name, np.full((1, 1), getattr(score, name))))

    def _held(self, name: str, value: npt.NDArray[np.floating]) -> Any:
        weight = self.add_weight(name=name, shape=value.shape, initializer="zeros", trainable=False)
        weight.assign(value)
        return weight

    def call(self, moments: Any) -> Any:
        length = keras.ops.sqrt(keras.ops.sum(keras.ops.square(moments), axis=-1, keepdims=True) + TINY)
        u = moments / length - self.centre  # (N, D)
        # Orthonormal directions take away what they find of the squared length, so that no second matrix leads back.
        whole, found = (
            keras.ops.sum(keras.ops.square(values), axis=-1, keepdims=True)
            for values in (u, keras.ops.matmul(u, self.directions))
        )
        distance = keras.ops.sqrt(keras.ops.maximum(whole - found, TINY))  # above 0: rounding could go below it
        told_apart = keras.ops.matmul(u, self.unit) + self.unit_bias
        return keras.ops.maximum(distance * self.residual + self.residual_bias, told_apart)
