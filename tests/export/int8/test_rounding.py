"""Second-order rounding, against nearest rounding on the error that counts: the output's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper
from threadpoolctl import threadpool_info, threadpool_limits

from edgecxr.engines.ort import OnnxRuntimeEngine
from edgecxr_export.int8 import rounding
from edgecxr_export.int8.networks import Networks
from edgecxr_export.int8.rounding import convolutions, losses, moments, round_rows, rounded
from edgecxr_export.int8.ways import Quantizer, Way
from export.small import CHANNELS, pictures, small_graph, with_ends

LEVELS = 64


def correlated(columns: int, places: int = 4000) -> np.ndarray:
    """Inputs (C, n) whose columns go together, as the channels of a network and the pixels of a picture do."""
    rng = np.random.default_rng(2)
    mixing = rng.normal(0, 1, (columns, max(1, columns // 4)))
    return mixing @ rng.normal(0, 1, (mixing.shape[1], places)) + 0.1 * rng.normal(0, 1, (columns, places))


def test_the_output_s_error_is_smaller_than_with_nearest_rounding() -> None:
    rng = np.random.default_rng(3)
    # One group of many rows and more columns than a block has, and many groups of one row and nine columns.
    for shape in ((1, 24, 200), (24, 1, 9)):
        rows = rng.normal(0, 1, shape)
        inputs = np.stack([correlated(shape[2])] * shape[0])
        found = round_rows(rows, inputs @ inputs.transpose(0, 2, 1) / inputs.shape[2], LEVELS)
        step = np.abs(rows).max(axis=2, keepdims=True) / LEVELS
        nearest = np.rint(rows / step) * step
        ours, theirs = (np.square((values - rows) @ inputs).mean() for values in (found, nearest))
        assert ours < 0.5 * theirs


def test_weights_lie_on_the_quantizer_s_own_grid() -> None:
    rng = np.random.default_rng(4)
    rows, inputs = rng.normal(0, 1, (1, 5, 16)), correlated(16)[None]
    rows[0, 3] = 0  # a dead row stays one
    found = round_rows(rows, inputs @ inputs.transpose(0, 2, 1) / inputs.shape[2], LEVELS)
    step = np.abs(rows).max(axis=2, keepdims=True) / LEVELS
    levels = found / np.where(step > 0, step, 1)
    assert np.abs(levels - np.rint(levels)).max() < 1e-9
    assert np.rint(np.abs(levels).max(axis=2)).ravel().tolist() == [LEVELS, LEVELS, LEVELS, 0, LEVELS]


def test_with_independent_inputs_it_is_nearest_rounding() -> None:
    rows = np.random.default_rng(5).normal(0, 1, (1, 4, 10))
    step = np.abs(rows).max(axis=2, keepdims=True) / LEVELS
    assert np.allclose(round_rows(rows, np.eye(10)[None], LEVELS), np.rint(rows / step) * step)


def test_sums_are_taken_in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """By one thread of BLAS, whatever the caller has: the last bit of a sum of two threads' sums is another."""
    found: list[int] = []

    def noting(function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            found.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
            return function(*arguments)

        return noted

    monkeypatch.setattr(np.linalg, "inv", noting(np.linalg.inv))
    monkeypatch.setattr(rounding, "_columns", noting(rounding._columns))
    with threadpool_limits(2):
        model = small_graph()
        rounded(model, moments(model, pictures(2)), LEVELS)
    assert len(found) >= 2 * len(convolutions(model))
    assert set(found) == {1}


def test_moments_are_of_what_each_kernel_meets() -> None:
    model, inputs = small_graph(), pictures(2)
    found = moments(model, inputs)
    stem, dw, pw = convolutions(model)[:3]
    assert found[dw.name].shape == (CHANNELS, 9, 9)
    assert found[pw.name].shape == (1, CHANNELS, CHANNELS)
    # By hand, of the stem: it reads the picture itself.
    patches = [
        inputs[n, y : y + 3, x : x + 3, 0].astype(np.float64).ravel()
        for n in range(2)
        for y in range(0, 14, 2)
        for x in range(0, 14, 2)
    ]
    expected = np.mean([np.outer(patch, patch) for patch in patches], axis=0)
    np.testing.assert_allclose(found[stem.name][0], expected, rtol=1e-5)


def test_the_quantizer_takes_the_weights_as_they_were_rounded() -> None:
    model, inputs = small_graph(), pictures()
    grid = rounded(model, moments(model, inputs), LEVELS)
    quantized = Quantizer(Networks(model, with_ends(inputs))).build(Way(rounding="second-order"))
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    kept = [value for value in stored.values() if value.dtype == np.int8 and value.ndim == 4]
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in grid.graph.initializer}
    for node in convolutions(grid):
        kernel = weights[node.input[1]]
        step = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True) / LEVELS
        levels = np.rint(kernel / step).astype(np.int8)
        assert any(value.shape == levels.shape and np.array_equal(value, levels) for value in kept)


def test_int8_loses_less() -> None:
    model, inputs, unseen = small_graph(seed=2), pictures(), pictures(seed=5)
    quantizer = Quantizer(Networks(model, with_ends(inputs)))
    expected = OnnxRuntimeEngine(model.SerializeToString(), "cpu", "fp32", 1).run(unseen).logits
    lost = []
    for way in (Way(channels="alike"), Way(channels="alike", rounding="second-order")):
        engine = OnnxRuntimeEngine(quantizer.build(way).SerializeToString(), "cpu", "int8", 1)
        lost.append(np.abs(engine.run(unseen).logits - expected).mean())
    assert lost[1] < 0.6 * lost[0]


def test_losses_are_what_a_convolution_s_output_loses() -> None:
    rng = np.random.default_rng(6)
    model, inputs = small_graph(), pictures(2)
    second_moments = moments(model, inputs)
    nearest = losses(model, model, second_moments, LEVELS)
    second_order = losses(model, rounded(model, second_moments, LEVELS), second_moments, LEVELS)
    assert nearest.keys() == second_order.keys() == {node.name for node in convolutions(model)}
    assert sum(second_order.values()) < 0.9 * sum(nearest.values())
    # By hand, of the second pointwise convolution: its own outputs for inputs of those moments.
    pointwise = convolutions(model)[4]
    (kernel,) = [numpy_helper.to_array(t)[..., 0, 0] for t in model.graph.initializer if t.name == pointwise.input[1]]
    step = np.abs(kernel).max(axis=1, keepdims=True) / LEVELS
    mixing = np.linalg.cholesky(second_moments[pointwise.name][0] + 1e-12 * np.eye(CHANNELS))
    values = mixing @ np.linalg.qr(rng.normal(0, 1, (CHANNELS, CHANNELS)))[0]  # (C, n), of exactly those moments
    wrong = np.square((np.rint(kernel / step) * step - kernel) @ values).sum() / np.square(kernel @ values).sum()
    np.testing.assert_allclose(nearest[pointwise.name], wrong, rtol=1e-5)
