"""The third output: the score that was fitted, in every format and precision, and nothing else moved by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from edgecxr.engines.litert import LiteRtEngine
from edgecxr.engines.ort import OnnxRuntimeEngine
from edgecxr_export.graphs import half, onnx_graph, ood, tflite, tflite_graph
from edgecxr_export.graphs.deploy import deploy_model
from edgecxr_export.int8 import quantize
from edgecxr_export.int8.ways import Way
from export.conftest import Network

pytestmark = pytest.mark.lab


def without(model: Any) -> bytes:
    """The same ONNX network without its third output."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[2:]
    return onnx_graph.serialise(onnx_graph.canonical(copy), {})


def expected(network: Network) -> np.ndarray:
    """By numpy, from the moments of the trained model's own maps."""
    backbone = network.reference.get_layer("xception")
    import keras

    maps = keras.Model(backbone.input, backbone.get_layer("block12_add").output)
    scaled = network.inputs.astype(np.float32) * network.recipe.scale + network.recipe.offset
    found = maps(np.repeat(scaled, 3, axis=-1), training=False).numpy().astype(np.float64)
    return network.score.of(np.concatenate([found.mean(axis=(1, 2)), found.std(axis=(1, 2))], axis=1))


def test_float_files_give_the_score(network: Network) -> None:
    scores = expected(network)
    assert np.ptp(scores) > 1  # else the pictures all look alike to it, and nothing is tested
    answered = OnnxRuntimeEngine(network.bytes, "cpu", "fp32", 1).run(network.inputs)
    assert answered.ood is not None
    assert answered.ood.shape == (8, 1)
    assert np.abs(answered.ood[:, 0] - scores).max() < 1e-3
    halves = onnx_graph.serialise(half.half(network.onnx), {})
    rounded = OnnxRuntimeEngine(halves, "cpu", "fp16", 1).run(network.inputs)
    assert rounded.ood is not None
    assert 0 < np.abs(rounded.ood[:, 0] - scores).max() < 0.05 * np.ptp(scores)


def test_the_moments_that_are_fitted_are_those_of_the_graph(network: Network) -> None:
    moments = ood.extractor(network.reference, network.recipe).predict(network.inputs, verbose=0)
    assert moments.shape == (8, 2 * 728)
    assert np.abs(network.score.of(moments) - expected(network)).max() < 1e-3


def test_onnx_logits_keep_their_bits(network: Network, networks: Any) -> None:
    from edgecxr_export.int8.ways import Quantizer

    int8 = Quantizer(networks).build(Way())
    for precision, model in (("fp32", network.onnx), ("int8", int8)):
        ours = OnnxRuntimeEngine(onnx_graph.serialise(model, {}), "cpu", precision, 1).run(network.inputs)
        plain = OnnxRuntimeEngine(without(model), "cpu", precision, 1).run(network.inputs)
        assert plain.ood is None
        assert np.array_equal(ours.logits, plain.logits)
        assert np.array_equal(ours.evidence, plain.evidence)
        assert np.abs(ours.ood[:, 0] - expected(network)).max() < (0.2 if precision == "int8" else 1e-3) * 10


def test_conversion_gives_the_rest_of_the_graph_as_without_it(network: Network) -> None:
    """The converter folds the same network, so that a RUN's logits don't depend on what its outliers were."""
    plain = onnx_graph.convert(deploy_model(network.reference, network.recipe), 17)
    assert onnx_graph.serialise(plain, {}) == without(network.onnx)


def test_int8_nodes_of_ood_are_float(network: Network, networks: Any) -> None:
    from edgecxr_export.int8.ways import Quantizer

    model = Quantizer(networks).build(Way())
    nodes = {name: node for node in model.graph.node for name in node.output}
    behind, waiting = [], ["ood"]
    while waiting:
        node = nodes.get(waiting.pop())
        if node is not None and node.op_type not in ("DequantizeLinear", "QuantizeLinear"):
            behind.append(node.op_type)
            waiting += list(node.input)
    assert {"Sqrt", "MatMul", "GlobalAveragePool"} <= set(behind)
    assert not {"Conv", "Relu"} & set(behind)  # the walk ends at one step from int8, after the last middle block


def test_tflite_logits_keep_their_bits(network: Network, calibrated: Any) -> None:
    plain = tflite.calibrate(deploy_model(network.reference, network.recipe, "float32"), quantize_inputs())
    with_ood, bare = (tflite.serialise_int8(each) for each in (calibrated, plain))
    ours, theirs = (LiteRtEngine(data, "cpu", "int8", 1).run(network.inputs) for data in (with_ood, bare))
    assert theirs.ood is None
    assert np.array_equal(ours.logits, theirs.logits)
    assert np.array_equal(ours.evidence, theirs.evidence)
    assert ours.ood is not None
    assert np.abs(ours.ood[:, 0] - expected(network)).max() < 1
    model = tflite_graph.parse(with_ood)
    graph = model.subgraphs[0]
    kinds = {tflite_graph.kind(model, graph.operators[place]) for place in tflite_graph.head(model)}
    assert {"SQRT", "DEQUANTIZE"} <= kinds


def quantize_inputs() -> np.ndarray:
    from export.conftest import calibration

    assert quantize.ENDS == 2
    return calibration()
