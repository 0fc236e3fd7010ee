"""verify: golden vectors on this device."""

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiny
from edgecxr.bundle import load, manifest_digest
from edgecxr.errors import BundleError, UnavailableError
from edgecxr.verify import verify


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
    result = verify(load(tiny_bundle))
    assert result.passed
    assert [check.pictures for check in result.golden] == [8, 8]
    assert all(check.max_difference < 1e-4 for check in result.golden)
    assert result.files == 6


@pytest.mark.parametrize("size", [0.01, -0.01])
def test_an_answer_outside_its_tolerance_fails(tmp_path: Path, size: float) -> None:
    folder = tiny.write_bundle(tmp_path / "t.edgecxr")
    rows = json.loads((folder / "golden/expected.json").read_text())
    rows[1]["logits"][5][2] += size
    rewrite(folder, "golden/expected.json", json.dumps(rows).encode())
    result = verify(load(folder))
    assert not result.passed
    assert [check.passed for check in result.golden] == [True, False]


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
        verify(bundle, precision="fp16")
    tflite = replace(bundle, artifacts=tuple(replace(a, format="tflite") for a in bundle.artifacts))
    with pytest.raises(UnavailableError, match="no engine for tflite"):
        verify(tflite)


def test_the_embedded_bundle_passes_here() -> None:
    assert verify(load()).passed
