"""benchmarks/everywhere.py: the tiny network on what is installed, and what other places left, in one table."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from common import ROOT
from edgecxr.bundle import Bundle, load
from edgecxr.errors import UnavailableError

sys.path.insert(0, str(ROOT / "benchmarks"))

import everywhere


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return load(tiny_bundle)


def test_a_row_for_each_artifact_on_each_engine_and_for_c(bundle: Bundle) -> None:
    report = everywhere.measure(bundle, 0.0)
    rows = {(row["what"], row["artifact"]): row for row in report["rows"]}
    engines = {(what, file) for what in ("onnxruntime", "openvino") for file in ("model.fp32.onnx", "model.int8.onnx")}
    built = shutil.which("make") and shutil.which("cc") and importlib.util.find_spec("openvino")
    programs = {("examples/c", file) for _, file in engines} if built else set()
    assert set(rows) == engines | programs
    for (what, file), row in rows.items():
        assert row["bundle_sha256"] == bundle.digest
        assert row["max_difference"] <= row["tolerance"]
        for figure in ("p50_ms", "pictures_per_second"):
            assert row[figure] is None if what == "examples/c" else row[figure] > 0
        (artifact,) = (a for a in bundle.artifacts if a.file == file)
        assert row["megabytes"] > artifact.bytes / 1e6 + 10  # engines are tens of megabytes
    row = rows["onnxruntime", "model.int8.onnx"]
    assert row["command"] == "edgecxr verify --engine onnxruntime --precision int8"
    json.dumps(report)


def test_rows_of_other_places_stand_in_the_same_table(bundle: Bundle, tmp_path: Path) -> None:
    whole = {"what": "triton", "command": "tritonclient", "max_difference": 0.0, "p50_ms": 12.345}
    (tmp_path / "triton.json").write_text(json.dumps({"everywhere": [{**whole, "bundle_sha256": bundle.digest}]}))
    (tmp_path / "web.json").write_text(
        json.dumps({"everywhere": [{"what": "chromium", "command": "npm", "note": "one thread", "bundle_sha256": "0"}]})
    )
    (tmp_path / "twins.json").write_text("[]")  # a result of something else
    rows = everywhere.of_others(tmp_path)
    assert [row.what for row in rows] == ["triton", "chromium"]
    report = {
        "rows": [everywhere.asdict(row) for row in rows],
        "bundle": {"name": "tiny", "version": "1", "sha256": bundle.digest},
        "golden_inputs": 8,
        "left_out": ["a browser isn't installed"],
    }
    lines = everywhere.markdown(report).splitlines()
    assert "| triton |  |  | 0 |  | 12.3 |  |  | `tritonclient` |" in lines
    assert "| chromium [1] |  |  |  |  |  |  |  | `npm` |" in lines
    assert "[1] one thread; another bundle." in lines
    assert "Not run: a browser isn't installed." in lines


@pytest.mark.parametrize("row", [{"what": "x"}, {"what": "x", "command": "y", "speed": 3}])
def test_a_row_that_is_none_is_refused(tmp_path: Path, row: dict[str, object]) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"everywhere": [row]}))
    with pytest.raises(UnavailableError, match=r"a row of a\.json must have what and command, .*, got "):
        everywhere.of_others(tmp_path)


def test_emulated_answers_are_compared_with_the_golden_ones(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (golden,) = (
        row for row in bundle.golden_expected() if (row.artifact, row.engine) == ("model.int8.onnx", "onnxruntime")
    )
    off = everywhere.emulation.Answers(golden.logits + np.float32(0.125), ())
    monkeypatch.setattr(everywhere.emulation, "run", lambda *given: off)
    (row,) = everywhere.emulated(bundle, tmp_path)
    assert row.max_difference == pytest.approx(0.125, abs=1e-5)
    assert (row.device, row.p50_ms) == ("neoverse-n1, emulated", None)
