"""A network of a few hundred weights, wired as Xception is, in the canonical form that export works on; no Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edgecxr_export.graphs.onnx_graph import canonical

SIDE = 16
CHANNELS = 12


def small_graph(seed: int = 0, spread: float = 30.0, border: int = 1, *, pooled: bool = False) -> Any:
    """uint8 (N, 16, 16, 1) -> logits (N, 3), evidence (N, 16, 16, 3): stem, two separable convolutions, a sum, head.

    The channels of the first separable convolution's output differ in width by about `spread` times. Without the
    stem's `border` of zeros (0, as Xception has it) maps are 14 x 14. With `pooled` the first separable convolution's
    output is pooled before its Relu.
    """
    rng = np.random.default_rng(seed)

    def kernel(out: int, inside: int, side: int) -> np.ndarray:
        return rng.normal(0, 1 / np.sqrt(inside * side * side), (out, inside, side, side)).astype(np.float32)

    uneven = np.geomspace(1, spread, CHANNELS).astype(np.float32)[:, None, None, None]
    constants: dict[str, np.ndarray] = {
        "nchw": np.array([-1, 1, SIDE, SIDE], dtype=np.int64),
        "stem.w": kernel(CHANNELS, 1, 3) / 100,
        "stem.b": rng.normal(0, 0.1, CHANNELS).astype(np.float32),
        "dw1.w": kernel(CHANNELS, 1, 3),
        "pw1.w": kernel(CHANNELS, CHANNELS, 1) * uneven,
        "pw1.b": rng.normal(0, 0.1, CHANNELS).astype(np.float32),
        "dw2.w": kernel(CHANNELS, 1, 3),
        "pw2.w": kernel(CHANNELS, CHANNELS, 1) / uneven.reshape(1, -1, 1, 1),
        "pw2.b": rng.normal(0, 0.1, CHANNELS).astype(np.float32),
        "head.w": rng.normal(0, 0.02, (3, CHANNELS, 1, 1)).astype(np.float32),
        "axes": np.array([1, 2], dtype=np.int64),
        "bias": np.array([0.2, -0.1, 0.3], dtype=np.float32),
    }
    same = {"pads": [1, 1, 1, 1]}
    wide = {**same, "group": CHANNELS}
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["float", "nchw"], ["plane"]),
        helper.make_node("Conv", ["plane", "stem.w", "stem.b"], ["a"], pads=[border] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "dw1.w"], ["c"], **wide),
        helper.make_node("Conv", ["c", "pw1.w", "pw1.b"], ["unpooled" if pooled else "d"]),
        *([helper.make_node("MaxPool", ["unpooled"], ["d"], kernel_shape=[3, 3], pads=[1] * 4)] if pooled else []),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("Conv", ["e", "dw2.w"], ["f"], **wide),
        helper.make_node("Conv", ["f", "pw2.w", "pw2.b"], ["g"]),
        helper.make_node("Add", ["b", "g"], ["h"]),
        helper.make_node("Relu", ["h"], ["i"]),
        helper.make_node("Conv", ["i", "head.w"], ["j"]),
        helper.make_node("Transpose", ["j"], ["evidence"], perm=[0, 2, 3, 1]),
        helper.make_node("ReduceSum", ["evidence", "axes"], ["k"], keepdims=0),
        helper.make_node("Add", ["k", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 1])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3]),
            helper.make_tensor_value_info("evidence", TensorProto.FLOAT, ["N", *[SIDE - 2 + 2 * border] * 2, 3]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return canonical(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def pictures(count: int = 24, seed: int = 1) -> np.ndarray:
    """uint8 (count, 16, 16, 1), of differing brightness."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (count, SIDE, SIDE, 1)) * rng.uniform(0.2, 1, (count, 1, 1, 1))
    return noise.astype(np.uint8)


def with_ends(inputs: np.ndarray) -> np.ndarray:
    """The pictures, a black and a white one: calibration inputs."""
    return np.concatenate([inputs, np.zeros_like(inputs[:1]), np.full_like(inputs[:1], 255)])
