"""Activations rounded in training as an int8 graph rounds them, so that the weights learn to do with 256 steps.

Straight through: the gradient passes as if nothing were rounded, and the step's own gradient draws in what reaches far
(Esser et al., "Learned Step Size Quantization", ICLR 2020; Jacob et al., "Quantization and Training of Neural Networks
for Efficient Integer-Arithmetic-Only Inference", CVPR 2018). A step is of the batch's own largest value. The export's
equalisation (`edgecxr_export.int8.equalise`) makes channels alike before it rounds, so a channel has its own step here
wherever it will have one there.

Layers of this module weigh nothing and do nothing outside training: the network that is kept has none of them.
"""

from __future__ import annotations

from typing import Any

import keras

STEPS = 255  # of uint8, from the least to the greatest value
LEAST = 1e-6  # so that a channel of zeros has a step

# How much of the way from one step for the tensor to one for each channel equalisation goes: behind a Relu that a
# depthwise convolution reads all of it, before a pointwise one half, before a sum none.
EACH_CHANNEL, HALF_WAY, WHOLE_TENSOR = 1.0, 0.5, 0.0


def rounded(x: Any, power: float, *, signed: bool) -> Any:
    """The tensor (N, h, w, C) rounded to 256 values a step apart; `signed` values lie on both sides of zero."""
    ops = keras.ops
    widths = ops.cast(ops.max(ops.abs(x), axis=(0, 1, 2), keepdims=True), "float32") + LEAST  # (1, 1, 1, C)
    widest = ops.max(widths)
    step = widest * (widths / widest) ** power * ((2 if signed else 1) / STEPS)
    counted = x * ops.cast(1 / step, x.dtype)
    return (counted + ops.stop_gradient(ops.round(counted) - counted)) * ops.cast(step, x.dtype)


class Rounding(keras.layers.Layer):  # type: ignore[misc]  # keras brings no types
    """`rounded` in training, and nothing elsewhere."""

    def __init__(self, power: float, *, signed: bool, **options: Any) -> None:
        super().__init__(**options)
        self._power, self._signed = power, signed

    def call(self, x: Any, training: bool = False) -> Any:
        return rounded(x, self._power, signed=self._signed) if training else x


class SeparableConv2D(keras.layers.SeparableConv2D):  # type: ignore[misc]
    """Keras's layer, under its name and with its weights, with what lies between its two convolutions rounded too."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training:
            return super().call(inputs)
        between = keras.ops.depthwise_conv(inputs, self.depthwise_kernel, strides=1, padding=self.padding)
        return keras.ops.conv(rounded(between, HALF_WAY, signed=True), self.pointwise_kernel, padding="valid")
