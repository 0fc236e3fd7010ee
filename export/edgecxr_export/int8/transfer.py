"""Weights and ranges of an ONNX network put into the TFLite network of the same model, before that is quantized.

What makes int8 lose less (`equalise`, `rounding`, percentiles) is worked out once, on the ONNX graph; both converters
fold the same Keras model into the same convolutions, and which is which follows from the wiring and the weights. The
TFLite converter's own ranges are too wide where a sum reads: LiteRT adds in place, and what it sees there is the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import numpy_helper
from tensorflow.lite.python import schema_py_generated as schema

from edgecxr.errors import GateError
from edgecxr_export.graphs import tflite_graph
from edgecxr_export.graphs.onnx_graph import body
from edgecxr_export.graphs.tflite_graph import CONVOLUTIONS

KIN = 1e-4  # of a kernel's largest weight: both converters fold the batch norms, each in its own order

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Wiring:
    """What of a TFLite graph is what of an ONNX graph, before the head."""

    convolutions: Mapping[int, str]  # place among the TFLite operators -> name of the ONNX node
    values: Mapping[int, str]  # index of the TFLite tensor -> name of the ONNX value


def match(data: bytes, model: Any) -> Wiring:
    """The float TFLite file `data` beside the canonical fp32 `model` (onnx.ModelProto) of the same weights.

    Raises GateError where they aren't wired alike or a kernel is another.
    """
    lite = tflite_graph.parse(data)
    graph = lite.subgraphs[0]
    readers: dict[str, list[Any]] = {}
    inside = body(model)
    for node in inside:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    values: dict[int, str] = {int(graph.inputs[0]): inside[0].input[0]}
    convolutions: dict[int, str] = {}
    kinds = {**dict.fromkeys(CONVOLUTIONS, "Conv"), "ADD": "Add", "RELU": "Relu", "MAX_POOL_2D": "MaxPool"}
    head = set(tflite_graph.head(lite))
    for place, operator in enumerate(graph.operators):
        if place in head:
            continue
        kind = tflite_graph.kind(lite, operator)
        read = [values[index] for index in map(int, operator.inputs) if index in values]
        candidates = [node for node in readers.get(read[0] if read else "", []) if node.op_type == kinds.get(kind)]
        if kind in CONVOLUTIONS:
            kernel = _stored(lite, graph.tensors[operator.inputs[1]])
            candidates = [node for node in candidates if _same(_kernel(weights[node.input[1]], kind), kernel)]
        elif kind == "ADD":
            candidates = [node for node in candidates if set(node.input) == set(read)]
        if len(candidates) != 1:
            raise GateError(
                f"the TFLite graph was expected to be wired as the ONNX graph, got another {kind} ({place})"
            )
        (node,) = candidates
        value = node.output[0]
        if kind in CONVOLUTIONS:
            convolutions[place] = node.name
        if getattr(operator.builtinOptions, "fusedActivationFunction", 0) == schema.ActivationFunctionType.RELU:
            (rectifier,) = readers[value]
            value = rectifier.output[0]
        values[int(operator.outputs[0])] = value
    return Wiring(convolutions, values)


def moved(data: bytes, wiring: Wiring, network: Any, ranges: Mapping[str, tuple[float, float]]) -> bytes:
    """The TFLite file with the kernels and biases of `network` and those ranges of its activations.

    `network` has the names of the model that `wiring` was made with (`networks.Networks`).
    """
    lite = tflite_graph.parse(data)
    graph = lite.subgraphs[0]
    nodes = {node.name: node for node in network.graph.node}
    weights = {tensor.name: tensor for tensor in network.graph.initializer}
    for place, name in wiring.convolutions.items():
        operator, inputs = graph.operators[place], nodes[name].input
        kind = tflite_graph.kind(lite, operator)
        tflite_graph.store(lite, graph.tensors[operator.inputs[1]], _kernel(weights[inputs[1]], kind))
        # A depthwise convolution has no bias in ONNX, and zeros in TFLite.
        if len(inputs) > 2:
            bias = numpy_helper.to_array(weights[inputs[2]])
            tflite_graph.store(lite, graph.tensors[operator.inputs[2]], bias)
    for index, name in wiring.values.items():
        if name in ranges:
            low, high = ranges[name]
            graph.tensors[index].quantization = schema.QuantizationParametersT(min=[low], max=[high])
    return tflite_graph.serialise(tflite_graph.aligned(lite), {})


def _kernel(tensor: Any, kind: str) -> Floats:
    """An ONNX kernel (O, I / G, h, w) as TFLite has it: (O, h, w, I), depthwise (1, h, w, C)."""
    value: Floats = numpy_helper.to_array(tensor)
    return value.transpose((1, 2, 3, 0) if kind == "DEPTHWISE_CONV_2D" else (0, 2, 3, 1))


def _stored(lite: Any, tensor: Any) -> Floats:
    data = tflite_graph.constant(lite, tensor)
    assert data is not None  # kernels are constants in what the converter freezes
    return np.ascontiguousarray(data).view(np.float32).reshape(tuple(tensor.shape))


def _same(ours: Floats, theirs: Floats) -> bool:
    return ours.shape == theirs.shape and bool(np.abs(ours - theirs).max() <= KIN * np.abs(theirs).max())
