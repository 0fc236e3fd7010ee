"""The ONNX graph in half precision, for GPUs: weights and activations in float16, head, `ood` and sums in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgecxr.errors import GateError
from edgecxr_export.graphs.onnx_graph import INPUT, body, canonical


def half(model: Any) -> Any:
    """The canonical fp32 `model` (onnx.ModelProto) with its body in float16; canonical too.

    The uint8 picture becomes float16 directly: 0 to 255 are whole there. Convolutions add up in float32 on GPUs by
    themselves; what adds up over places and channels outside of the body, the head and `ood`, stays float32.
    Raises GateError where a weight doesn't fit a half.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    inside = body(copy)
    (cast,) = [node for node in graph.node if INPUT in node.input and node.op_type == "Cast"]
    (to,) = [attribute for attribute in cast.attribute if attribute.name == "to"]
    to.i = TensorProto.FLOAT16
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in inside:
        for name in node.input:
            if name in weights and weights[name].data_type == TensorProto.FLOAT:
                _halve(weights[name])
    made = {name for node in inside for name in node.output}
    names = {node.name for node in inside}
    leaving: dict[str, str] = {}
    for node in graph.node:
        if node.name not in names:
            leaving |= {name: f"{name}.float" for name in node.input if name in made}
            node.input[:] = [leaving.get(name, name) for name in node.input]
    for half_, float_ in leaving.items():
        graph.node.append(helper.make_node("Cast", [half_], [float_], to=TensorProto.FLOAT))
    return canonical(copy)


def _halve(tensor: Any) -> None:
    value = numpy_helper.to_array(tensor)
    largest = float(np.abs(value).max(initial=0))
    if not largest <= float(np.finfo(np.float16).max):
        raise GateError(f"a weight of {largest:.3g} doesn't fit a half, whose largest is 65504; leave fp16 out")
    tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float16), tensor.name))
