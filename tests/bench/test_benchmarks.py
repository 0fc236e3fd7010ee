"""The arithmetic of benchmarks/: intervals, ratios, slopes; what they measure is measured by running them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from common import ROOT


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


peers, scaling = script("peers"), script("scaling")


def test_the_sign_tests_interval_is_that_of_the_tables() -> None:
    # Conover, Practical Nonparametric Statistics: n = 10 gives the 2nd and the 9th at 97.9 %, n = 20 the 6th and 15th
    values = [float(i) for i in range(1, 21)]
    low, high, coverage = peers.sign_interval(values[:10])
    assert (low, high) == (2.0, 9.0)
    assert coverage == pytest.approx(1 - 2 * 11 / 1024)
    assert peers.sign_interval(values)[:2] == (6.0, 15.0)
    # Five can't cover 95 %: their range, and what it covers
    assert peers.sign_interval(values[:5]) == (1.0, 5.0, pytest.approx(1 - 2 / 32))
    assert peers.sign_interval([3.0])[:2] == (3.0, 3.0)


def test_the_interval_covers_the_median_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        low, high, coverage = peers.sign_interval(sorted(rng.exponential(size=10).tolist()))
        hits += low <= np.log(2) <= high
    assert hits / 2000 == pytest.approx(coverage, abs=0.015)  # over 4 standard errors


def test_a_ratio_is_taken_within_each_round() -> None:
    # Both get slower by the same factor from round to round: the ratio doesn't
    found = peers.ratio([30.0, 15.0, 10.0], [10.0, 5.0, 10 / 3])
    assert found["median"] == pytest.approx(3.0)
    assert found["interval"] == pytest.approx([3.0, 3.0])
    assert peers.ratio([1.0], []) is None


@pytest.fixture
def summary(tmp_path: Path, tiny_bundle: Path) -> Any:
    from edgecxr.bench import environment
    from edgecxr.bundle import load

    file = tmp_path / "a.png"
    file.write_bytes(b"x" * 10)
    before = environment.snapshot()
    described = environment.describe(before, before)
    kinds = {peers.FP32: "ort", peers.INT8: "ort", "edgecxr int8, onnxruntime": "edgecxr"}
    kinds |= {f"edge: {peers.INT8}": "ort", "edge: edgecxr int8, onnxruntime": "edgecxr"}
    kinds |= {f"edge: {peers.DIRECT}": "direct", f"edge: {peers.ALONE}, onnxruntime": "engine"}
    lined_up = {name: {"kind": kind} for name, kind in kinds.items()}
    lined_up["bound of edgecxr int8, onnxruntime"] = {"kind": "bound"}
    stage = {"read": 0.4, "decode": 1.0, "preprocess": 0.6, "run": 3.0, "post": 1.0}
    rounds = {
        peers.FP32: [{"seconds": 10.0, "pictures": 10}] * 6,
        peers.INT8: [{"seconds": 5.0, "pictures": 10}] * 6,
        "edgecxr int8, onnxruntime": [{"seconds": 2.5, "pictures": 10}] * 6,
        "bound of edgecxr int8, onnxruntime": [{"seconds": 5.0, "pictures": 10, **stage}] * 6,
        f"edge: {peers.INT8}": [{"seconds": 4.0, "pictures": 10}] * 6,
        "edge: edgecxr int8, onnxruntime": [{"seconds": 1.0, "pictures": 10}] * 6,
        f"edge: {peers.DIRECT}": [{"seconds": 1.0, "pictures": 10}] * 6,
        f"edge: {peers.ALONE}, onnxruntime": [{"seconds": 1.25, "pictures": 10}] * 6,
    }

    def make(earlier: Any = None) -> Any:
        bundles = {"full": load(tiny_bundle), "edge": load(tiny_bundle)}
        return peers.summarise(bundles, [file], lined_up, rounds, {"Keras": "absent"}, described, earlier)

    return make


def test_the_report_gives_ratios_to_the_loops_and_to_the_bound(summary: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.machine, "cpus", lambda: 2)
    report = summary()
    ours = report["edgecxr"]["edgecxr int8, onnxruntime"]
    assert (ours["plain_fp32"]["median"], ours["plain_int8"]["median"]) == (4.0, 2.0)
    # decode + run = 4 s for 10 pictures on one thread: 2 CPUs could do 5/s, and 4/s were done
    assert ours["bound_pictures_per_s"] == {"bound": 5.0, "bound_of_all": 4.0}
    assert ours["bound"]["median"] == pytest.approx(0.8)
    assert ours["bound_of_all"]["median"] == pytest.approx(1.0)
    assert ours["one_thread_ms"]["run"] == pytest.approx(300)
    assert "bound of edgecxr int8, onnxruntime" not in report["rates"]
    text = peers.table(report)
    assert "| **edgecxr int8, onnxruntime** | **4.0** | 4.0–4.0 |" in text
    assert "Left out: Keras (absent)." in text


def test_a_further_model_is_compared_with_its_own_peers_and_with_the_first_model(summary: Any) -> None:
    report = summary()
    edge = report["edgecxr"]["edge: edgecxr int8, onnxruntime"]
    assert (edge["plain_fp32"], edge["plain_int8"]["median"], edge["models"]["full"]["median"]) == (None, 4.0, 2.5)
    assert {name: row["median"] for name, row in report["call"].items()} == {f"edge: {peers.ALONE}, onnxruntime": 1.25}
    text = peers.table(report)
    assert "| edge: edgecxr int8, onnxruntime | the same of full | 2.50 |" in text
    assert (
        f"| edge: {peers.ALONE}, onnxruntime: time | edge: {peers.DIRECT} | 1.25 | 1.25–1.25 (96.9%) | ≤ 1.10 |" in text
    )


def test_rounds_are_added_to_a_result_of_the_same_machine_only(summary: Any) -> None:
    first = summary()
    both = summary(first)
    assert {len(rows) for rows in both["rounds"].values()} == {12}
    assert len(both["machines"]) == 2
    first["same"]["cpu"] = "another"
    with pytest.raises(SystemExit, match="another machine"):
        summary(first)


def test_memory_is_flat_or_isnt() -> None:
    # 200 bytes a record; 10 MB a 1,000 pictures up to the first 1,000 and 0.5 MB after
    def megabytes(done: int) -> float:
        return 100 + 10 * min(done, 1000) / 1000 + 0.5 * max(0, done - 1000) / 1000

    looks = [(200 * done, megabytes(done)) for done in range(0, 10_001, 100)]
    assert scaling.slope(looks, 10_000) == pytest.approx(0.5)
    assert scaling.slope(looks[:11], 1000) is None
    assert scaling.slope([], 10_000) is None
