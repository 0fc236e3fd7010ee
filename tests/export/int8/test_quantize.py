"""The int8 file: what is quantized, what isn't, and that the picture goes in as it comes."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgecxr.engines.ort import OnnxRuntimeEngine
from edgecxr.errors import DataError, GateError
from edgecxr.lab.dataset import Example
from edgecxr_export.graphs.onnx_graph import bias_tensor, serialise
from edgecxr_export.int8 import quantize as module
from edgecxr_export.int8.networks import Networks
from edgecxr_export.int8.quantize import calibration_inputs, calibration_rows, head_nodes
from edgecxr_export.int8.ways import Quantizer, Way
from export.conftest import BLOCKS, CONVOLUTIONS, SUMS, Network
from export.optimised import optimised
from export.small import pictures as small_pictures
from export.small import small_graph, with_ends

WAY = Way(channels="alike", rounding="second-order")  # what is usually chosen


def example(label: str, origin: str, number: int, split: str = "train") -> Example:
    file = f"{label}/{origin}{number}.png"
    return Example(Path(file), file, label, split, file, {"origin": origin})


def test_calibration_pictures_are_spread_over_classes_and_origins() -> None:
    sizes = {("a", "x"): 100, ("a", "y"): 3, ("b", "x"): 50}
    examples = [example(label, origin, i) for (label, origin), n in sizes.items() for i in range(n)]
    examples += [example("a", "x", 1000 + i, split) for i in range(9) for split in ("dev", "test")]
    rows = calibration_rows(examples, 33)
    assert rows == calibration_rows(examples, 33) == sorted(set(rows))
    chosen = Counter((examples[row].label, examples[row].origin) for row in rows)
    # 3 is all that (a, y) has; the other two share the remaining 30.
    assert chosen == {("a", "x"): 15, ("a", "y"): 3, ("b", "x"): 15}
    assert {examples[row].split for row in rows} == {"train"}
    assert calibration_rows(examples, 1000) == list(range(153))


def test_a_folder_too_small_to_calibrate_is_refused() -> None:
    with pytest.raises(DataError, match=r"needs 8 training pictures or more, got 7: .* too small to calibrate"):
        calibration_rows([example("a", "x", i) for i in range(7)], 128)


def test_black_and_white_are_among_the_inputs() -> None:
    pictures = np.full((5, 4, 4), 100, dtype=np.uint8)
    made = calibration_inputs(pictures, [0, 3])
    assert made.shape == (4, 4, 4, 1)
    assert made.dtype == np.uint8
    assert [int(picture.max()) for picture in made] == [100, 100, 0, 255]


@pytest.fixture(scope="module")
def int8(networks: Networks) -> bytes:
    return serialise(Quantizer(networks).build(WAY), {})


@pytest.mark.lab
def test_the_picture_itself_is_the_quantized_tensor(int8: bytes) -> None:
    graph = onnx.load_from_string(int8).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    reader = {name: node for node in graph.node for name in node.input}
    reshape = reader["image"]
    dequantizer = reader[reshape.output[0]]
    conv = reader[dequantizer.output[0]]
    assert [reshape.op_type, dequantizer.op_type, conv.op_type] == ["Reshape", "DequantizeLinear", "Conv"]
    assert constants[dequantizer.input[1]] == 1
    assert constants[dequantizer.input[2]] == 0
    assert constants[dequantizer.input[2]].dtype == np.uint8
    assert "Cast" not in {node.op_type for node in graph.node}
    shape = [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["N", 96, 96, 1]


@pytest.mark.lab
def test_weights_are_seven_bits_per_channel_and_the_head_is_float(int8: bytes) -> None:
    graph = onnx.load_from_string(int8).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    maker = {name: node for node in graph.node for name in node.output}
    convs = [node for node in graph.node if node.op_type == "Conv"]
    quantized = 0
    for conv in convs:
        made_by = maker.get(conv.input[1])
        if made_by is None:
            continue
        weights, scale = (constants[name] for name in made_by.input[:2])
        assert weights.dtype == np.int8
        assert np.abs(weights.astype(int)).max() <= 64
        assert scale.shape == (weights.shape[0],)
        quantized += 1
    assert quantized == CONVOLUTIONS
    last = max(place for place, node in enumerate(graph.node) if node.op_type == "DequantizeLinear")
    head = [node.op_type for node in list(graph.node)[last + 1 :]]
    assert ("ReduceSum", "Add") in pairwise(head)  # the logits; `ood` stands behind them
    assert "QuantizeLinear" not in head
    assert len(int8) < 12_000_000


@pytest.mark.lab
def test_int8_keeps_the_answers_roughly_and_the_evidence_exactly(int8: bytes, network: Network) -> None:
    engine = OnnxRuntimeEngine(int8, "cpu", "int8", 1)
    logits = engine.run(network.inputs).logits
    assert logits.shape == network.logits.shape
    # Random weights pass rounding on as trained ones don't, so what varies between pictures must agree in the main.
    ours, theirs = (a - a.mean(axis=0) for a in (logits, network.logits))
    assert (
        np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.5
    )  # 0.73 and 0.9 here, about 0 for a graph that is miswired
    bias = numpy_helper.to_array(bias_tensor(onnx.load_from_string(int8)))
    assert np.abs(engine.run(network.inputs).evidence.sum(axis=(1, 2)) + bias - logits).max() < 1e-4


@pytest.mark.lab
def test_the_mean_logits_of_the_calibration_pictures_are_fp32_s(
    int8: bytes, network: Network, networks: Networks
) -> None:
    pictures = networks.pictures
    assert len(pictures) == 16  # black and white have no part in it
    means = [
        OnnxRuntimeEngine(model, "cpu", precision, 1).run(pictures).logits.mean(axis=0)
        for model, precision in ((int8, "int8"), (network.bytes, "fp32"))
    ]
    assert np.abs(means[0] - means[1]).max() < 1e-4
    # Something was there to correct: the head's bias is another than in fp32.
    biases = [numpy_helper.to_array(bias_tensor(onnx.load_from_string(model))) for model in (int8, network.bytes)]
    assert np.abs(biases[0] - biases[1]).max() > 1e-3


def test_taking_the_cast_away_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, calibration = small_graph(), with_ends(small_pictures())
    int8 = serialise(Quantizer(Networks(graph, calibration)).build(WAY), {})
    monkeypatch.setattr(module, "take_uint8", lambda model: model)
    whole = serialise(Quantizer(Networks(graph, calibration)).build(WAY), {})
    assert "Cast" in {node.op_type for node in onnx.load_from_string(whole).graph.node}
    assert "Cast" not in {node.op_type for node in onnx.load_from_string(int8).graph.node}
    expected = OnnxRuntimeEngine(whole, "cpu", "int8", 1).run(small_pictures(9)).logits
    assert np.array_equal(OnnxRuntimeEngine(int8, "cpu", "int8", 1).run(small_pictures(9)).logits, expected)


def test_a_graph_whose_input_has_another_scale_is_refused() -> None:
    whole = Quantizer(Networks(small_graph(), with_ends(small_pictures()))).build(Way())
    dequantizer = next(node for node in whole.graph.node if node.op_type == "DequantizeLinear")
    dequantizer.op_type = "Cast"  # not the way from a picture to a quantized tensor
    with pytest.raises(GateError, match="lead to one Cast, got Reshape"):
        module.take_uint8(whole)


def test_full_range_is_eight_bits_and_the_default_seven() -> None:
    for full_range, largest in ((False, 64), (True, 127)):
        made = Quantizer(Networks(small_graph(), with_ends(small_pictures())), full_range=full_range).build(WAY)
        kernels = [numpy_helper.to_array(tensor) for tensor in made.graph.initializer if len(tensor.dims) == 4]
        assert {np.abs(k.astype(int)).max() for k in kernels if k.dtype == np.int8} == {largest}


def test_a_black_and_white_range_whatever_was_calibrated_on() -> None:
    grey = np.clip(small_pictures(), 30, 200)
    made = Quantizer(Networks(small_graph(), with_ends(grey))).build(Way("99.99"))  # clips everything but the picture
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    reshape = next(node for node in made.graph.node if "image" in node.input)
    dequantizer = next(node for node in made.graph.node if reshape.output[0] in node.input)
    assert [constants[name].item() for name in dequantizer.input[1:]] == [1.0, 0]


@pytest.mark.lab
def test_after_the_engine_s_optimisation_all_but_the_head_and_the_sums_are_integers(
    int8: bytes, tmp_path: Path
) -> None:
    """A float island can't come back unseen: what ONNX Runtime makes of the file, operator by operator."""
    graph = optimised(int8, tmp_path).graph
    kinds = [node.op_type for node in graph.node]
    # The picture goes into the first convolution as it is.
    assert not {"Cast", "QuantizeLinear", "DequantizeLinear"} & set(kinds[: kinds.index("QLinearConv")])
    counts = Counter(node.op_type for node in leading_to(graph, "logits", "evidence"))
    assert counts["QLinearConv"] == CONVOLUTIONS
    # In float: the head, and the sums of the middle flow, which the next sum reads as they are and the next block cut
    # off at 0. They cost no time (1.003 times that of a graph with all sums in integers).
    assert counts["QLinearAdd"] + counts["Add"] == SUMS + 1  # four shortcuts, the middle blocks, the head's bias
    assert counts["Add"] <= BLOCKS + 2
    assert counts["Conv"] + counts["FusedConv"] + counts["MatMul"] + counts["FusedMatMul"] == 1
    assert counts["QuantizeLinear"] <= BLOCKS + 4
    assert counts["DequantizeLinear"] <= BLOCKS + 6
    known = {"QLinearConv", "QLinearAdd", "Conv", "FusedConv", "MatMul", "FusedMatMul", "QuantizeLinear"}
    known |= {"DequantizeLinear", "MaxPool", "NhwcMaxPool", "Reshape", "Transpose", "ReduceSum", "Add"}
    known |= {"ReorderInput", "ReorderOutput"}  # of the head's convolution
    assert set(counts) <= known
    assert "Conv" not in set(kinds) - set(counts)  # `ood` is sums and two products


def leading_to(graph: Any, *outputs: str) -> list[Any]:
    """The nodes of a graph on which those outputs depend."""
    maker = {name: node for node in graph.node for name in node.output}
    wanted, found = list(outputs), {}
    while wanted:
        node = maker.get(wanted.pop())
        if node is not None and id(node) not in found:
            found[id(node)] = node
            wanted += node.input
    return list(found.values())


@pytest.mark.lab
def test_the_head_is_what_follows_the_last_relu(network: Network) -> None:
    kinds = [name.rsplit("_", 1)[0] for name in head_nodes(network.onnx)]
    pooled = ["conv", "transpose", "reducesum", "add"]
    flattened = ["transpose", "reshape", "matmul", "reshape", "reducesum", "add"]
    expected = pooled if network.recipe.head == "pooled" else flattened
    assert kinds[: len(expected)] == expected
    behind = {node.name for node in leading_to(network.onnx.graph, "logits", "evidence")}
    assert not behind & set(head_nodes(network.onnx)[len(expected) :])  # the rest is `ood`'s
