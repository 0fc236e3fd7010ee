"""The classifier as a Keras model: grey uint8 picture -> scaling -> Xception -> head -> logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras

from edgecxr.errors import UnavailableError, UsageError
from edgecxr.lab.run import Run, read_run
from edgecxr.lab.train import xception
from edgecxr.lab.train.recipes import Recipe

BACKBONE = xception.NAME


def build(recipe: Recipe, class_count: int, backbone_weights: str = "none", *, quantization_aware: bool = False) -> Any:
    """A fresh classifier: inputs uint8-valued (N, S, S, 1), outputs float32 logits (N, class_count).

    The grey picture is repeated into Xception's three channels (the deploy graph folds that away). The head is linear
    and ends in logits; the loss applies the softmax, which is the same arithmetic with less rounding.

    `backbone_weights` is `imagenet`, `none`, a path to weights of `keras.applications.Xception(include_top=False)`, or
    a finished RUN, whose backbone is taken whatever its input size and labels. A recipe with fewer middle blocks than
    there takes the first ones. `quantization_aware`: see `rounding`; its weights are the same.
    Raises UnavailableError where the ImageNet weights can't be downloaded, UsageError for a file that doesn't fit.
    """
    size = recipe.input_size
    image = keras.Input((size, size, 1), name="image")
    scaled = keras.layers.Rescaling(recipe.scale, recipe.offset, name="scaling")(image)  # (N, S, S, 1)
    rgb = keras.layers.Concatenate(name="grey_to_rgb")([scaled, scaled, scaled])  # (N, S, S, 3)
    backbone = xception.backbone(size, recipe.middle_blocks, quantization_aware=quantization_aware)
    if backbone_weights != "none":
        xception.copy_weights(_source(backbone_weights), backbone)
    features = backbone(rgb)  # (N, h, w, 2048)
    if recipe.head == "flatten-dense16":
        hidden = keras.layers.Dropout(recipe.dropout, name="dropout_features")(features)
        hidden = keras.layers.Flatten(name="flatten")(hidden)
        hidden = keras.layers.Dropout(recipe.dropout, name="dropout_flat")(hidden)
        hidden = keras.layers.Dense(16, name="dense", dtype="float32")(hidden)
    else:
        hidden = keras.layers.GlobalAveragePooling2D(name="pool", dtype="float32")(features)
        hidden = keras.layers.Dropout(recipe.dropout, name="dropout", dtype="float32")(hidden)
    logits = keras.layers.Dense(class_count, name="logits", dtype="float32")(hidden)
    return keras.Model(image, logits, name="edgecxr")


def read_fitted(folder: str, recipe: Recipe, labels: Sequence[str], noun: str) -> Run:
    """The RUN in `folder`, a `noun`, whose head a fit of `recipe` can take; raises UsageError where it can't."""
    if not Path(folder).is_dir():
        raise UsageError(f"recipe {recipe.name} needs the RUN of a {noun}, got {folder}")
    run = read_run(Path(folder))
    theirs = run.recipe
    if run.labels != tuple(labels):
        raise UsageError(
            f"the {noun} must tell apart what the data does, {', '.join(labels)}; it tells apart "
            f"{', '.join(run.labels)}: {folder}"
        )
    if (theirs.head, theirs.scale, theirs.offset) != (recipe.head, recipe.scale, recipe.offset):
        raise UsageError(
            f"the {noun} must have this recipe's head and scaling, {recipe.head} and {recipe.scale:.4g} x + "
            f"{recipe.offset:.4g}, got {theirs.head} and {theirs.scale:.4g} x + {theirs.offset:.4g}: {folder}"
        )
    return run


def begin(model: Any, fitted: Any) -> None:
    """Give `model` the weights of a `fitted` one that has its head: of all layers but what middle blocks it lacks."""
    xception.copy_weights(fitted.get_layer(BACKBONE), model.get_layer(BACKBONE))
    model.get_layer("logits").set_weights(fitted.get_layer("logits").get_weights())


def _source(weights: str) -> Any:
    """The backbone that `weights` names; what one weighs doesn't depend on its input size."""
    if weights != "imagenet" and Path(weights).is_dir():
        return load_run(read_run(Path(weights))).get_layer(BACKBONE)
    backbone = xception.backbone(xception.SMALLEST)
    if weights == "imagenet":
        shape = (xception.SMALLEST, xception.SMALLEST, 3)
        try:
            theirs = keras.applications.Xception(include_top=False, weights="imagenet", input_shape=shape)
        except Exception as error:  # keras.utils.get_file raises a bare Exception for any failed download
            raise UnavailableError(
                "the ImageNet weights can't be downloaded; give --backbone-weights a path to weights of "
                f"keras.applications.Xception(include_top=False), or none ({type(error).__name__})"
            ) from None
        backbone.set_weights(theirs.get_weights())
        return backbone
    if not Path(weights).is_file():
        raise UsageError(f"--backbone-weights expects imagenet, none, an existing file or a RUN, got {weights!r}")
    try:
        backbone.load_weights(weights)
    except (OSError, ValueError, KeyError, BadZipFile):
        raise UsageError(f"the file holds no weights of Xception without its top: {weights}") from None
    return backbone


def load_run(run: Run) -> Any:
    """The classifier of a finished RUN with its weights; raises UsageError where they aren't those of its recipe."""
    model = build(run.recipe, len(run.labels))
    try:
        model.load_weights(run.weights)
    except (OSError, ValueError, KeyError, BadZipFile):
        raise UsageError(f"the weights are damaged or don't fit the run's recipe: {run.weights}") from None
    return model


def freeze(model: Any, trainable_from: str | None, *, norms: bool = True) -> None:
    """Make the backbone trainable from the first layer whose name starts with `trainable_from` (None: frozen).

    Without `norms` its batch norms stay as they are, statistics included, wherever they stand.
    """
    backbone = model.get_layer(BACKBONE)
    backbone.trainable = trainable_from is not None
    if trainable_from is None:
        return
    # Each layer by itself: a layer that an earlier stage froze isn't thawed by its container.
    reached = False
    for layer in backbone.layers:
        reached = reached or layer.name.startswith(trainable_from)
        layer.trainable = reached and (norms or not isinstance(layer, keras.layers.BatchNormalization))
    if not reached:
        raise UsageError(f"no layer of the backbone has a name that starts with {trainable_from!r}")


def split(model: Any, recipe: Recipe) -> tuple[Any, Any]:
    """(extractor, head) of a classifier: `head(extractor(image))` are its logits, and both share its layers.

    The extractor ends where training noise begins: pooled features (N, 2048), or the feature map (N, h, w, 2048) for
    a head that flattens. It is deterministic as long as the backbone is frozen.
    """
    first = model.get_layer("pool" if recipe.head == "pooled" else BACKBONE)
    after = model.layers[model.layers.index(first) + 1 :]
    features = after[0].input  # not the backbone's output: a nested model's own hangs on its own input
    extractor = keras.Model(model.inputs, keras.ops.cast(features, "float32"), name="extractor")
    entry = keras.Input(features.shape[1:], name="features")
    tensor = entry
    for layer in after:
        tensor = layer(tensor)
    return extractor, keras.Model(entry, tensor, name="head")


def parameter_counts(model: Any) -> tuple[int, int]:
    """(all, trainable) parameters."""
    return model.count_params(), sum(math.prod(v.shape) for v in model.trainable_variables)
