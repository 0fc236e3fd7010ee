"""Biases of an int8 graph: channels' means are the float network's, and only biases differ."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from onnx import numpy_helper

from edgecxr_export.int8 import biases
from edgecxr_export.int8.networks import MIN_MAX, Networks
from edgecxr_export.int8.quantize import quantize
from edgecxr_export.int8.ranges import activations
from edgecxr_export.int8.ways import Quantizer, Way
from export.small import pictures, small_graph, with_ends


def kept(made: dict[str, Any], graph: Any) -> Any:
    made["graph"] = copy.deepcopy(graph)
    return graph


def means(graph: Any, inputs: np.ndarray, names: list[str]) -> np.ndarray:
    """Of each channel of each value, (channels of all,)."""
    found = []
    for name in names:
        batches = activations(biases._leading_to(graph, name), inputs, [name])
        found.append(np.mean([value[name].mean(axis=(0, 2, 3), dtype=np.float64) for value in batches], axis=0))
    return np.concatenate(found)


def test_means_behind_each_convolution_are_the_float_network_s() -> None:
    exact, inputs = small_graph(), pictures()
    networks, made = Networks(exact, with_ends(inputs)), {}
    quantize(exact, networks.ranges("as trained", MIN_MAX), correct=lambda graph: kept(made, graph))
    names = [biases._read_as(exact, conv)[0] for conv in biases.convolutions(exact)]
    read = [names[place] for place in (0, 2, 4)]  # stem and pointwise ones; a depthwise one has no bias here
    before = made["graph"]
    after = biases.corrected(before, exact, inputs)
    expected = means(exact, inputs, read)
    stored = [biases._stored(before, name) for name in read]
    off = [np.abs(means(graph, inputs, stored) - expected).mean() for graph in (before, after)]
    assert off[1] < 0.5 * off[0]
    biased = {node.input[2] for node in before.graph.node if node.op_type == "Conv" and len(node.input) > 2}
    makers = {node.output[0]: node.input[0] for node in before.graph.node}
    changed = [
        old.name
        for old, new in zip(before.graph.initializer, after.graph.initializer, strict=True)
        if not np.array_equal(numpy_helper.to_array(old), numpy_helper.to_array(new))
    ]
    assert changed
    assert set(changed) <= {makers[name] for name in biased if name in makers}


def test_a_way_says_whether_biases_are_corrected() -> None:
    quantizer = Quantizer(Networks(small_graph(), with_ends(pictures())))
    plain, moved = (quantizer.build(Way(biases=which)) for which in ("as trained", "corrected"))
    assert plain.SerializeToString() != moved.SerializeToString()
    assert moved.SerializeToString() == quantizer.build(Way(biases="corrected")).SerializeToString()
