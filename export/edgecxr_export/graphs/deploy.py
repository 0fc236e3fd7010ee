"""The trained Keras model rebuilt for devices: one grey uint8 channel in; logits, evidence, ood out.

What a device would compute for nothing is folded into the weights: the scaling, the three equal channels, the linear
layers of the head. Dropout is gone, and every variable is float32.
"""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt

from edgecxr.errors import UsageError
from edgecxr.lab.evaluation.abstention import Score
from edgecxr.lab.run import Run
from edgecxr.lab.train import model as models
from edgecxr.lab.train import xception
from edgecxr.lab.train.recipes import Recipe
from edgecxr_export.graphs import ood

FIRST_CONV = "block1_conv1"
FIRST_NORM = "block1_conv1_bn"
PASSING = ("Dropout", "Flatten", "GlobalAveragePooling2D")  # between the backbone and the logits, besides Dense

Float32 = npt.NDArray[np.float32]


def reference_model(run: Run) -> Any:
    """The trained model in float32, as `edgecxr train` builds it: what every artifact is compared with.

    Raises UsageError where the weights aren't those of the run's recipe.
    """
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        return models.load_run(run)
    finally:
        keras.config.set_dtype_policy(policy)


def deploy_model(
    reference: Any, recipe: Recipe, input_dtype: Literal["uint8", "float32"] = "uint8", score: Score | None = None
) -> Any:
    """The deploy model of `reference` (of `models.build(recipe, …)`): a Keras model with weights of its own.

    Input `image` (N, S, S, 1), grey levels 0..255; float32 is for converters that quantize the input themselves.
    Outputs: `logits` (N, K) and `evidence` (N, h, w, K), both float32, with logits = evidence.sum((1, 2)) + bias; with
    a `score` also `ood` (N, 1), its float32.
    """
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        size = recipe.input_size
        image = keras.Input((size, size, 1), name="image", dtype=input_dtype)
        grey = keras.ops.cast(image, "float32") if input_dtype != "float32" else image
        backbone = xception.backbone(size, recipe.middle_blocks, channels=1)
        _copy_backbone(reference.get_layer(models.BACKBONE), backbone, recipe.scale, recipe.offset)
        both = keras.Model(backbone.input, [backbone.output, ood.middle(backbone, recipe.middle_blocks)])
        features, maps = both(grey)  # (N, h, w, 2048), (N, H, W, C)
        weights, bias = linear_head(reference, recipe)
        logits, evidence = EvidenceHead(weights, bias, name="head")(features)
        outputs = {"logits": logits, "evidence": evidence}
        if score is not None:
            outputs[ood.NAME] = ood.Distance(score, name="distance")(ood.Moments(name="moments")(maps))
        return keras.Model(image, outputs, name="edgecxr_deploy")
    finally:
        keras.config.set_dtype_policy(policy)


def _copy_backbone(source: Any, target: Any, scale: float, offset: float) -> None:
    """Copy weights layer by layer, folding scaling and channels into the first convolution and its batch norm."""
    for old, new in zip(source.layers, target.layers, strict=True):
        if type(old) is not type(new):
            raise UsageError(f"the run's backbone isn't Xception: it has a {old.name} where a {new.name} belongs")
        weights = old.get_weights()
        if old.name == FIRST_CONV:
            weights, shift = fold_input(weights[0], scale, offset)
        elif old.name == FIRST_NORM:
            gamma, beta, mean, variance = weights
            weights = [gamma, beta, mean - shift, variance]
        new.set_weights(weights)


def fold_input(kernel: Float32, scale: float, offset: float) -> tuple[list[Float32], Float32]:
    """([kernel for one unscaled channel], what the convolution's output lacks then), for inputs scale * x + offset.

    `kernel` (h, w, 3, C) meets three equal channels, so its channels add up; the offset adds the same `shift` (C,)
    everywhere, which the batch norm behind it takes into its moving mean. Exact only because the padding is `valid`.
    """
    summed = kernel.astype(np.float64).sum(axis=2, keepdims=True)  # (h, w, 1, C)
    shift = offset * summed.sum(axis=(0, 1, 2))
    return [(scale * summed).astype(np.float32)], shift.astype(np.float32)


def linear_head(reference: Any, recipe: Recipe) -> tuple[Float32, Float32]:
    """The head as one linear map: weights (h, w, C, K), or (1, 1, C, K) where all places weigh alike, and bias (K,).

    logits = sum over places and channels of features * weights, plus bias. A pooled head's mean is in the weights.
    Raises UsageError for a head that isn't linear: it has no evidence map that adds up to the logit.
    """
    _check_linear(reference)
    weights, bias = (array.astype(np.float64) for array in reference.get_layer("logits").get_weights())
    _, height, width, channels = reference.get_layer(models.BACKBONE).output.shape
    if recipe.head == "flatten-dense16":
        # Nothing but dropout stands between the two dense layers, so they are one matrix.
        inner, inner_bias = (array.astype(np.float64) for array in reference.get_layer("dense").get_weights())
        weights, bias = inner @ weights, inner_bias @ weights + bias
        placed = weights.reshape(height, width, channels, -1)
    else:
        placed = weights.reshape(1, 1, channels, -1) / (height * width)
    return placed.astype(np.float32), bias.astype(np.float32)


def _check_linear(reference: Any) -> None:
    """Every layer behind the backbone is one that the head's folding knows, and each Dense has no activation."""
    layers = reference.layers[reference.layers.index(reference.get_layer(models.BACKBONE)) + 1 :]
    for layer in layers:
        kind = type(layer).__name__
        activation = keras.activations.serialize(layer.activation) if kind == "Dense" else "linear"
        if (kind not in PASSING and kind != "Dense") or activation != "linear":
            what = f"{layer.name} ({kind})" if activation == "linear" else f"{layer.name} with activation {activation}"
            raise UsageError(f"the head must be linear for its evidence to add up to the logits, got {what}")


class EvidenceHead(keras.layers.Layer):  # type: ignore[misc]  # keras brings no types
    """(logits (N, K), evidence (N, h, w, K)) of features (N, h, w, C): class activation maps, and their sum.

    After Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, with the means' divisor in
    the weights. One map holds for a flattened head too, whose weights differ from place to place.
    """

    def __init__(self, weights: Float32, bias: Float32, **options: Any) -> None:
        super().__init__(**options)
        self._weights_value, self._bias_value = weights, bias

    def build(self, shape: Any) -> None:
        # Per place, a matrix (C, K).
        placed = self._weights_value.reshape(-1, *self._weights_value.shape[2:])  # (1 or h w, C, K)
        self.placed = self.add_weight(name="placed", shape=placed.shape, initializer="zeros")
        self.bias = self.add_weight(name="bias", shape=self._bias_value.shape, initializer="zeros")
        self.placed.assign(placed)
        self.bias.assign(self._bias_value)

    def call(self, features: Any) -> tuple[Any, Any]:
        _, height, width, channels = features.shape
        places, _, classes = self.placed.shape
        if places == 1:
            kernel = keras.ops.reshape(self.placed, (1, 1, channels, classes))
            evidence = keras.ops.conv(features, kernel, padding="valid")
        else:
            # A batched matrix product: einsum converts into Shape and Gather nodes, multiply-and-sum costs 4 ms.
            rows = keras.ops.reshape(features, (-1, height * width, 1, channels))
            evidence = keras.ops.matmul(rows, self.placed)  # (N, h w, 1, K)
            evidence = keras.ops.reshape(evidence, (-1, height, width, classes))
        return keras.ops.sum(evidence, axis=(1, 2)) + self.bias, evidence
