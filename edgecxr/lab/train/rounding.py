"""Quantization-aware training: weights and activations rounded as an int8 graph rounds them, so that the fit allows it.

Straight through: the gradient passes as if nothing were rounded, with steps of the batch's own largest values (Jacob et
al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018). The
norms must stand still meanwhile: where rounding makes a faint channel constant, its variance would sink to nothing, and
without rounding that channel is then blown up a hundredfold (`model.freeze`). The export's equalisation
(`edgecxr_export.int8.equalise`) makes channels alike before it rounds, so a channel has its own step here wherever it
will have one there.

These layers weigh what Keras's own weigh and do the same outside training: the network that is kept has none of them.
"""

from __future__ import annotations

from typing import Any

import keras

STEPS = 255  # of uint8, from the least to the greatest value
WEIGHT_LEVELS = 64  # on either side of zero: the 7 bits that are safe on every CPU (`edgecxr_export.int8.quantize`)
LEAST = 1e-3  # of the widest channel: narrower ones have its step, as in `edgecxr_export.int8.equalise`
TINY = 1e-6  # so that zeros have a step

# How much of the way from one step for the tensor to one for each channel equalisation goes: where depthwise
# convolutions alone read all of it, where a dense one does half, around a sum none.
EACH_CHANNEL, HALF_WAY, WHOLE_TENSOR = 1.0, 0.5, 0.0


def rounded(x: Any, power: float, *, signed: bool) -> Any:
    """The tensor (N, h, w, C) rounded to 256 values a step apart; `signed` values lie on both sides of zero."""
    ops = keras.ops
    widest, share = _widths(x)
    return _straight_through(x, ops.cast(widest * share**power * ((2 if signed else 1) / STEPS), x.dtype))


def rounded_kernel(kernel: Any, axes: tuple[int, ...], shares: Any = None) -> Any:
    """Weights rounded to `WEIGHT_LEVELS` values on either side of zero, with one step over the `axes`.

    `shares`, which broadcast over the kernel, are the factors by which equalisation multiplies it first.
    """
    ops = keras.ops
    if shares is not None:
        shares = ops.cast(shares, kernel.dtype)
        return rounded_kernel(kernel * shares, axes) / shares
    widest = ops.max(ops.abs(ops.stop_gradient(kernel)), axis=axes, keepdims=True) + ops.cast(TINY, kernel.dtype)
    return _straight_through(kernel, widest / WEIGHT_LEVELS)


def _widths(x: Any) -> tuple[Any, Any]:
    """(largest value, each channel's share of it (1, 1, 1, C)) of a tensor (N, h, w, C), float32."""
    ops = keras.ops
    widths = ops.cast(ops.max(ops.abs(ops.stop_gradient(x)), axis=(0, 1, 2), keepdims=True), "float32") + TINY
    widest = ops.max(widths)
    return widest, ops.maximum(widths / widest, LEAST)


def _straight_through(x: Any, step: Any) -> Any:
    counted = x / step
    return (counted + keras.ops.stop_gradient(keras.ops.round(counted) - counted)) * step


class Rounding(keras.layers.Layer):  # type: ignore[misc]  # keras brings no types
    """`rounded` in training, and nothing elsewhere."""

    def __init__(self, power: float, *, signed: bool, **options: Any) -> None:
        super().__init__(**options)
        self._power, self._signed = power, signed

    def call(self, x: Any, training: bool = False) -> Any:
        return rounded(x, self._power, signed=self._signed) if training else x


class Conv2D(keras.layers.Conv2D):  # type: ignore[misc]
    """Keras's layer, under its name and with its weights, which are rounded in training; without a bias.

    With `halfway` its input is one whose channels equalisation makes alike half of the way. With `grey` it is a grey
    picture in every channel: the export adds the kernel up over them before it rounds.
    """

    def __init__(self, *arguments: Any, halfway: bool = False, grey: bool = False, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._halfway, self._grey = halfway, grey

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training:
            return super().call(inputs)
        shares = None
        if self._halfway:
            shares = keras.ops.reshape(_widths(inputs)[1] ** HALF_WAY, (1, 1, -1, 1))
        kernel = self.kernel
        if self._grey:
            inputs, kernel = inputs[..., :1], keras.ops.sum(kernel, axis=2, keepdims=True)
        kernel = rounded_kernel(kernel, (0, 1, 2), shares)
        return keras.ops.conv(inputs, kernel, strides=self.strides, padding=self.padding)


class SeparableConv2D(keras.layers.SeparableConv2D):  # type: ignore[misc]
    """Keras's layer, under its name and with its weights; in training these and what lies between are rounded."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training:
            return super().call(inputs)
        ops = keras.ops
        depthwise = rounded_kernel(self.depthwise_kernel, (0, 1))
        between = ops.depthwise_conv(inputs, depthwise, strides=1, padding=self.padding)
        shares = ops.reshape(_widths(between)[1] ** HALF_WAY, (1, 1, -1, 1))
        pointwise = rounded_kernel(self.pointwise_kernel, (0, 1, 2), shares)
        return ops.conv(rounded(between, HALF_WAY, signed=True), pointwise, padding="valid")
