"""The fp16 graph: halves inside, the picture as it comes, the head and its sums in float32."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from edgecxr.engines.ort import OnnxRuntimeEngine
from edgecxr.errors import GateError
from edgecxr_export.graphs.half import half
from edgecxr_export.graphs.onnx_graph import body, serialise
from export.small import pictures, small_graph


def test_the_answers_are_those_of_halves() -> None:
    model, inputs = small_graph(), pictures()
    data = serialise(half(model), {"labels": "[]"})  # checked, types inferred
    expected = OnnxRuntimeEngine(model.SerializeToString(), "cpu", "fp32", 1)
    found = OnnxRuntimeEngine(data, "cpu", "fp16", 1)
    scale = np.abs(expected.run(inputs).logits).max()
    difference = np.abs(found.run(inputs).logits - expected.run(inputs).logits).max()
    assert 1e-7 * scale < difference < 2e-3 * scale  # 11 bits of mantissa, and not more of them
    bias = numpy_helper.to_array(onnx.load_from_string(data).graph.initializer[-1])
    # The head's sum is float32: with halves it would be off by a thousandth.
    total = found.run(inputs).evidence.astype(np.float64).sum(axis=(1, 2)) + bias
    assert np.abs(total - found.run(inputs).logits).max() < 1e-5 * scale


def test_where_the_halves_are() -> None:
    made = half(small_graph())
    kinds = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(made).graph.value_info
    }
    assert {kinds[node.output[0]] for node in body(made)} == {TensorProto.FLOAT16}
    assert made.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert {value.type.tensor_type.elem_type for value in made.graph.output} == {TensorProto.FLOAT}
    casts = [node.attribute[0].i for node in made.graph.node if node.op_type == "Cast"]
    assert casts == [TensorProto.FLOAT16, TensorProto.FLOAT]  # the picture, and the features before the head
    large = [tensor for tensor in made.graph.initializer if tensor.data_type == TensorProto.FLOAT]
    assert {len(numpy_helper.to_array(tensor)) for tensor in large} == {3}  # the head's weights and bias


def test_a_weight_that_fits_no_half_is_refused() -> None:
    model = small_graph()
    tensor = next(t for t in model.graph.initializer if t.name == body(model)[0].input[1])
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1e8), tensor.name))
    with pytest.raises(GateError, match="doesn't fit a half"):
        half(model)
