"""Ranges of activations, against numpy on the activations themselves."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from edgecxr_export.graphs.onnx_graph import body
from edgecxr_export.int8.ranges import extents, percentiles
from export.small import pictures, small_graph


def activations(model: object, inputs: np.ndarray, name: str) -> np.ndarray:
    """What ONNX's own reference implementation computes for that value."""
    import onnx

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.append(onnx.ValueInfoProto(name=name))
    (value,) = ReferenceEvaluator(watched).run(None, {"image": inputs})
    return np.asarray(value)


def test_the_body_goes_from_the_first_convolution_to_the_last_relu() -> None:
    kinds = [node.op_type for node in body(small_graph())]
    assert kinds == ["Conv", "Relu", "Conv", "Conv", "Relu", "Conv", "Conv", "Add", "Relu"]


def test_extents_are_those_of_every_channel() -> None:
    model, inputs = small_graph(), pictures(7)  # an odd number: the last batch is a smaller one
    found = extents(model, inputs)
    assert set(found) == {node.output[0] for node in body(model)}
    for name in (body(model)[0].output[0], body(model)[7].output[0]):
        expected = activations(model, inputs, name)
        np.testing.assert_allclose(found[name].lowest, expected.min(axis=(0, 2, 3)), atol=1e-5)
        np.testing.assert_allclose(found[name].highest, expected.max(axis=(0, 2, 3)), atol=1e-5)
        assert found[name].whole == pytest.approx((expected.min(), expected.max()), abs=1e-5)


def test_percentiles_are_numpy_s() -> None:
    model, inputs = small_graph(), pictures(8)
    name = body(model)[0].output[0]
    whole = {name: extents(model, inputs)[name].whole}
    values = activations(model, inputs, name)
    everything, most, half = percentiles(model, inputs, whole, [100.0, 99.0, 75.0])
    width = (whole[name][1] - whole[name][0]) / 4096  # a bin
    assert everything[name] == pytest.approx(whole[name], abs=1.01 * width)
    assert most[name] == pytest.approx(np.percentile(values, [1, 99]), abs=2 * width)
    assert half[name] == pytest.approx(np.percentile(values, [25, 75]), abs=2 * width)
