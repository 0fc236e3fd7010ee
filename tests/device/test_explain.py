"""Why golden answers are wrong: integer kernels that saturate, an engine, or a wrong file; one sentence each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_verify import rewrite

import tiny
from edgecxr.bundle import load
from edgecxr.device.explain import diagnose, float_difference
from edgecxr.device.golden import GoldenCheck
from edgecxr.device.verify import verify
from edgecxr.engines import Outputs
from edgecxr.engines.select import Asked


def check(artifact: str, precision: str, difference: float, engine: str = "onnxruntime") -> GoldenCheck:
    return GoldenCheck(artifact, precision, engine, "P", "cpu", 8, difference, 0.2, 0, engine)


FP32, INT8 = "model.fp32.onnx", "model.int8.onnx"


@pytest.mark.parametrize(
    ("checks", "in_float", "said"),
    [
        ([check(FP32, "fp32", 0.0), check(INT8, "int8", 0.1)], {}, ""),
        # The very file is right in float arithmetic, with or without an fp32 file beside it.
        ([check(INT8, "int8", 3.0)], {INT8: 0.1}, "right in float arithmetic: the integer arithmetic of this CPU"),
        ([check(FP32, "fp32", 0.0), check(INT8, "int8", 3.0)], {INT8: 0.1}, "saturates or rounds otherwise"),
        ([check(INT8, "int8", float("nan"))], {INT8: 0.1}, "saturates"),
        # It isn't, though fp32 is right: these aren't the bytes that the answers are of.
        ([check(FP32, "fp32", 0.0), check(INT8, "int8", 3.0)], {INT8: 2.9}, "a wrong file"),
        ([check(FP32, "fp32", 3.0), check(INT8, "int8", 3.0)], {INT8: 2.9}, "a wrong file"),
        ([check(FP32, "fp32", 3.0)], {}, "a wrong file"),
        # Where float arithmetic can't be tried: what else is right here.
        ([check(FP32, "fp32", 0.0), check(INT8, "int8", 3.0)], {}, "whole, with model.fp32.onnx right: the integer"),
        ([check(INT8, "int8", 3.0), check(INT8, "int8", 0.0, "openvino")], {}, "right on openvino: the integer"),
        (
            [check(FP32, "fp32", 3.0, "openvino"), check(FP32, "fp32", 0.0)],
            {},
            "openvino on this cpu computes it wrongly",
        ),
    ],
)
def test_what_is_said(checks: list[GoldenCheck], in_float: dict[str, Any], said: str) -> None:
    sentence = diagnose(checks, in_float, 0.5)
    assert said in sentence
    assert bool(sentence) == bool(said)
    assert "\n" not in sentence


def test_what_is_said_where_only_ood_is_off() -> None:
    off = replace(check(INT8, "int8", 0.1), ood_difference=0.75, ood_tolerance=0.5)
    assert not off.passed
    assert off.off_by == "ood of model.int8.onnx is off by up to 0.75"
    sentence = diagnose([check(FP32, "fp32", 0.0), off], {}, 0.5)
    assert "gives its logits and is off by up to 0.75 in ood" in sentence
    assert "\n" not in sentence
    both = replace(off, max_difference=3.0)  # then the logits say why
    assert "saturates" in diagnose([both], {INT8: 0.1}, 0.5)
    assert both.off_by == "a logit of model.int8.onnx is off by up to 3"


def test_float_arithmetic_on_the_tiny_network() -> None:
    inputs = tiny.golden_inputs()
    expected = np.stack([tiny.tiny_logits(image[:, :, 0]) for image in inputs]).astype(np.float32)
    difference = float_difference(tiny.tiny_model(), inputs, expected)
    assert difference is not None and difference < 1e-4
    assert float_difference(tiny.tiny_model(), inputs, expected + 1) == pytest.approx(1, abs=1e-4)


def test_verify_tells_a_wrong_file(tmp_path: Path) -> None:
    folder = tiny.write_bundle(tmp_path / "t.edgecxr")
    rows = json.loads((folder / "golden/expected.json").read_text())
    rows[1]["logits"] = (np.asarray(rows[1]["logits"]) + 4).tolist()  # answers of another network
    rewrite(folder, "golden/expected.json", json.dumps(rows).encode())
    found = verify(load(folder), Asked(engine="onnxruntime"))
    assert not found.passed
    assert "model.int8.onnx on onnxruntime is off by up to 4 in a logit" in found.diagnosis
    assert "a wrong file" in found.diagnosis


def test_verify_tells_saturation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine whose int8 kernels clip what they add up, on a file that is right."""
    from edgecxr.device import verify as module

    class Saturating:
        name, provider, device, precision = "onnxruntime", "P", "cpu", "int8"

        def run(self, images: np.ndarray) -> Outputs:
            logits = np.stack([tiny.tiny_logits(image[:, :, 0]) for image in images])
            return tiny.outputs(np.clip(logits, -1, 1))

    opened = module.open_engine
    monkeypatch.setattr(
        module,
        "open_engine",
        lambda bundle, choice, threads: Saturating() if choice.precision == "int8" else opened(bundle, choice, threads),
    )
    found = verify(load(tiny.write_bundle(tmp_path / "t.edgecxr")), Asked(engine="onnxruntime"))
    assert [check.passed for check in found.golden] == [True, False]
    assert "right in float arithmetic: the integer arithmetic of this CPU saturates" in found.diagnosis
