"""What a network's file says of itself, rewritten on its bytes."""

from __future__ import annotations

import onnx
import pytest

import tiny
from edgecxr.bundle import EMBEDDED, network

SAID = {"edgecxr.temperature": "1.25", "edgecxr.version": '"2+site"'}


def as_onnx_writes_it(data: bytes, entries: dict[str, str]) -> bytes:
    model = onnx.load_from_string(data)
    said = {entry.key: entry.value for entry in model.metadata_props} | entries
    del model.metadata_props[:]
    for key in sorted(said):
        model.metadata_props.add(key=key, value=said[key])
    return bytes(model.SerializeToString(deterministic=True))


@pytest.mark.parametrize("where", ["without any", "with others", "with a function"])
def test_an_onnx_file_is_as_onnx_would_have_written_it(where: str) -> None:
    model = onnx.load_from_string(tiny.tiny_model())
    if where == "with others":
        for key, value in (("zeta", "é" * 300), ("edgecxr.temperature", "2.0"), ("edgecxr.name", '"tiny"')):
            model.metadata_props.add(key=key, value=value)
    if where == "with a function":  # a field that comes behind
        model.functions.add(name="none", domain="of.nobody")
    data = model.SerializeToString()
    found = network.with_metadata(data, "onnx", SAID)
    network.check(found, "onnx")
    assert found == as_onnx_writes_it(data, SAID)
    assert network.metadata(found) == network.metadata(data) | SAID


def test_the_embedded_network_keeps_its_graph_to_the_byte() -> None:
    data = (EMBEDDED / "model.int8.onnx").read_bytes()
    found = network.with_metadata(data, "onnx", SAID)
    first, second = onnx.load_from_string(data), onnx.load_from_string(found)
    assert second.graph.SerializeToString() == first.graph.SerializeToString()
    assert network.metadata(found)["edgecxr.temperature"] == "1.25"
    said = {key: network.metadata(data)[key] for key in SAID}
    assert network.with_metadata(found, "onnx", said) == data
