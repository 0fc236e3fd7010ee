"""Weights rounded so that their errors cancel in a convolution's output, where rounding each by itself adds them up.

Seven bits are what an int8 weight may hold on a CPU whose 16-bit sums would saturate, and rounding to seven bits was
most of the error of the int8 network. Here each weight of a kernel is rounded in turn, and those that are still to come
take back what the error does to the output, on the calibration pictures: Frantar et al., "Optimal Brain Compression",
NeurIPS 2022, in the order and by the Cholesky factor of "GPTQ", ICLR 2023. Neighbouring pixels are much alike, so that
a depthwise kernel gains most: its nine weights keep their sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from edgecxr_export.graphs.onnx_graph import body
from edgecxr_export.int8.equalise import is_depthwise
from edgecxr_export.int8.ranges import activations

DAMPING = 0.01  # of the mean second moment, added to each column's own (GPTQ): the inverse must exist
BLOCK = 128  # columns whose errors are carried on together; the result is the same for any
PICTURES = 32  # of the calibration pictures, evenly chosen: thousands of places each
# Every so manyth row and column of an activation: neighbours tell the same. A depthwise kernel has nine weights only.
STRIDES = {"dense": 2, "depthwise": 4}

# Sums in the order that one thread of BLAS takes. With two the last bit differs, now and then a weight rounds
# elsewhere, and as its error is carried on, in the end a sixth of all weights: another file on other cores.
ONE_ORDER: dict[str, Any] = {"limits": 1, "user_api": "blas"}

Floats = npt.NDArray[np.float64]


def convolutions(model: Any) -> list[Any]:
    return [node for node in body(model) if node.op_type == "Conv"]


def moments(model: Any, inputs: npt.NDArray[np.uint8]) -> dict[str, Floats]:
    """By node name, second moments (G, C, C) of the C values that a kernel of each of its G groups meets at a place.

    Over network inputs uint8 (N, H, W, 1); what lies outside of a picture is left out. The same on any number of cores.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    nodes = convolutions(model)
    sums: dict[str, Floats] = {}
    places: dict[str, int] = {}
    with threadpool_limits(**ONE_ORDER):
        for values in activations(model, inputs, sorted({node.input[0] for node in nodes})):
            for node in nodes:
                columns = _columns(values[node.input[0]], shapes[node.input[1]], is_depthwise(node))  # (G, C, n)
                sums[node.name] = sums.get(node.name, 0) + (columns @ columns.transpose(0, 2, 1)).astype(np.float64)
                places[node.name] = places.get(node.name, 0) + columns.shape[2]
    return {name: total / places[name] for name, total in sums.items()}


def _columns(value: npt.NDArray[np.float32], kernel: tuple[int, ...], depthwise: bool) -> npt.NDArray[np.float32]:
    """(groups, weights of a kernel, places) of an activation (N, C, H, W): what each kernel is multiplied with."""
    height, width = kernel[2:]
    stride = STRIDES["depthwise" if depthwise else "dense"]
    windows = np.lib.stride_tricks.sliding_window_view(value, (height, width), axis=(2, 3))[:, :, ::stride, ::stride]
    if depthwise:
        return windows.transpose(1, 4, 5, 0, 2, 3).reshape(value.shape[1], height * width, -1)
    return windows.transpose(1, 4, 5, 0, 2, 3).reshape(1, value.shape[1] * height * width, -1)


def rounded(model: Any, second_moments: Mapping[str, Floats], levels: int) -> Any:
    """The network with its body's kernels on the grids of 2 `levels` + 1 values that the quantizer will find."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    weights = {tensor.name: tensor for tensor in result.graph.initializer}
    for node in convolutions(result):
        tensor = weights[node.input[1]]
        kernel = numpy_helper.to_array(tensor)  # (O, I / G, h, w)
        moment = second_moments[node.name]
        # A depthwise kernel is one of O groups of one row each, a dense one is a single group of O rows.
        rows = kernel.reshape(len(moment), len(kernel) // len(moment), -1).astype(np.float64)  # (G, O / G, C)
        with threadpool_limits(**ONE_ORDER):
            grid = round_rows(rows, moment, levels)
        tensor.CopyFrom(numpy_helper.from_array(grid.reshape(kernel.shape).astype(np.float32), tensor.name))
    return result


def losses(exact: Any, made: Any, second_moments: Mapping[str, Floats], levels: int) -> dict[str, float]:
    """By node name, mean square error of a convolution's output, per mean square of the output.

    `made` is `exact` or `rounded` of it: the quantizer rounds to the nearest, which changes nothing on its grid.
    """
    weights, given = ({tensor.name: tensor for tensor in model.graph.initializer} for model in (exact, made))
    found = {}
    for node in convolutions(exact):
        moment = second_moments[node.name]
        shape = (len(moment), -1, moment.shape[1])  # (G, O / G, C)
        wanted = numpy_helper.to_array(weights[node.input[1]]).astype(np.float64).reshape(shape)
        rows = numpy_helper.to_array(given[node.input[1]]).astype(np.float64).reshape(shape)
        step = np.abs(rows).max(axis=2, keepdims=True) / levels
        error = np.rint(rows / np.where(step > 0, step, 1)) * step - wanted
        power = float((wanted @ moment * wanted).sum())
        found[node.name] = float((error @ moment * error).sum()) / power if power > 0 else 0.0
    return found


def round_rows(rows: Floats, second_moment: Floats, levels: int) -> Floats:
    """`rows` (G, R, C), each on multiples of its largest |value| / `levels`, for inputs of those moments (G, C, C)."""
    columns = rows.shape[2]
    widest = np.abs(rows).max(axis=2, keepdims=True)
    step = (np.where(widest > 0, widest, 1) / levels)[..., 0]  # (G, R)
    mean = np.trace(second_moment, axis1=1, axis2=2) / columns
    damped = second_moment + np.eye(columns) * np.maximum(DAMPING * mean, 1e-12)[:, None, None]
    upper = np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)  # (G, C, C)
    left, result = rows.copy(), np.empty_like(rows)
    for start in range(0, columns, BLOCK):
        end = min(start + BLOCK, columns)
        errors = np.empty((*step.shape, end - start))
        for column in range(start, end):
            values = np.clip(np.rint(left[:, :, column] / step), -levels, levels) * step
            result[:, :, column] = values
            error = (left[:, :, column] - values) / upper[:, column, column][:, None]
            errors[:, :, column - start] = error
            left[:, :, column + 1 : end] -= error[..., None] * upper[:, None, column, column + 1 : end]
        left[:, :, end:] -= errors @ upper[:, start:end, end:]
    # A full-scale value stays in each row: the quantizer takes the step from the row's largest.
    place = np.abs(rows).argmax(axis=2)[..., None]
    largest = np.sign(np.take_along_axis(rows, place, axis=2)) * step[..., None] * levels
    np.put_along_axis(result, place, largest, axis=2)
    return result
