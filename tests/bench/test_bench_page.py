"""The page: whole, self-contained, with the figures of the report; and its plots."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecxr.bench import compare, environment, rounds
from edgecxr.bench import plots as bench_plots
from edgecxr.bench.page import page
from edgecxr.bench.rounds import Samples


def conditions() -> dict[str, Any]:
    before = environment.snapshot(Path("/nowhere"))
    return {**environment.describe(before, before), "cpu": "Test <CPU>"}


def report(**changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    results = []
    for precision, engine, base in (("int8", "onnxruntime", 0.02), ("fp32", "openvino", 0.05)):
        for what, size in (("model", 1), ("model", 8), ("picture", 1), ("folder", 1)):
            samples = Samples([(base * size * rng.lognormal(0, 0.1, 30)).tolist() for _ in range(5)])
            results.append(
                {
                    "artifact": f"model.{precision}.onnx", "precision": precision, "engine": engine, "provider": "CPU",
                    "device": "cpu", "what": what, "workers": 2, "threads": 1, "batch_size": size, "load_ms": 5.0,
                    "megabytes": 20.0, "accuracy": {"value": 0.95, "split": "dev", "pictures": 100},
                    **rounds.summary(samples, size, latency=what != "folder"),
                    "stages_ms": {"read": 0.1, "decode": 7.0, "preprocess": 1.0, "run": 1e3 * base, "post": 0.1}
                    if what == "picture" else None,
                }
            )  # fmt: skip
    starts = [
        {
            "artifact": f"model.{precision}.onnx", "precision": precision, "engine": engine, "device": "cpu",
            "pictures": 16, "seconds": 0.8, "seconds_low": 0.7, "seconds_high": 0.9, "rounds": [0.7, 0.8, 0.9],
            "peak_megabytes": 150.0,
        }
        for precision, engine in (("int8", "onnxruntime"), ("fp32", "openvino"))
    ]  # fmt: skip
    return {
        "schema": 2, "kind": "quick", "edgecxr": "0", "time_utc": "2026-01-01T00:00:00Z",
        "bundle": {"name": "tiny", "version": "1", "sha256": "0" * 64, "input_px": [299, 299]},
        "pictures": {"count": 3, "left_out": 0, "median_megapixels": 2.0, "median_megabytes": 0.3},
        "rounds": 5, "machine": conditions(), "warnings": ["other programs kept 1.0 CPUs busy"], "not_run": [],
        "results": results, "cold_start": starts, "golden_inputs": False, **changes,
    }  # fmt: skip


MLPERF = {
    "kind": "mlperf", "scenario": "SingleStream", "loadgen": "6", "precision": "int8", "engine": "onnxruntime",
    "provider": "CPU", "device": "cpu", "workers": 1, "threads": 2, "batch_size": 1, "result": "VALID", "valid": True,
    "unmet": [], "conforms": True, "early_stopping_ms": {"p90": 21.5}, "latency_ms": {"p50": 19.0, "p90": 21.0},
    "throughput": 50.0, "samples_per_query": 1, "summary": "Result is : VALID",
}  # fmt: skip


def images(html: str) -> list[Image.Image]:
    encoded = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in encoded]


def test_a_page_holds_its_plots_and_fetches_nothing() -> None:
    html = page(report())
    assert not re.search(r"https?://|<script|<link|@import", html)
    assert len(images(html)) == 4  # latency, batch, stages, accuracy
    assert "Test &lt;CPU&gt;" in html
    assert "Other programs kept 1.0 CPUs busy." in html
    assert html.count('<tr><td style="white-space: nowrap">') == 8  # a row a result
    assert "150.0" in html


def test_what_a_report_lacks_the_page_leaves_out() -> None:
    few = report()
    few["results"] = [{**row, "accuracy": None} for row in few["results"] if row["batch_size"] == 1]
    html = page({**few, "golden_inputs": True, "not_run": ["model.fp16.onnx: for GPUs"]})
    assert len(images(html)) == 2
    assert "golden inputs, drawn and small" in html
    assert "Not run: model.fp16.onnx: for GPUs." in html


def test_a_comparison_stands_on_the_page() -> None:
    slower = report()
    slower["results"] = [
        {**row, "rounds": {key: values and [2 * v for v in values] for key, values in row["rounds"].items()}}
        for row in slower["results"]
    ]
    slower["machine"] = {**slower["machine"], "cpu": "another"}
    found = compare.compare(report(), slower)
    assert {row["verdict"] for row in found["changes"] if row["figure"] == "p50_ms"} == {"slower"}
    assert {row["verdict"] for row in found["changes"] if row["figure"] == "pictures/s"} == {"faster"}
    html = page({**slower, "comparison": found})
    assert '<td class="bad">slower</td>' in html
    assert "The machines differ (cpu)" in html


def test_mlperf_and_sustained_have_pages_of_their_own() -> None:
    html = page(report(**MLPERF))
    assert "SingleStream: 21.50 ms (early-stopping estimate of p90), VALID" in html
    assert "it is no MLPerf result" in html
    assert len(images(html)) == 1
    windows = [
        {"seconds": 5.0 * i, "pictures": 100, "throughput": 20.0 - i, "mhz": 3000.0 - 10 * i, "celsius": 50.0 + i,
         "throttle_events": 0}
        for i in range(1, 9)
    ]  # fmt: skip
    sustained = {
        "kind": "sustained", "minutes": 0.75, "complete": False, "precision": "int8", "engine": "openvino",
        "provider": "CPU", "workers": 2, "threads": 1, "windows": windows, "throughput": 16.0, "first": 19.0,
        "last": 12.0, "remaining": 12 / 19,
    }  # fmt: skip
    html = page(report(**sustained))
    assert "stopped before the end" in html
    assert "63.2 %" in html
    (drawn,) = images(html)
    bare = [{**row, "mhz": None, "celsius": None} for row in windows]
    (without,) = images(page(report(**{**sustained, "windows": bare})))
    assert without.height < drawn.height  # no room for sensors that say nothing


@pytest.mark.parametrize("name", ["latency.png", "batch.png", "stages.png", "accuracy.png"])
def test_a_plot_shows_something(name: str) -> None:
    drawn = Image.open(io.BytesIO(bench_plots.plots(report())[name])).convert("RGB")
    colours = {tuple(int(c.lstrip("#")[i : i + 2], 16) for i in (0, 2, 4)) for c in bench_plots.COLOURS.values()}
    seen = set(map(tuple, np.asarray(drawn).reshape(-1, 3)))
    assert len(colours & seen) >= 2 or name == "stages.png"
    assert len(seen) > 10
