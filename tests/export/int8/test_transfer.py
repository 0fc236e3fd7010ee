"""What was worked out on the ONNX graph goes into the TFLite graph: one function in float, and less lost in int8."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgecxr.engines.litert import LiteRtEngine
from edgecxr.errors import GateError
from edgecxr_export.graphs import tflite as litert
from edgecxr_export.graphs import tflite_graph
from edgecxr_export.graphs.onnx_graph import body
from edgecxr_export.int8 import transfer
from edgecxr_export.int8.equalise import is_depthwise
from edgecxr_export.int8.networks import Networks
from export.conftest import CONVOLUTIONS, SUMS, Network

pytestmark = pytest.mark.lab
LEVELS = 127


def test_every_convolution_and_activation_has_its_own(
    network: Network, calibrated: litert.Calibrated, networks: Networks
) -> None:
    wiring = transfer.match(calibrated.model, network.onnx)
    assert set(wiring.convolutions) == set(calibrated.convolutions)
    assert sorted(wiring.convolutions.values()) == sorted(
        node.name for node in body(network.onnx) if node.op_type == "Conv"
    )
    # Both saw the same pictures, so the ranges say whether a tensor is the value that it was taken for.
    graph = tflite_graph.parse(calibrated.model).subgraphs[0]
    added = {int(index) for operator in graph.operators if len(operator.inputs) == 2 for index in operator.inputs}
    _, extents = networks._with_extents("as trained")  # and not `ranges`, which a pooling's input has of its output
    ranges = {name: extent.whole for name, extent in extents.items()}
    checked = 0
    for index, name in wiring.values.items():
        if name not in ranges:
            continue
        (low, high), found = ranges[name], graph.tensors[index].quantization
        slack = 1e-3 * (high - low)
        checked += 1
        # LiteRT adds in place while it calibrates: what a sum is made of gets the sum's range, up to three times as
        # wide. The ranges that are moved are right.
        if index in added:
            assert found.min[0] < low + slack
            assert found.max[0] > high - slack
        else:
            np.testing.assert_allclose((found.min[0], found.max[0]), (low, high), atol=slack)
    assert (
        checked == CONVOLUTIONS + SUMS + (SUMS - 1) + 4
    )  # convolutions, with or without their Relu; sums, their Relus, pools


def test_channels_alike_are_the_same_function_in_float(
    network: Network, calibrated: litert.Calibrated, networks: Networks
) -> None:
    wiring = transfer.match(calibrated.model, network.onnx)
    alike = networks.network("alike", "nearest", LEVELS)
    moved = transfer.moved(calibrated.model, wiring, alike, networks.ranges("alike", "min-max"))
    before, after = (
        LiteRtEngine(data, "cpu", "fp32", 2).run(network.inputs).logits for data in (calibrated.model, moved)
    )
    assert np.abs(after - before).max() < 1e-4 * np.ptp(before, axis=0).max()
    assert transfer.moved(calibrated.model, wiring, alike, networks.ranges("alike", "min-max")) == moved
    kernels = []
    for data in (calibrated.model, moved):
        lite = tflite_graph.parse(data)
        operator = lite.subgraphs[0].operators[max(wiring.convolutions)]
        kernels.append(np.asarray(tflite_graph.constant(lite, lite.subgraphs[0].tensors[operator.inputs[1]])))
    assert not np.array_equal(*kernels)  # it isn't the same network


@pytest.mark.parametrize("network", ["pooled"], indirect=True)  # whose head is a convolution too, and stays
def test_the_converter_takes_weights_and_ranges_as_they_are(
    network: Network, calibrated: litert.Calibrated, networks: Networks
) -> None:
    """What it does for the answers shows on trained weights only: random ones pass all rounding on."""
    wiring = transfer.match(calibrated.model, network.onnx)
    made, ranges = networks.network("alike", "second-order", LEVELS), networks.ranges("alike", "min-max")
    data = litert.serialise_int8(replace(calibrated, model=transfer.moved(calibrated.model, wiring, made, ranges)))
    graph = tflite_graph.parse(data)
    stored: list[np.ndarray] = []
    for operator in graph.subgraphs[0].operators:
        if tflite_graph.kind(graph, operator) in tflite_graph.CONVOLUTIONS:
            kernel = graph.subgraphs[0].tensors[operator.inputs[1]]
            stored.append(np.asarray(tflite_graph.constant(graph, kernel)).view(np.int8).reshape(-1))
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    for node in (node for node in body(made) if node.op_type == "Conv"):
        kernel = weights[node.input[1]]
        levels = np.rint(kernel * (LEVELS / np.abs(kernel).max(axis=(1, 2, 3), keepdims=True))).astype(np.int8)
        # (O, I, h, w) as (O, h, w, I), depthwise as (1, h, w, C)
        expected = levels.transpose((1, 2, 3, 0) if is_depthwise(node) else (0, 2, 3, 1)).reshape(-1)
        assert any(value.shape == expected.shape and np.array_equal(value, expected) for value in stored)
    scales = {tflite_graph.quantization(tensor)[0][0] for tensor in graph.subgraphs[0].tensors if _has_one(tensor)}
    low, high = ranges[next(node.output[0] for node in body(made) if node.op_type == "Add")]
    assert min(abs(scale * 255 / (high - low) - 1) for scale in scales) < 1e-4


def _has_one(tensor: Any) -> bool:
    return len(tflite_graph.quantization(tensor)[0]) == 1


def test_another_network_is_refused(network: Network, calibrated: litert.Calibrated) -> None:
    other: Any = onnx.ModelProto()
    other.CopyFrom(network.onnx)
    conv = [node for node in body(other) if node.op_type == "Conv"][20]
    (kernel,) = [tensor for tensor in other.graph.initializer if tensor.name == conv.input[1]]
    kernel.CopyFrom(numpy_helper.from_array(1.01 * numpy_helper.to_array(kernel), kernel.name))
    with pytest.raises(GateError, match="wired as the ONNX graph, got another"):
        transfer.match(calibrated.model, other)
