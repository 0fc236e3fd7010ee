"""Artifacts in the making: what is planned, by whom it is run, and which is preferred."""

from __future__ import annotations

import numpy as np
import pytest

import tiny
from edgecxr.engines import Outputs, ov
from edgecxr_export.bundle.golden import TOLERANCES, golden_rows, passes_on_gpu
from edgecxr_export.graphs.artifacts import NetworkFile, latencies, openings, planned, preferred, slower_int8
from edgecxr_export.graphs.half import half
from edgecxr_export.graphs.onnx_graph import serialise
from export.small import pictures, small_graph


def test_what_is_planned_has_a_fixed_order() -> None:
    assert planned(["tflite", "onnx"], ["int8", "fp16", "fp32"]) == [
        ("onnx", "fp32"),
        ("onnx", "fp16"),
        ("onnx", "int8"),
        ("tflite", "fp32"),
        ("tflite", "int8"),
    ]
    assert planned(["tflite"], ["fp16"]) == []


def artifacts(*kinds: tuple[str, str]) -> list[NetworkFile]:
    return [NetworkFile(format_, precision, b"") for format_, precision in kinds]


def test_the_fastest_of_each_format_is_preferred_and_a_slow_int8_is_said() -> None:
    made = artifacts(("onnx", "fp32"), ("onnx", "fp16"), ("onnx", "int8"), ("tflite", "fp32"), ("tflite", "int8"))
    times = {"model.fp32.onnx": 40.0, "model.int8.onnx": 15.0, "model.fp32.tflite": 30.0, "model.int8.tflite": 35.5}
    speeds = {file: {"p50_ms": ms} for file, ms in times.items()}
    chosen = preferred(made, speeds)
    assert [file for file, best in chosen.items() if best] == ["model.int8.onnx", "model.fp32.tflite"]
    assert slower_int8(made, speeds) == [
        "model.int8.tflite is slower than model.fp32.tflite here: 35.5 ms a picture against 30.0"
    ]
    # An artifact that nobody runs on a CPU is never the one to take there.
    assert preferred(artifacts(("onnx", "fp16")), {}) == {"model.fp16.onnx": False}


@pytest.fixture(scope="module")
def made() -> list[NetworkFile]:
    graph = small_graph()
    return [
        NetworkFile("onnx", "fp32", serialise(graph, {})),
        NetworkFile("onnx", "fp16", serialise(half(graph), {}), {"unverified": True}),
    ]


class Console:
    def print(self, *parts: object, **options: object) -> None:
        raise AssertionError(parts)  # nothing is amiss here


def test_golden_answers_of_every_engine_that_is_installed(made: list[NetworkFile]) -> None:
    inputs = pictures(3)
    assert openings(made[1]) == [("onnxruntime", "fp16")]
    rows = golden_rows(made, inputs, Console())  # type: ignore[arg-type]
    expected = [("model.fp32.onnx", "onnxruntime", "fp32"), ("model.fp32.onnx", "openvino", "fp32")]
    expected += [("model.fp32.onnx", "openvino", "bf16")] if ov.has_bf16() else []
    expected += [("model.fp16.onnx", "onnxruntime", "fp16")]
    assert [(row["artifact"], row["engine"], row["precision"]) for row in rows] == expected
    assert all(row["tolerance"] == TOLERANCES[row["precision"]] for row in rows)
    np.testing.assert_allclose(rows[0]["logits"], made[0].engine.run(inputs).logits, rtol=1e-5)


def test_fp16_is_verified_by_a_gpu_s_own_right_answers_only(
    made: list[NetworkFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = pictures(3)
    rows = golden_rows(made, inputs, Console())  # type: ignore[arg-type]
    answers = np.asarray(rows[-1]["logits"], dtype=np.float32)
    asked = []

    class Gpu:
        def __init__(self, off: float) -> None:
            self.off, self.next = off, iter(answers)

        def run(self, images: np.ndarray) -> Outputs:
            return tiny.outputs(next(self.next)[None] + np.float32(self.off))

    def with_gpu(off: float) -> bool:
        def make(engine: str, model: bytes, device: str, precision: str, threads: int) -> Gpu:
            asked.append((engine, device, precision))
            return Gpu(off)

        monkeypatch.setattr("edgecxr_export.bundle.golden.make_engine", make)
        return passes_on_gpu(made[1], inputs, rows, ("cpu", "cuda"))

    assert with_gpu(0.01)
    assert not with_gpu(0.2)
    assert not with_gpu(float("nan"))
    assert asked == [("onnxruntime", "cuda", "fp16")] * 3
    assert not passes_on_gpu(made[1], inputs, rows, ("cpu",))


def test_timing_leaves_out_what_nobody_runs_on_a_cpu(made: list[NetworkFile]) -> None:
    found = latencies(made, pictures(1))
    assert list(found) == ["model.fp32.onnx"]
    assert found["model.fp32.onnx"]["engine"] == "onnxruntime"
    assert found["model.fp32.onnx"]["p50_ms"] > 0
    assert found["model.fp32.onnx"]["samples"] == 30
