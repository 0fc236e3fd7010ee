"""Xception without its top, with as many middle blocks as asked for; every layer has a fixed name.

After Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017, figure 5. With 8 middle
blocks it is `keras.applications.Xception(include_top=False)`: the same layers in the same order, so that its weights
load by position, under the same names where those are fixed there (the shortcuts' are numbered anew in every model).
"""

from __future__ import annotations

from typing import Any

import keras

from edgecxr.errors import UsageError
from edgecxr.lab.train import rounding

NAME = "xception"
MIDDLE_BLOCKS = 8  # of the paper: block5 to block12
SMALLEST = 71  # px; a smaller input leaves block14 nothing, and Keras's own refuses it
MIDDLE_WIDTH = 728  # channels
FIRST_MIDDLE, EXIT = 5, 13  # numbers of blocks, whatever lies between them


def backbone(
    size: int, middle_blocks: int = MIDDLE_BLOCKS, channels: int = 3, *, quantization_aware: bool = False
) -> Any:
    """A fresh network: inputs float (N, size, size, channels), outputs features (N, h, w, 2048).

    `middle_blocks` are block5, block6 and so on; fewer than 8 leave out the last ones. `size` is at least 71 px.
    With `quantization_aware` it has the layers of `rounding` between the others; those that weigh are the same.
    """
    build = _QuantizationAware() if quantization_aware else _Plain()
    image = keras.Input((size, size, channels), name="input")
    x = image
    for number, (filters, strides) in enumerate(((32, 2), (64, 1)), start=1):
        name = f"block1_conv{number}"
        x = build.conv(x, filters, 3, name, number == 2, grey=number == 1, strides=strides, padding="valid")
        x = build.relu(_norm(x, name), name, rounding.HALF_WAY)  # dense convolutions read it
    x = _halved(build, x, "block2", (128, 128), relu_first=False)  # block1 ends in one
    x = _halved(build, x, "block3", (256, 256))
    x = _halved(build, x, "block4", (MIDDLE_WIDTH, MIDDLE_WIDTH))
    for number in range(FIRST_MIDDLE, FIRST_MIDDLE + middle_blocks):
        shortcut = x
        for place in (1, 2, 3):
            name = f"block{number}_sepconv{place}"
            x = build.separable(build.relu(x, name, _behind_sum(place)), MIDDLE_WIDTH, name)
        x = build.add(x, shortcut, f"block{number}")
    x = _halved(build, x, f"block{EXIT}", (MIDDLE_WIDTH, 1024))
    for number, filters in enumerate((1536, 2048), start=1):
        name = f"block{EXIT + 1}_sepconv{number}"
        x = build.relu(
            build.separable(x, filters, name), name, rounding.EACH_CHANNEL if number == 1 else rounding.WHOLE_TENSOR
        )
    return keras.Model(image, x, name=NAME)


def aligned(size: int, other: int) -> bool:
    """Whether the poolings of inputs of both sizes (px, both sides) meet odd and even sides alike.

    With 'same' padding a window of 3 that moves by 2 has its centre on the first sample of an odd side, where the
    shortcut's lies too, and on the second of an even one: elsewhere the weights of the one meet features that are
    shifted against each other.
    """
    return _parities(size) == _parities(other)


def _parities(size: int) -> list[int]:
    side = (size - 1) // 2 - 2  # behind block1: 3 x 3, moved by 2 and by 1, both without padding
    found = []
    for _ in range(4):  # block2, block3, block4, block13
        found.append(side % 2)
        side = (side + 1) // 2
    return found


def _halved(build: _Plain, x: Any, block: str, filters: tuple[int, int], *, relu_first: bool = True) -> Any:
    """Two separable convolutions and a pooling, beside a strided 1x1 convolution: half the height and width."""
    name = f"{block}_shortcut"
    shortcut = _norm(build.conv(x, filters[1], 1, name, not relu_first, strides=2, padding="same"), name)
    for place, width in enumerate(filters, start=1):
        name = f"{block}_sepconv{place}"
        x = build.separable(build.relu(x, name, _behind_sum(place)) if relu_first or place > 1 else x, width, name)
    x = keras.layers.MaxPooling2D(3, strides=2, padding="same", name=f"{block}_pool")(x)
    return build.add(x, shortcut, block)


def _behind_sum(place: int) -> float:
    """How alike the channels in front of a block's separable convolution of that place are made."""
    return rounding.WHOLE_TENSOR if place == 1 else rounding.EACH_CHANNEL


def _norm(x: Any, name: str) -> Any:
    return keras.layers.BatchNormalization(name=f"{name}_bn")(x)


class _Plain:
    """The layers as the paper has them."""

    separable_layer: Any = keras.layers.SeparableConv2D

    def conv(
        self, x: Any, filters: int, side: int, name: str, halfway: bool, *, grey: bool = False, **options: Any
    ) -> Any:
        return keras.layers.Conv2D(filters, side, use_bias=False, name=name, **options)(x)

    def relu(self, x: Any, name: str, alike: float) -> Any:
        return keras.layers.Activation("relu", name=f"{name}_act")(x)

    def separable(self, x: Any, filters: int, name: str) -> Any:
        return _norm(self.separable_layer(filters, 3, padding="same", use_bias=False, name=name)(x), name)

    def add(self, x: Any, shortcut: Any, block: str) -> Any:
        return keras.layers.Add(name=f"{block}_add")([x, shortcut])


class _QuantizationAware(_Plain):
    """The same, rounded wherever an int8 graph rounds."""

    separable_layer = rounding.SeparableConv2D

    def conv(
        self, x: Any, filters: int, side: int, name: str, halfway: bool, *, grey: bool = False, **options: Any
    ) -> Any:
        return rounding.Conv2D(filters, side, use_bias=False, name=name, halfway=halfway, grey=grey, **options)(x)

    def relu(self, x: Any, name: str, alike: float) -> Any:
        layer = rounding.Rounding(alike, signed=False, name=f"{name}_act_rounding")
        return layer(super().relu(x, name, alike))

    def add(self, x: Any, shortcut: Any, block: str) -> Any:
        def around(value: Any, end: str) -> Any:
            return rounding.Rounding(rounding.WHOLE_TENSOR, signed=True, name=f"{block}_{end}_rounding")(value)

        return around(super().add(around(x, "x"), around(shortcut, "shortcut"), block), "sum")


def copy_weights(source: Any, target: Any) -> None:
    """Give `target` the weights that `source` has for its layers; both are of `backbone`, with 3 channels.

    The input sizes may differ, and `source` may have more middle blocks. Raises UsageError where it has fewer.
    """
    named = {layer.name: layer for layer in source.layers}
    lacking = [layer.name for layer in target.layers if layer.weights and layer.name not in named]
    if lacking:
        raise UsageError(f"the weights must be of a backbone with as many middle blocks, they lack {lacking[0]}")
    for layer in target.layers:
        if layer.weights:
            layer.set_weights(named[layer.name].get_weights())
