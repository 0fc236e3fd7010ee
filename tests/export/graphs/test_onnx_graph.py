"""The fp32 ONNX file: Keras's answers, stable bytes, and what a lone file says about itself."""

from __future__ import annotations

import json
import os
import random

import numpy as np
import onnx
import pytest

from edgecxr.engines.ort import OnnxRuntimeEngine
from edgecxr.errors import UsageError
from edgecxr_export.graphs.onnx_graph import canonical, convert, serialise
from export.conftest import Network
from export.graphs.test_litert_conversion import small_model

pytestmark = pytest.mark.lab


def test_onnx_runtime_answers_as_keras_does(network: Network) -> None:
    engine = OnnxRuntimeEngine(network.bytes, "cpu", "fp32", 1)
    assert np.abs(engine.run(network.inputs).logits - network.logits).max() < 1e-4
    assert np.abs(engine.run(network.inputs[:1]).logits - network.logits[:1]).max() < 1e-4
    expected = network.deploy(network.inputs, training=False)["evidence"].numpy()
    evidence = engine.run(network.inputs).evidence
    assert evidence.shape == (8, 3, 3, 3)
    assert np.abs(evidence - expected).max() < 1e-4


def test_the_file_is_what_a_device_expects(network: Network) -> None:
    model = onnx.load_from_string(network.bytes)
    assert model.ir_version == 8
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    (image,) = model.graph.input
    assert image.name == "image"
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    shape = [dim.dim_param or dim.dim_value for dim in image.type.tensor_type.shape.dim]
    assert shape == ["N", 96, 96, 1]
    assert [output.name for output in model.graph.output] == ["logits", "evidence", "ood"]
    operators = {node.op_type for node in model.graph.node}
    assert "BatchNormalization" not in operators
    assert not any(tensor.HasField("data_location") and tensor.data_location for tensor in model.graph.initializer)
    assert len(network.bytes) < 45_300_000 + 1_000_000


def test_metadata_makes_a_lone_file_usable(network: Network) -> None:
    data = serialise(network.onnx, {"labels": json.dumps(["a", "b"]), "temperature": "1.5"})
    found = {entry.key: json.loads(entry.value) for entry in onnx.load_from_string(data).metadata_props}
    assert found == {"edgecxr.labels": ["a", "b"], "edgecxr.temperature": 1.5}


def test_names_and_order_of_the_old_graph_leave_no_trace(network: Network) -> None:
    """Another process's names, and initializers and attributes in another order, give the same bytes."""
    other = onnx.ModelProto()
    other.CopyFrom(network.onnx)
    rng = random.Random(3)
    kept = {"image", "logits", "evidence", "ood"}
    names: dict[str, str] = {}

    def renamed(name: str) -> str:
        return name if name in kept else names.setdefault(name, f"x{rng.getrandbits(64)}")

    for node in other.graph.node:
        node.name = f"n{rng.getrandbits(64)}"
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
    tensors = list(other.graph.initializer)
    for tensor in tensors:
        tensor.name = renamed(tensor.name)
    rng.shuffle(tensors)
    del other.graph.initializer[:]
    other.graph.initializer.extend(tensors)
    assert other.SerializeToString() != network.onnx.SerializeToString()
    assert serialise(canonical(other), {}) == serialise(canonical(network.onnx), {})


def test_an_untried_opset_is_refused(network: Network) -> None:
    with pytest.raises(UsageError, match="opset must be one of 17, 18, got 9"):
        convert(network.deploy, 9)


def test_the_converter_makes_no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """tf2onnx copies the graph before each pass unless it is told that an error is an error; the setting is undone."""
    from tf2onnx import optimizer

    told = []

    def optimize(graph: object, catch_errors: bool, optimizers: object = None) -> object:
        told.append(catch_errors)
        raise RuntimeError("seen")

    monkeypatch.setattr(optimizer, "optimize_graph", optimize)
    for before in (None, "TRUE"):
        monkeypatch.delenv("TF2ONNX_CATCH_ERRORS", raising=False)
        if before:
            monkeypatch.setenv("TF2ONNX_CATCH_ERRORS", before)
        with pytest.raises(RuntimeError, match="seen"):
            convert(small_model("uint8"), 17)
        assert os.environ.get("TF2ONNX_CATCH_ERRORS") == before
    assert told == [False, False]
