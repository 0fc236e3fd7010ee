"""How to quantize is chosen by what was measured: with engines that are made up, and on a small network."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import tiny
from edgecxr.engines import Outputs
from edgecxr.engines.ort import OnnxRuntimeEngine
from edgecxr.lab.run import Logits
from edgecxr_export.graphs.artifacts import NetworkFile
from edgecxr_export.graphs.onnx_graph import serialise
from edgecxr_export.int8 import search as int8
from edgecxr_export.int8 import ways as choose
from edgecxr_export.int8.networks import Networks
from edgecxr_export.int8.ways import Quantizer, Way, choose_way, sensitivities
from edgecxr_export.parity.gates import Gates
from export.parity.test_gates import PASSING
from export.small import pictures, small_graph, with_ends

INPUTS = np.zeros((40, 2, 2, 1), dtype=np.uint8)
REFERENCE = np.tile(np.array([[1.0, 0.0, 0.0]], dtype=np.float32), (40, 1))


@dataclass
class Off:
    """An engine whose first logit is off by so much."""

    amount: float

    def run(self, images: np.ndarray) -> Outputs:
        return tiny.outputs(REFERENCE[: len(images)] + np.array([self.amount, 0, 0], dtype=np.float32))


def test_a_change_is_kept_where_it_brings_the_answers_nearer() -> None:
    def build(way: Way) -> Any:
        harm = 0.4 if way.channels == "as trained" else 0.3
        harm += {"nearest": 0.0, "second-order": 0.1}[way.rounding]  # here it makes things worse
        return Off(harm - {"min-max": 0.0, "99.999": 0.05, "99.99": 0.02}[way.clip])

    way, trials = choose_way(build, INPUTS, REFERENCE)
    assert way == Way("99.999", "alike", "nearest")
    assert [trial.way for trial in trials] == [
        Way(),
        Way(channels="alike"),
        Way(channels="alike", rounding="second-order"),
        Way("99.999", "alike"),
        Way("99.99", "alike"),
    ]
    assert trials[0].to_json()["clip"] == "min-max"
    assert [trial.flips for trial in trials] == [0] * 5
    # Centred, the reference is (2, -1, -1) / 3, and a first logit off by 0.4 is off by 2 / 3 of it.
    assert trials[0].mean_logits == pytest.approx(0.4 * 2 / 3 / np.sqrt(2 / 9))


def test_the_most_sensitive_is_what_helps_most_in_float() -> None:
    harm = {"a": 0.1, "b": 0.3, "c": 0.2}
    found = sensitivities(lambda nodes: Off(sum(harm.values()) - harm[nodes[0]]), list("abc"), INPUTS, REFERENCE)
    assert [sensitivity.node for sensitivity in found] == ["b", "c", "a"]
    assert found[0].mean_dlogit == pytest.approx(0.1, abs=1e-6)  # one logit of three is off by 0.3


def test_only_the_worst_are_measured() -> None:
    found = choose.worst({number: float(number % 50) for number in range(74)})
    assert found[:3] == [49, 48, 47]
    assert len(found) == choose.SUSPECTS < 74
    quantizer = Quantizer(Networks(small_graph(), with_ends(pictures())))
    assert sorted(quantizer.suspects(Way())) == sorted(quantizer.nodes)


def task(judge: Any, model: Any = None) -> int8.Task:
    inputs = pictures(40, seed=7)
    logits = (
        REFERENCE
        if model is None
        else OnnxRuntimeEngine(model.SerializeToString(), "cpu", "fp32", 1).run(inputs).logits
    )
    return int8.Task(
        calibration=with_ends(pictures()),
        inputs=inputs,
        dev=Logits(tuple(map(str, range(40))), np.zeros(40, dtype=np.int64), logits),
        metadata={},
        judge=judge,
        console=Console(file=io.StringIO(), width=200),
    )


def test_convolutions_go_to_float_until_the_gate_is_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    harm = {node: 0.01 * number for number, node in enumerate("abcdefgh")}
    monkeypatch.setattr(NetworkFile, "engine", property(lambda self: Off(self.details["harm"])))

    def build(nodes: Sequence[str]) -> NetworkFile:
        return NetworkFile("onnx", "int8", b"", {"harm": sum(harm.values()) - sum(harm[node] for node in nodes)})

    def judge(limit: float) -> Any:
        return lambda artifact: (PASSING, ["too much"] if artifact.details["harm"] > limit else [])

    given = task(judge(0.14))
    _, report = int8.until_it_passes(build, lambda: list(harm), given)
    said = given.console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert "  3 of 8: with convolution c in float, logits are off by 0.0867 on average" in said
    assert sum("convolutions in float: " in line for line in said) == 3  # each step is told
    assert [step["float_nodes"] for step in report["steps"]] == [[], ["h"], ["h", "g"], ["h", "g", "f"]][:4]
    assert [step["exceeds"] for step in report["steps"]] == [["too much"]] * 3 + [[]]
    assert [row["node"] for row in report["sensitivity"]] == list("hgfedcba")

    _, report = int8.until_it_passes(build, lambda: list(harm), task(judge(1.0)))
    assert (len(report["steps"]), report["sensitivity"]) == (1, [])  # nothing is measured that nobody needs

    artifact, report = int8.until_it_passes(build, lambda: list(harm), task(judge(-1.0)))
    assert len(report["steps"]) == 1 + choose.MAX_FLOAT
    assert report["steps"][-1]["exceeds"] == ["too much"]  # the stage refuses it
    assert artifact.details["harm"] == pytest.approx(harm["a"] + harm["b"])


def test_on_a_small_network_float_convolutions_help_and_are_told() -> None:
    model = small_graph()
    quantizer = Quantizer(Networks(model, with_ends(pictures())))
    assert len(quantizer.nodes) == 4  # neither the head's nor the stem's is among them
    unseen = pictures(40, seed=7)
    expected = OnnxRuntimeEngine(model.SerializeToString(), "cpu", "fp32", 1).run(unseen).logits

    def harm(nodes: Sequence[str]) -> float:
        data = serialise(quantizer.build(Way(), nodes), {})
        return float(np.abs(OnnxRuntimeEngine(data, "cpu", "int8", 1).run(unseen).logits - expected).mean())

    assert harm(quantizer.nodes) < 0.6 * harm([])  # what is left is the stem's


def test_the_artifact_says_what_it_is() -> None:
    model = small_graph()
    verdicts = iter([["p99"], []])
    artifact, report = int8.onnx_int8(
        Networks(model, with_ends(pictures())), 17, task(lambda artifact: (PASSING, next(verdicts)), model)
    )
    assert artifact.file == "model.int8.onnx"
    assert artifact.details["weight_bits"] == 7
    assert len(artifact.details["float_nodes"]) == 1
    assert report["settings"]["weight_levels"] == 64
    assert len(report["trials"]) == 6  # of ONNX, whose biases can be moved too
    assert report["chosen"].keys() == {"clip", "channels", "rounding", "biases"}
    wide, report = int8.onnx_int8(
        Networks(model, with_ends(pictures())), 17, task(lambda artifact: (PASSING, []), model), full_range=True
    )
    assert (wide.details["weight_bits"], report["settings"]["weight_levels"]) == (8, 127)
    assert Gates().breaches("int8", PASSING) == []
