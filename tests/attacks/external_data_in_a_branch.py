"""External data hidden in a tensor of a branch of an If, two messages deeper than where one would look."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

import tiny
from attacks import forge

REFUSED = "keeps weights in another file"


def make(folder: Path) -> Path:
    network = onnx.load_from_string(tiny.tiny_model())
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/hostname"
    result = helper.make_tensor_value_info("w", TensorProto.FLOAT, [3])
    branch = helper.make_graph([helper.make_node("Constant", [], ["w"], value=tensor)], "branch", [], [result])
    network.graph.node.append(helper.make_node("If", ["condition"], ["w"], then_branch=branch, else_branch=branch))
    return forge.with_file(folder, forge.MODEL, network.SerializeToString())
