"""A float graph made ready for symmetric activations: its picture's grey levels lie about 0, and fill int8 exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgecxr.errors import GateError
from edgecxr_export.graphs.onnx_graph import INPUT

MIDDLE = 128  # of the grey levels 0 to 255; less this they are int8's -128 to 127
LEVELS = 127  # of an activation on either side of 0, as TensorRT and ONNX Runtime have it; the picture's black is -128


def centred(model: Any) -> Any:
    """A copy of the fp32 `model` (onnx.ModelProto) whose first convolution reads grey levels less MIDDLE: exact.

    What is taken from every grey level, the convolution's bias gives back. Behind a Relu half of int8 is lost to a
    symmetric activation; the picture loses nothing so. Raises GateError where the convolution pads: its zeros would
    mean MIDDLE then.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    place, conv = next((place, node) for place, node in enumerate(graph.node) if node.op_type == "Conv")
    if any(any(attribute.ints) for attribute in conv.attribute if attribute.name == "pads"):
        raise GateError("the first convolution must not pad where activations are symmetric, got a border of zeros")
    weights = {tensor.name: tensor for tensor in graph.initializer}
    kernel = numpy_helper.to_array(weights[conv.input[1]])  # (out, in, h, w)
    given_back = MIDDLE * kernel.sum(axis=(1, 2, 3), dtype=np.float64)
    bias = numpy_helper.to_array(weights[conv.input[2]]) if len(conv.input) == 3 else 0.0
    picture, middle, name = f"{INPUT}.centred", f"{INPUT}.middle", f"{INPUT}.bias"
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.float32(MIDDLE), middle),
            numpy_helper.from_array((bias + given_back).astype(np.float32), name),
        ]
    )
    graph.node.insert(place, helper.make_node("Sub", [conv.input[0], middle], [picture], name=picture))
    conv.input[:] = [picture, conv.input[1], name]
    return copy
