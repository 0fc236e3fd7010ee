"""verify: golden vectors on this device."""

import hashlib
import io
import json
import platform
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiny
from edgecxr.bundle import load, manifest_digest
from edgecxr.device.golden import WIDER_TOLERANCES, self_test
from edgecxr.device.verify import verify
from edgecxr.engines import ov
from edgecxr.engines.select import Asked
from edgecxr.errors import BundleError, GateError, UnavailableError
from edgecxr.scoring.session import open_session


def rewrite(folder: Path, file: str, data: bytes) -> None:
    """Replace a file and list it properly: a bundle that is whole and says something else."""
    manifest = json.loads((folder / "bundle.json").read_text())
    for row in manifest["files"]:
        if row["file"] == file:
            row.update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    manifest["digest"] = manifest_digest(manifest)
    (folder / file).write_bytes(data)
    (folder / "bundle.json").write_text(json.dumps(manifest))


def test_a_right_device_passes(tiny_bundle: Path) -> None:
    result = verify(load(tiny_bundle), Asked(engine="onnxruntime"))
    assert result.passed
    assert [check.pictures for check in result.golden] == [8, 8]
    assert not result.notes
    assert all(check.max_difference < 1e-4 for check in result.golden)
    assert result.files == 6


@pytest.mark.parametrize("size", [0.01, -0.01])
def test_an_answer_outside_its_tolerance_fails(tmp_path: Path, size: float) -> None:
    folder = tiny.write_bundle(tmp_path / "t.edgecxr")
    rows = json.loads((folder / "golden/expected.json").read_text())
    rows[1]["logits"][5][2] += size
    rewrite(folder, "golden/expected.json", json.dumps(rows).encode())
    result = verify(load(folder), Asked(engine="onnxruntime"))
    assert not result.passed
    assert [check.passed for check in result.golden] == [True, False]


def test_the_third_output_is_compared_too(tmp_path: Path) -> None:
    folder = tiny.write_bundle(tmp_path / "t.edgecxr", abstain_at=1.0)
    result = verify(load(folder))
    assert result.passed
    assert [(c.engine, c.ood_tolerance) for c in result.golden] == [
        ("onnxruntime", 1e-3), ("openvino", pytest.approx(0.02)), ("onnxruntime", 1e-3), ("openvino", 0.5),
    ]  # fmt: skip  # of another engine's values as much wider as the logits' tolerance is: 0.02 and 0.5 of 1e-3
    assert all(c.ood_difference is not None and c.ood_difference < 1e-4 for c in result.golden)
    rows = json.loads((folder / "golden/expected.json").read_text())
    rows[1]["ood"][5][0] += 0.01
    rewrite(folder, "golden/expected.json", json.dumps(rows).encode())
    result = verify(load(folder), Asked(engine="onnxruntime"))
    assert [check.passed for check in result.golden] == [True, False]
    assert "model.int8.onnx on onnxruntime gives its logits and is off by up to 0.01 in ood" in result.diagnosis
    session = open_session(load(folder), Asked(engine="onnxruntime"))
    with pytest.raises(GateError, match=r"ood of model\.int8\.onnx is off by up to 0\.01 .*, where 0\.001 is accepted"):
        self_test(session.bundle, session.artifact, session.engine)


def test_the_difference_of_the_third_output_is_said(
    edgecxr: Callable[..., subprocess.CompletedProcess[str]], tiny_bundle: Path, tmp_path: Path
) -> None:
    folder = tiny.write_bundle(tmp_path / "t.edgecxr", abstain_at=1.0)
    assert "max |Δood|" in edgecxr("verify", folder, "--engine", "onnxruntime").stdout
    found = json.loads(edgecxr("verify", folder, "--engine", "onnxruntime", "--json").stdout)
    assert [0 <= row["ood_difference"] < 1e-4 for row in found["golden"]] == [True, True]
    assert "ood" not in edgecxr("verify", tiny_bundle, "--engine", "onnxruntime").stdout


@pytest.mark.parametrize("abstain_at", [None, 1.0])
def test_golden_values_of_some_outputs_only_are_refused(tmp_path: Path, abstain_at: float | None) -> None:
    folder = tiny.write_bundle(tmp_path / "t.edgecxr", abstain_at=abstain_at)
    rows = json.loads((folder / "golden/expected.json").read_text())
    for row in rows:
        if abstain_at is None:
            row |= {"ood": [[0.0]] * 8, "ood_tolerance": 1e-3}
        else:
            del row["ood"]
    rewrite(folder, "golden/expected.json", json.dumps(rows).encode())
    alone = "golden values alone have" if abstain_at is None else "network alone has"
    with pytest.raises(BundleError, match=f"must be of every output, the {alone} ood"):
        verify(load(folder), Asked(engine="onnxruntime"))


@pytest.mark.parametrize("tolerance", ["Infinity", "NaN", "0", "-1"])
def test_a_tolerance_that_allows_anything_is_refused(tmp_path: Path, tolerance: str) -> None:
    folder = tiny.write_bundle(tmp_path / "t.edgecxr")
    text = (folder / "golden/expected.json").read_text().replace('"tolerance": 0.001', f'"tolerance": {tolerance}')
    rewrite(folder, "golden/expected.json", text.encode())
    with pytest.raises(BundleError, match="don't fit"):
        verify(load(folder))


