"""The symmetric int8 file: every zero point is 0, no grey level is lost, and the ways and gates are int8's."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from rich.console import Console

from edgecxr.bundle import network
from edgecxr.engines.select import make_engine
from edgecxr.errors import GateError
from edgecxr.lab.run import Logits
from edgecxr_export.graphs.artifacts import NetworkFile
from edgecxr_export.graphs.onnx_graph import serialise
from edgecxr_export.int8 import quantize, search
from edgecxr_export.int8.networks import Networks
from edgecxr_export.int8.symmetric import centred
from edgecxr_export.int8.ways import Quantizer, Way
from export.parity.test_gates import PASSING
from export.small import pictures, small_graph, with_ends

WAY = Way(channels="alike", rounding="second-order")


@pytest.fixture(scope="module")
def networks() -> Networks:
    return Networks(small_graph(border=0), with_ends(pictures()))


@pytest.fixture(scope="module")
def made(networks: Networks) -> Any:
    return Quantizer(networks, full_range=True, zero_point_0=True).build(WAY)


def logits(model: Any, precision: str, engine: str = "onnxruntime") -> np.ndarray:
    inputs = np.concatenate([pictures(30, seed=5), with_ends(pictures())[-2:]])  # black and white too
    return make_engine(engine, serialise(model, {}), "cpu", precision, 1).run(inputs).logits


def test_taking_128_from_every_grey_level_changes_nothing() -> None:
    graph = small_graph(border=0)
    expected = logits(graph, "fp32")
    assert np.abs(logits(centred(graph), "fp32") - expected).max() < 1e-5 * np.abs(expected).max()
    with pytest.raises(GateError, match=r"must not pad where activations are symmetric, got a border of zeros"):
        centred(small_graph())


def test_every_zero_point_is_0_and_every_integer_an_int8(made: Any) -> None:
    constants = {tensor.name: tensor for tensor in made.graph.initializer}
    nodes = [node for node in made.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert nodes
    for node in nodes:
        zero_point = constants[node.input[2]]
        assert zero_point.data_type == TensorProto.INT8
        assert not numpy_helper.to_array(zero_point).any()
    # But for the shape that the picture is given, and the axes of the head's sum.
    assert {t.data_type for t in constants.values()} == {TensorProto.FLOAT, TensorProto.INT8, TensorProto.INT64}
    kernels = [numpy_helper.to_array(t) for t in constants.values() if t.data_type == TensorProto.INT8 and t.dims]
    assert {int(np.abs(kernel.astype(int)).max()) for kernel in kernels if kernel.ndim == 4} == {127}
    assert network.precision(serialise(made, {})) == "int8-symmetric"  # of a lone file


def test_all_grey_levels_stay_apart(made: Any) -> None:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    first = next(node for node in made.graph.node if node.op_type == "QuantizeLinear")
    subtract = next(node for node in made.graph.node if first.input[0] in node.output)
    assert (subtract.op_type, float(constants[subtract.input[1]])) == ("Sub", 128)
    assert float(constants[first.input[1]]) == 1  # 0 to 255 become -128 to 127


def test_nothing_is_rounded_between_a_convolution_and_its_relu(made: Any) -> None:
    maker = {name: node for node in made.graph.node for name in node.output}
    above = [maker[node.input[0]].op_type for node in made.graph.node if node.op_type == "Relu"]
    assert above == ["Conv", "Conv", "Add"]
    read = [maker[node.input[0]].op_type for node in made.graph.node if node.op_type == "Conv"]
    assert read == ["DequantizeLinear"] * 5 + ["Relu"]  # the head is in float


def test_it_answers_as_the_float_network_does(made: Any, networks: Networks) -> None:
    expected = logits(networks.model, "fp32")
    # Pictures' logits lie 5 apart; half a step of 127 in each of five activations is some 2 % of that.
    for engine in ("onnxruntime", "openvino"):
        assert np.abs(logits(made, "int8-symmetric", engine) - expected).max() < 0.05 * np.ptp(expected, axis=0).max()


def test_it_goes_through_the_same_ways_and_gates(networks: Networks) -> None:
    judged: list[NetworkFile] = []

    def judge(artifact: NetworkFile) -> Any:
        judged.append(artifact)
        return PASSING, ["too much"] if len(judged) < 3 else []

    inputs = pictures(12, seed=7)
    task = search.Task(
        calibration=with_ends(pictures()),
        inputs=inputs,
        dev=Logits(
            tuple(map(str, range(12))),
            np.zeros(12, dtype=np.int64),
            make_engine("onnxruntime", serialise(networks.model, {}), "cpu", "fp32", 1).run(inputs).logits,
        ),
        metadata={},
        judge=judge,
        console=Console(file=io.StringIO()),
    )
    artifact, report = search.onnx_int8(networks, 17, task, full_range=True, zero_point_0=True)
    assert (artifact.file, artifact.precision) == ("model.int8-symmetric.onnx", "int8-symmetric")
    assert artifact.details["weight_bits"] == 8
    assert report["settings"]["activations"] == "int8, zero point 0"
    assert report["settings"]["weight_levels"] == 127
    assert len(report["trials"]) == 5
    assert [len(step["float_nodes"]) for step in report["steps"]] == [0, 1, 2]
    assert artifact.details["float_nodes"] == sorted(report["steps"][-1]["float_nodes"])
    graph = onnx.load_from_string(artifact.model).graph
    maker = {name: node.op_type for node in graph.node for name in node.output}
    weights = [maker.get(node.input[1]) for node in graph.node if node.op_type == "Conv"]
    assert weights.count("DequantizeLinear") == 3  # of five, and the head
    assert quantize.Settings().activations == "uint8"  # int8's own stay what they are
