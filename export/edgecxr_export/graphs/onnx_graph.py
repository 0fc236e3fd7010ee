"""The deploy model as one ONNX file whose bytes depend on the weights alone, not on the process that wrote them."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import onnx
from onnx import helper, numpy_helper

import edgecxr
from edgecxr import engines
from edgecxr.bundle import METADATA_PREFIX
from edgecxr.errors import GateError, UsageError

INPUT = "image"
BATCH = "N"  # name of the free dimension
OPSETS = (17, 18)  # those that were tried; both go with IR 8, which ONNX Runtime reads since 1.10
IR_VERSION = 8
PRODUCER = "edgecxr"
CATCH_ERRORS = "TF2ONNX_CATCH_ERRORS"  # read by tf2onnx.convert from the environment only


def convert(model: Any, opset: int) -> Any:
    """The deploy model (Keras, of `deploy.deploy_model`) as a canonical onnx.ModelProto.

    Raises UsageError for an opset that wasn't tried, GateError where the converter left a batch norm unfolded.
    """
    # Everything else here works on graphs alone, and TensorFlow takes its time to load.
    import tensorflow as tf
    import tf2onnx

    if opset not in OPSETS:
        raise UsageError(f"the opset must be one of {', '.join(map(str, OPSETS))}, got {opset}")
    _, height, width, channels = model.input.shape
    signature = [tf.TensorSpec((None, height, width, channels), model.input.dtype, name=INPUT)]
    function = tf.function(lambda image: model(image, training=False), input_signature=signature)
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it tells the story of every pass
    try:
        with _without_copies():
            proto, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=opset)
    finally:
        logger.setLevel(level)
    left = [node.name for node in proto.graph.node if node.op_type == "BatchNormalization"]
    if left:
        raise GateError(f"the converter was expected to fold every batch norm and left {len(left)}")
    return canonical(proto)


@contextmanager
def _without_copies() -> Iterator[None]:
    """Keep tf2onnx from copying the graph before each of its passes, and let go of what it leaves behind.

    It copies in order to go on from the copy where a pass fails, which here is an error. Graphs refer to themselves and
    wait for the garbage collector: at 299 px a conversion took 5.4 GB with copies, 3.2 GB without, and kept 2.4 GB.
    """
    before = os.environ.get(CATCH_ERRORS)
    os.environ[CATCH_ERRORS] = "FALSE"
    try:
        yield
    finally:
        if before is None:
            del os.environ[CATCH_ERRORS]
        else:
            os.environ[CATCH_ERRORS] = before
        gc.collect()


def canonical(proto: Any) -> Any:
    """The same graph with nodes, values and initializers named and ordered by the graph's own structure.

    tf2onnx names initializers and free dimensions differently in every process. Here nodes come in the order in which
    a walk back from the outputs meets them, and are named after operator and place; an initializer is named after its
    first reader. Nothing else of the old file is kept: no shapes of intermediates, comments or metadata.
    """
    old = proto.graph
    nodes = list(_walk(old))
    names = {INPUT: INPUT, **{name: name for name in _outputs(old)}, "": ""}  # "" stands for an optional input left out
    weights = {tensor.name: tensor for tensor in old.initializer}
    initializers, new_nodes = [], []
    for place, node in enumerate(nodes):
        stem = f"{node.op_type.lower()}_{place:03d}"
        for position, name in enumerate(node.input):
            if name not in names:
                names[name] = f"{stem}.in{position}"
                initializers.append(numpy_helper.from_array(numpy_helper.to_array(weights[name]), names[name]))
        for position, name in enumerate(node.output):
            names.setdefault(name, f"{stem}.out{position}")
        new = helper.make_node(
            node.op_type,
            [names[name] for name in node.input],
            [names[name] for name in node.output],
            name=stem,
            domain=node.domain,
        )
        new.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
        new_nodes.append(new)
    outputs = {value.name: value for value in old.output}
    graph = helper.make_graph(
        new_nodes,
        PRODUCER,
        [_free_batch(value) for value in old.input],
        [_free_batch(outputs[name]) for name in _outputs(old)],
        initializers,
    )
    used = {node.domain for node in new_nodes}
    return helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=[opset for opset in sorted(proto.opset_import, key=lambda o: o.domain) if opset.domain in used],
        producer_name=PRODUCER,
        producer_version=edgecxr.__version__,
    )


def _outputs(graph: Any) -> list[str]:
    """The names of its outputs in our order, whatever the graph's: logits first, so that they end the network."""
    there = {value.name for value in graph.output}
    return [name for name in engines.OUTPUTS if name in there]


def _walk(graph: Any) -> Iterator[Any]:
    """Nodes in an order that serves each before its readers and depends on the wiring only, not on any name."""
    maker = {name: node for node in graph.node for name in node.output}
    done: set[int] = set()
    stack = [maker[name] for name in reversed(_outputs(graph))]
    while stack:
        node = stack[-1]
        waiting = [maker[name] for name in node.input if name in maker and id(maker[name]) not in done]
        if waiting:
            stack.extend(reversed(waiting))
            continue
        stack.pop()
        if id(node) not in done:
            done.add(id(node))
            yield node


def _free_batch(value: Any) -> Any:
    tensor = value.type.tensor_type
    shape = [BATCH, *(dim.dim_value for dim in list(tensor.shape.dim)[1:])]
    return helper.make_tensor_value_info(value.name, tensor.elem_type, shape)


def bias_tensor(proto: Any) -> Any:
    """The initializer (K,) that is added to the evidence's sum for the logits; raises GateError where there is none."""
    (last,) = [node for node in proto.graph.node if engines.OUTPUTS[0] in node.output]
    tensors = [tensor for tensor in proto.graph.initializer if tensor.name in last.input]
    if last.op_type != "Add" or len(tensors) != 1:
        raise GateError(f"the graph was expected to end by adding a bias to the logits, got {last.op_type}")
    return tensors[0]


def serialise(proto: Any, metadata: Mapping[str, str]) -> bytes:
    """The checked model's bytes: one file, with `metadata` (values JSON) under keys that start with `edgecxr.`."""
    del proto.metadata_props[:]
    for key in sorted(metadata):
        proto.metadata_props.add(key=METADATA_PREFIX + key, value=metadata[key])
    onnx.checker.check_model(proto, full_check=True)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def body(model: Any) -> list[Any]:
    """The nodes that become integers: from the first convolution to the last Relu.

    What `ood` takes from the middle comes after the head in a canonical graph, so it isn't among them.
    """
    nodes = list(model.graph.node)
    kinds = [node.op_type for node in nodes]
    return nodes[kinds.index("Conv") : len(kinds) - kinds[::-1].index("Relu")]
