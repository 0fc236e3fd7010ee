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
from edgecxr_export import litert, tflite_graph, transfer
from edgecxr_export.calibrate import body
from edgecxr_export.deploy import deploy_model
from edgecxr_export.networks import Networks

from .conftest import Network, inputs
from .small import with_ends

pytestmark = pytest.mark.lab
LEVELS = 127


@pytest.fixture(scope="module")
def calibrated(network: Network) -> litert.Calibrated:
    """A whole Xception, calibrated."""
    return litert.calibrate(deploy_model(network.reference, network.recipe, "float32"), with_ends(inputs(16, seed=50)))


@pytest.fixture(scope="module")
def networks(network: Network) -> Networks:
    return Networks(network.onnx, with_ends(inputs(16, seed=50)))


def test_every_convolution_and_activation_has_its_own(
    network: Network, calibrated: litert.Calibrated, networks: Networks
) -> None:
    wiring = transfer.match(calibrated.model, network.onnx)
    assert set(wiring.convolutions) == set(calibrated.convolutions)
    assert sorted(wiring.convolutions.values()) == sorted(
        node.name for node in body(network.onnx) if node.op_type == "Conv"
    )
    # Both converters saw the same pictures, so the ranges say whether a tensor is the value that it was taken for.
    tensors = tflite_graph.parse(calibrated.model).subgraphs[0].tensors
    ranges = networks.ranges("as trained", "min-max")
    checked = 0
    for index, name in wiring.values.items():
        if name in ranges:
            found = tensors[index].quantization
            width = ranges[name][1] - ranges[name][0]
            np.testing.assert_allclose((found.min[0], found.max[0]), ranges[name], atol=1e-3 * width)
            checked += 1
    assert checked == 74 + 12 + 11 + 4  # convolutions, with or without their Relu; sums, their Relus, pools


def test_channels_alike_are_the_same_function_in_float(
    network: Network, calibrated: litert.Calibrated, networks: Networks
) -> None:
    wiring = transfer.match(calibrated.model, network.onnx)
    alike = networks.network("alike", "nearest", LEVELS)
    moved = transfer.moved(calibrated.model, wiring, alike, networks.ranges("alike", "min-max"))
    before, after = (LiteRtEngine(data, "cpu", "fp32", 2).run(network.inputs) for data in (calibrated.model, moved))
    assert np.abs(after - before).max() < 1e-4 * np.ptp(before, axis=0).max()
    assert transfer.moved(calibrated.model, wiring, alike, networks.ranges("alike", "min-max")) == moved
    kernels = [
        [np.asarray(tflite_graph.constant(lite, lite.subgraphs[0].tensors[operator.inputs[1]])).view(np.float32)]
        for lite in map(tflite_graph.parse, (calibrated.model, moved))
        for operator in [lite.subgraphs[0].operators[max(wiring.convolutions)]]
    ]
    assert not np.allclose(*kernels)  # it isn't the same network


def test_int8_loses_less(network: Network, calibrated: litert.Calibrated, networks: Networks) -> None:
    wiring = transfer.match(calibrated.model, network.onnx)
    unseen = inputs(16, seed=90)
    expected = LiteRtEngine(calibrated.model, "cpu", "fp32", 2).run(unseen)

    def lost(data: bytes) -> float:
        engine = LiteRtEngine(litert.serialise_int8(replace(calibrated, model=data)), "cpu", "int8", 2)
        return float(np.abs(engine.run(unseen) - expected).mean())

    made = networks.network("alike", "second-order", LEVELS)
    moved = transfer.moved(calibrated.model, wiring, made, networks.ranges("alike", "min-max"))
    assert lost(moved) < 0.8 * lost(calibrated.model)


def test_another_network_is_refused(network: Network, calibrated: litert.Calibrated) -> None:
    other: Any = onnx.ModelProto()
    other.CopyFrom(network.onnx)
    conv = [node for node in body(other) if node.op_type == "Conv"][20]
    (kernel,) = [tensor for tensor in other.graph.initializer if tensor.name == conv.input[1]]
    kernel.CopyFrom(numpy_helper.from_array(1.01 * numpy_helper.to_array(kernel), kernel.name))
    with pytest.raises(GateError, match="wired as the ONNX graph, got another"):
        transfer.match(calibrated.model, other)
