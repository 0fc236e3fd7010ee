"""The results as CSV, with the column names of timm's benchmark (huggingface/pytorch-image-models, benchmark.py).

Its columns come first, in its units: samples a second, milliseconds a step of one batch, the side of the picture in
pixels. Ours follow, because timm has one engine and one precision a file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

TIMM = ("model", "infer_samples_per_sec", "infer_step_time", "infer_batch_size", "infer_img_size")
OURS = (
    "artifact", "precision", "engine", "provider", "device", "what", "workers", "threads", "samples", "p50_ms",
    "p90_ms", "p99_ms", "throughput_low", "throughput_high", "load_ms", "megabytes", "cpu",
)  # fmt: skip


def rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a result of a quick report."""
    bundle = report["bundle"]
    sides = {each["model"]: each["input_px"][0] for each in report.get("models", ())}
    return [
        {
            "model": row.get("model", bundle["name"]),
            "infer_samples_per_sec": round(row["throughput"], 2),
            "infer_step_time": round(1e3 * row["batch_size"] / row["throughput"], 3),
            "infer_batch_size": row["batch_size"],
            "infer_img_size": sides.get(row.get("model"), bundle["input_px"][0]),
            **{name: row[name] for name in OURS if name in row},
            "cpu": report["machine"]["cpu"],
        }
        for row in report["results"]
    ]


def table(report: Mapping[str, Any]) -> str:
    """The rows as CSV text (RFC 4180)."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*TIMM, *OURS])
    writer.writeheader()
    writer.writerows(rows(report))
    return text.getvalue()