def test_answers_missing_or_too_few_are_refused(tmp_path: Path) -> None:
    folder = tiny.write_bundle(tmp_path / "t.edgecxr")
    buffer = io.BytesIO()
    np.save(buffer, tiny.golden_inputs()[:7])
    rewrite(folder, "golden/inputs.npy", buffer.getvalue())
    with pytest.raises(BundleError, match="7 golden inputs and 8 answers"):
        verify(load(folder))
    rewrite(folder, "golden/expected.json", b"[]")
    with pytest.raises(BundleError, match="no golden vectors"):
        verify(load(folder))


def test_an_absent_precision_and_an_unrunnable_format_are_said(tiny_bundle: Path) -> None:
    bundle = load(tiny_bundle)
    with pytest.raises(UnavailableError, match="no fp16"):
        verify(bundle, Asked(precision="fp16"))
    tflite = replace(bundle, artifacts=tuple(replace(a, format="tflite") for a in bundle.artifacts))
    with pytest.raises(UnavailableError, match="can't run it so, litert can: --engine litert"):
        verify(tflite, Asked(engine="onnxruntime"))


def test_every_installed_engine_is_tried(tiny_bundle: Path) -> None:
    result = verify(load(tiny_bundle))
    assert {(check.engine, check.precision) for check in result.golden} == {
        (engine, precision) for engine in ("onnxruntime", "openvino") for precision in ("fp32", "int8")
    }
    assert result.passed


def test_an_engine_without_answers_of_its_own_is_compared_with_another_at_a_wider_tolerance(tiny_bundle: Path) -> None:
    result = verify(load(tiny_bundle), Asked(engine="openvino"))
    assert [(c.engine, c.reference, c.tolerance) for c in result.golden] == [
        ("openvino", "onnxruntime", WIDER_TOLERANCES[precision]) for precision in ("fp32", "int8")
    ]
    assert result.notes == (
        "model.fp32.onnx in fp32 on openvino: the bundle holds no golden vectors for it; compared with those of "
        "onnxruntime in fp32, at 0.02",
        "model.int8.onnx in int8 on openvino: the bundle holds no golden vectors for it; compared with those of "
        "onnxruntime in int8, at 0.5",
    )


def test_openvinos_integers_on_arm_are_compared_as_another_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It computes them in half precision there: the answers that it gave in integers elsewhere aren't its own."""
    folder = tiny.write_bundle(tmp_path / "t.edgecxr")
    rows = json.loads((folder / "golden/expected.json").read_text())
    rows += json.loads(json.dumps(rows).replace("onnxruntime", "openvino"))
    rewrite(folder, "golden/expected.json", json.dumps(rows).encode())
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    result = verify(load(folder), Asked(engine="openvino"))
    found = {c.precision: (c.reference, c.tolerance) for c in result.golden}
    assert found == {"fp32": ("openvino", 1e-3), "int8": ("openvino", WIDER_TOLERANCES["int8"])}
    (note,) = result.notes
    assert note.endswith("compared with those of openvino in int8, at 0.5")


def test_an_engines_own_answers_are_taken_where_they_are_there(tmp_path: Path) -> None:
    folder = tiny.write_bundle(tmp_path / "t.edgecxr")
    rows = json.loads((folder / "golden/expected.json").read_text())
    rows += json.loads(json.dumps(rows).replace("onnxruntime", "openvino"))
    rows[0]["logits"][0][0] += 1  # of ONNX Runtime, which isn't asked
    rewrite(folder, "golden/expected.json", json.dumps(rows).encode())
    result = verify(load(folder), Asked(engine="openvino"))
    assert result.passed
    assert not result.notes
    assert [(c.reference, c.tolerance) for c in result.golden] == [("openvino", 1e-3)] * 2


@pytest.mark.skipif(not ov.has_bf16(), reason="this CPU has no bfloat16 instructions")
def test_bfloat16_is_compared_with_fp32(tiny_bundle: Path) -> None:
    result = verify(load(tiny_bundle), Asked(precision="bf16"))
    assert [(c.artifact, c.precision, c.engine) for c in result.golden] == [("model.fp32.onnx", "bf16", "openvino")]
    assert result.passed
    assert "in bf16 on openvino" in result.notes[0]
    # It is compared at all: bfloat16 isn't fp32.
    assert result.golden[0].max_difference > 1e-4


def test_answers_outside_the_wider_tolerance_fail_too(tmp_path: Path) -> None:
    folder = tiny.write_bundle(tmp_path / "t.edgecxr")
    rows = json.loads((folder / "golden/expected.json").read_text())
    rows[1]["logits"][5][2] += 0.6
    rewrite(folder, "golden/expected.json", json.dumps(rows).encode())
    result = verify(load(folder), Asked(engine="openvino"))
    assert [check.passed for check in result.golden] == [True, False]
    assert not result.passed


def test_the_embedded_bundle_passes_here() -> None:
    assert verify(load()).passed
