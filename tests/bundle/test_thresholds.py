"""When a bundle gives no answer: thresholds that fit its networks, or a refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import tiny
from edgecxr.bundle import Abstention, Threshold, load
from edgecxr.errors import BundleError


def test_thresholds_are_read_and_older_bundles_have_none(tmp_path: Path) -> None:
    bundle = load(tiny.write_bundle(tmp_path / "t.edgecxr", abstain_at=1.25))
    rows = tuple(Threshold(f"model.{p}.onnx", "onnxruntime", p, 1.25) for p in ("fp32", "int8"))
    assert bundle.abstention == Abstention(0.995, "dev", 400, rows)
    assert all(bundle.read(artifact.file) for artifact in bundle.artifacts)
    by_hand = [[tiny.tiny_ood(image[:, :, 0])] for image in tiny.golden_inputs()]
    for row in bundle.golden_expected():
        assert row.ood is not None
        np.testing.assert_allclose(row.ood, by_hand, atol=1e-6)
        assert row.ood_tolerance == 1e-3
    older = load(tiny.write_bundle(tmp_path / "older.edgecxr"))
    assert older.abstention is None
    assert [row.ood for row in older.golden_expected()] == [None, None]


def changed(**row: object) -> dict[str, Any]:
    found = tiny.abstention(1.0)
    found["thresholds"][0] |= row
    return found


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (changed(threshold=float("nan")), "finite number, got nan"),
        (changed(threshold=float("inf")), "finite number, got inf"),
        (changed(threshold=10**400), "an integer of 401 digits"),
        (changed(threshold="1"), "finite number, got 1"),
        (changed(threshold=True), "finite number, got True"),
        (changed(threshold=None), "finite number, got None"),
        (changed(artifact="model.fp16.onnx"), r"must be an artifact's, got 'model\.fp16\.onnx'"),
        (changed(artifact=["model.fp32.onnx"]), "must be an artifact's"),
        (changed(engine=7), "must name the engine and precision"),
        (changed(precision="\x1b[0m"), "must name the engine and precision"),
        (changed(artifact="model.int8.onnx", precision="int8"), "one threshold for each"),
        ({**changed(), "thresholds": []}, "one threshold for each"),
        ({**changed(), "kept": 0}, "which share of which split"),
        ({**changed(), "kept": float("nan")}, "which share of which split"),
        ({**changed(), "split": ""}, "which share of which split"),
        ({**changed(), "pictures": 0}, "on how many pictures"),
        ({**changed(), "pictures": 2.5}, "on how many pictures"),
        ({"thresholds": [{}]}, "lacks or garbles a field"),
        ({"thresholds": 7}, "lacks or garbles a field"),
        ([], "lacks or garbles a field"),
        (0.5, "lacks or garbles a field"),
    ],
)
def test_what_can_be_no_threshold_is_refused(tmp_path: Path, found: object, words: str) -> None:
    folder = tiny.write_bundle(tmp_path / "t.edgecxr", tiny.with_ood(), abstention=found)
    with pytest.raises(BundleError, match=words):
        load(folder)


def one_row() -> dict[str, Any]:
    found = tiny.abstention(1.0)
    return {**found, "thresholds": found["thresholds"][:1]}


@pytest.mark.parametrize(
    ("model", "found", "words"),
    [
        (tiny.with_ood, None, r"model\.int8\.onnx has the output ood and no threshold"),
        (tiny.with_ood, one_row(), r"model\.int8\.onnx has the output ood and no threshold"),
        (tiny.tiny_model, tiny.abstention(1.0), r"model\.int8\.onnx has a threshold and no output ood"),
    ],
)
def test_a_network_and_thresholds_that_do_not_fit_are_refused(
    tmp_path: Path, model: Callable[[], bytes], found: object, words: str
) -> None:
    bundle = load(tiny.write_bundle(tmp_path / "t.edgecxr", model(), abstention=found))
    with pytest.raises(BundleError, match=words):
        bundle.read("model.int8.onnx")


def lone(path: Path, model: bytes, **said: object) -> Path:
    """A network's file that says what it needs to be used alone."""
    made = onnx.load_from_string(model)
    wanted = {
        "name": "tiny", "version": "1", "labels": list(tiny.LABELS), "preprocessing": tiny.CONTRACT.to_json(),
        "temperature": tiny.TEMPERATURE, **said,
    }  # fmt: skip
    onnx.helper.set_model_props(made, {f"edgecxr.{key}": json.dumps(value) for key, value in wanted.items()})
    path.write_bytes(made.SerializeToString())
    return path


SAID = {"kept": 0.995, "split": "dev", "pictures": 400, "thresholds": {"onnxruntime": 1.5, "openvino": 2}}


def test_a_lone_onnx_says_its_own(tmp_path: Path) -> None:
    bundle = load(lone(tmp_path / "alone.onnx", tiny.with_ood(), abstention=SAID))
    assert bundle.abstention is not None
    assert bundle.abstention.thresholds == (
        Threshold("alone.onnx", "onnxruntime", "fp32", 1.5),
        Threshold("alone.onnx", "openvino", "fp32", 2),
    )
    assert bundle.read("alone.onnx")
    older = load(lone(tmp_path / "older.onnx", tiny.tiny_model()))
    assert older.abstention is None
    assert older.read("older.onnx")


@pytest.mark.parametrize(
    "said", [{**SAID, "thresholds": [1.5]}, {**SAID, "thresholds": {"onnxruntime": "x"}}, {"thresholds": {}}, 1.5, []]
)
def test_a_lone_onnx_that_garbles_them_is_refused(tmp_path: Path, said: object) -> None:
    with pytest.raises(BundleError):
        load(lone(tmp_path / "alone.onnx", tiny.with_ood(), abstention=said))


def test_a_lone_onnx_that_does_not_fit_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="ood and no threshold"):
        load(lone(tmp_path / "a.onnx", tiny.with_ood())).read("a.onnx")
    with pytest.raises(BundleError, match="no output ood"):
        load(lone(tmp_path / "b.onnx", tiny.tiny_model(), abstention=SAID)).read("b.onnx")


def test_golden_values_of_ood_that_can_be_none_are_refused(tmp_path: Path) -> None:
    folder = tiny.write_bundle(tmp_path / "t.edgecxr", abstain_at=1.0)
    rows = json.loads((folder / "golden/expected.json").read_text())
    bundle = load(folder)
    changes: list[dict[str, Any]] = [
        {"ood": rows[0]["ood"][:7]}, {"ood": [1.0] * 8}, {"ood": [[float("nan")]] * 8}, {"ood_tolerance": 0},
        {"ood_tolerance": float("inf")},
    ]  # fmt: skip
    for change in changes:
        text = json.dumps([{**rows[0], **change}, rows[1]]).encode()
        with pytest.MonkeyPatch.context() as patch, pytest.raises(BundleError, match="don't fit"):
            patch.setattr(type(bundle), "read", lambda self, file, text=text: text)
            bundle.golden_expected()
