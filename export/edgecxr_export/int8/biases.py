"""Biases moved so that every channel's mean in the int8 graph is the float network's, one convolution after the other.

Rounding shifts a channel's mean for all pictures alike, and the shifts add up on the way to the logits. After Nagel et
al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2, by measurement
as in its appendix D; but behind the Relu where one follows, since that is what is read: in front of it the means
of a network that began with ImageNet's weights lie far below zero, and making those equal took its logits apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from edgecxr.bench import spread
from edgecxr_export.int8.ranges import activations
from edgecxr_export.int8.rounding import convolutions

PICTURES = 32  # of the calibration pictures, evenly chosen: a mean over thousands of places each
LEAST_ACTIVE = 0.02  # share of values above zero: a channel that hardly passes its Relu is left as it is

Means = npt.NDArray[np.float64]


def corrected(quantized: Any, exact: Any, pictures: npt.NDArray[np.uint8]) -> Any:
    """`quantized` (onnx.ModelProto), whose values have the names of the float graph `exact`, with its biases moved.

    Means are of the network inputs `pictures` (N, H, W, 1). Convolutions in float or without a bias stay as they are.
    """
    result = onnx.ModelProto()
    result.CopyFrom(quantized)
    chosen = pictures[np.asarray(spread(len(pictures), PICTURES))]
    behind = {conv.name: _read_as(exact, conv) for conv in convolutions(exact)}
    expected = _means(activations(exact, chosen, sorted({value for value, _ in behind.values()})))
    makers = {name: node for node in result.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in result.graph.initializer}
    for conv in [node for node in result.graph.node if node.op_type == "Conv" and node.name in behind]:
        bias = makers.get(conv.input[2]) if len(conv.input) > 2 else None
        if bias is None:
            continue
        value, rectified = behind[conv.name]
        stored = _stored(result, value)
        found = _means(activations(_leading_to(result, stored), chosen, [stored]), active=True)
        moved = expected[value] - found[stored]
        if rectified:
            active = found[_active(stored)]
            moved = np.where(active > LEAST_ACTIVE, moved / np.maximum(active, LEAST_ACTIVE), 0.0)
        counts, steps = (constants[name] for name in bias.input[:2])
        old = numpy_helper.to_array(counts)
        new = old + np.round(moved / numpy_helper.to_array(steps)).astype(old.dtype)
        counts.CopyFrom(numpy_helper.from_array(new, counts.name))
    return result


def _read_as(model: Any, conv: Any) -> tuple[str, bool]:
    """The value of a convolution that others read, and whether it went through a Relu."""
    readers = [node for node in model.graph.node if conv.output[0] in node.input]
    rectified = [node.op_type for node in readers] == ["Relu"]
    return (readers[0].output[0], True) if rectified else (conv.output[0], False)


def _stored(model: Any, value: str) -> str:
    """The name of the value as its readers get it: rounded to what is stored, where it is."""
    for kind in ("QuantizeLinear", "DequantizeLinear"):
        for node in model.graph.node:
            if node.op_type == kind and node.input[0] == value:
                value = node.output[0]
                break
    return value


def _leading_to(model: Any, value: str) -> Any:
    """The part of the graph on which the value depends."""
    makers = {name: node for node in model.graph.node for name in node.output}
    needed: dict[int, Any] = {}
    names = [value]
    while names:
        node = makers.get(names.pop())
        if node is not None and id(node) not in needed:
            needed[id(node)] = node
            names.extend(node.input)
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.node[:], part.graph.initializer[:], part.graph.value_info[:]
    part.graph.node.extend(node for node in model.graph.node if id(node) in needed)
    read = {name for node in part.graph.node for name in node.input}
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in read)
    return part


def _means(batches: Iterator[dict[str, npt.NDArray[np.float32]]], *, active: bool = False) -> dict[str, Means]:
    """By name the mean (C,) of each channel; with `active` also the share of its values that are above zero."""
    sums: dict[str, Any] = {}
    pictures = 0
    for values in batches:
        pictures += 1
        for name, value in values.items():
            sums[name] = sums.get(name, 0) + value.mean(axis=(0, 2, 3), dtype=np.float64)
            if active:
                sums[_active(name)] = sums.get(_active(name), 0) + (value > 0).mean(axis=(0, 2, 3))
    return {name: total / pictures for name, total in sums.items()}


def _active(name: str) -> str:
    return f"{name} > 0"
