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


WEB = {
    "on": "onnxruntime-web 1.30.0, Chromium 140",
    "threads": 1,
    "site_megabytes": {"runtime": 14.25, "bundle": 21.5},
    "golden": {"largest_difference": 2.5e-7, "tolerance": 0.2},
    "network_ms": {"browser": {"p50": 463.21}, "onnxruntime": {"p50": 18.0}},
}
TRITON = {
    "golden": {"max_difference": 0.0, "tolerance": 0.2},
    "measured": [
        {"at_a_time": 1, "triton": {"pictures_per_second": [30.0, 32.0, 31.0], "p50_ms": 33.3}},
        {"at_a_time": 8, "triton": {"pictures_per_second": [50.0, 52.0, 51.0], "p50_ms": 150.0}},
    ],
}
CLUSTER = {
    "throughput": [{"workers": 2, "ratio": [0.961, 0.95, 0.97], "ray": {"pictures_per_second": [40.0, 44.0, 41.0]}}]
}


def test_rows_of_other_places_stand_in_the_same_table(bundle: Bundle, tmp_path: Path) -> None:
    for name, content in (("web", WEB), ("triton", TRITON), ("cluster", CLUSTER)):
        sha256 = "0" * 64 if name == "web" else bundle.digest
        (tmp_path / f"{name}.json").write_text(json.dumps({**content, "bundle_sha256": sha256}))
    (tmp_path / "twins.json").write_text("[]")  # a result of something else
    rows = everywhere.of_others(tmp_path)
    report = {
        "rows": [everywhere.asdict(row) for row in rows],
        "bundle": {"name": "tiny", "version": "1", "sha256": bundle.digest},
        "golden_inputs": 8,
        "left_out": ["a reason"],
    }
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in everywhere.markdown(report).splitlines()[2:5]]
    assert cells[0][0] == "browser, onnxruntime-web [1]"
    assert cells[0][3:8] == ["2.5e-07", "0.2", "463.2", "", "36"]
    assert cells[1][3:8] == ["0", "0.2", "33.3", "51.0", ""]
    assert cells[2][:1] + cells[2][3:8] == ["infer --ray, workers: 2 [3]", "", "", "", "41.0", ""]
    text = everywhere.markdown(report)
    assert "[1] the site with the bundle, without the browser; another bundle." in text
    assert "[2] decoding is in the times; pictures/s of 8 requests at a time." in text
    assert "[3] from files, 0.96 of as many plain processes; its records are `infer`'s." in text
    assert "Not run: a reason." in text


def test_golden_answers_that_were_not_compared_are_said(bundle: Bundle) -> None:
    report = {**TRITON, "golden": {"max_difference": None, "why": "too large"}, "bundle_sha256": bundle.digest}
    (row,) = everywhere.behind_triton(report)
    assert (row.max_difference, row.tolerance) == (None, None)
    assert row.note.endswith("; golden answers weren't compared: too large")


def test_a_report_of_another_form_is_refused(tmp_path: Path) -> None:
    assert everywhere.of_others(tmp_path) == []
    (tmp_path / "web.json").write_text(json.dumps({"golden": []}))
    with pytest.raises(UnavailableError, match=r"results/web\.json must be what benchmarks/web\.py writes, got "):
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
