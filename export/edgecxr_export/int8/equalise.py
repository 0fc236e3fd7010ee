"""Channels of an activation made alike before it is quantized: the same function of the picture in float, exactly.

An activation has one scale for all of its channels in int8, and a channel whose values are a hundredth of another's
keeps two or three steps of it. Where a convolution feeds convolutions, through a Relu or nothing, each of its output
channels may be multiplied by any positive factor that the readers' weights take back. Nagel et al., "Data-Free
Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.1; with the extents of the
activations themselves, as in Xiao et al., "SmoothQuant", ICML 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from edgecxr_export.graphs.onnx_graph import body
from edgecxr_export.int8.ranges import Extent

# A depthwise reader has a scale for each channel's weights, so equal channels cost nothing there: all of the way.
# A dense reader's weights share a scale over the channels: what the activation gains they lose, and half of it is the
# balance (SmoothQuant's alpha).
DEPTHWISE, DENSE = 1.0, 0.5
LEAST = 1e-3  # of the widest channel: a dead or nearly dead one isn't blown up beyond


@dataclass(frozen=True)
class Link:
    """A convolution, its activation's names (its own output; behind a Relu that one's too), and all who read it."""

    conv: Any
    values: tuple[str, ...]
    readers: tuple[Any, ...]

    @property
    def depthwise(self) -> bool:
        return all(is_depthwise(reader) for reader in self.readers)


def is_depthwise(conv: Any) -> bool:
    return any(attribute.name == "group" and attribute.i > 1 for attribute in conv.attribute)


def links(model: Any) -> list[Link]:
    """Every convolution of the body whose output only convolutions of the body read, through a Relu or nothing."""
    inside = body(model)
    names = {node.name for node in inside}
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for value in node.input:
            readers.setdefault(value, []).append(node)
    outputs = {value.name for value in model.graph.output}
    found = []
    for conv in inside:
        if conv.op_type != "Conv":
            continue
        values = [conv.output[0]]
        if [node.op_type for node in readers[values[0]]] == ["Relu"]:
            values.append(readers[values[0]][0].output[0])
        behind = readers.get(values[-1], [])
        plain = all(node.op_type == "Conv" and node.name in names and node.input[0] == values[-1] for node in behind)
        if behind and plain and not outputs & set(values):
            found.append(Link(conv, tuple(values), tuple(behind)))
    return found


def equalised(model: Any, observed: Mapping[str, Extent], dense: float = DENSE) -> tuple[Any, dict[str, Extent]]:
    """(the same network with its channels alike where that is free, its extents), of `calibrate.extents` of `model`."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    weights = {tensor.name: tensor for tensor in result.graph.initializer}
    extents = dict(observed)
    for link in links(result):
        factors = _factors(extents[link.values[-1]], DEPTHWISE if link.depthwise else dense)
        for name in link.conv.input[1:]:
            _multiply(weights[name], factors, 0)
        for reader in link.readers:
            # Kernels are (out, in / group, h, w): a depthwise one has its channel first.
            _multiply(weights[reader.input[1]], 1 / factors, 0 if is_depthwise(reader) else 1)
        for value in link.values:
            extents[value] = extents[value].scaled(factors)
    return result, extents


def _factors(extent: Extent, power: float) -> npt.NDArray[np.float64]:
    """For each channel what makes it as wide as the widest, to the `power`."""
    width = np.maximum(np.abs(extent.lowest), np.abs(extent.highest)).astype(np.float64)
    widest = width.max()
    if widest == 0:
        return np.ones_like(width)
    return np.asarray((np.maximum(width, LEAST * widest) / widest) ** -power)


def _multiply(tensor: Any, factors: npt.NDArray[np.float64], axis: int) -> None:
    value = numpy_helper.to_array(tensor)
    shape = [1] * value.ndim
    shape[axis] = -1
    tensor.CopyFrom(numpy_helper.from_array((value * factors.reshape(shape)).astype(np.float32), tensor.name))
