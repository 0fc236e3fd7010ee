"""What the bundle tells about its making: reports as JSON, and the provenance in its manifest."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import onnx

from edgecxr.engines import ort
from edgecxr.lab.dataset import Dataset
from edgecxr.lab.run import HISTORY, Run
from edgecxr_export.graphs.artifacts import NetworkFile
from edgecxr_export.parity.compare import Parity


def quantization_report(dataset: Dataset, rows: Sequence[int], found: Mapping[str, Any]) -> dict[str, Any]:
    """reports/quantization.json: what was calibrated on, and `found`: by format, what was tried and chosen."""
    chosen = [dataset.examples[row] for row in rows]
    groups = Counter((example.label, example.origin) for example in chosen)
    return {
        "schema": 2,
        "pictures": len(chosen),
        "added": ["all 0", "all 255"],
        "groups": [{"label": label, "origin": origin, "pictures": n} for (label, origin), n in sorted(groups.items())],
        **found,
        "files": [example.file for example in chosen],
    }


def artifact_row(
    artifact: NetworkFile, found: Parity, preferred: bool, speeds: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The manifest's row of an artifact."""
    return {
        "file": artifact.file,
        "format": artifact.format,
        "precision": artifact.precision,
        **identity(artifact.model),
        "preferred": preferred,
        **artifact.details,
        "parity": {
            "engine": found.engine,
            "split": found.split,
            "pictures": found.pictures,
            "flips": found.flips,
            "max_dp": found.max_dp,
            "p99_dp": found.p99_dp,
            "max_dlogit": found.max_dlogit,
            "accuracy": found.accuracy,
            "reference_accuracy": found.reference_accuracy,
        },
        **({"speed": dict(speeds[artifact.file])} if artifact.file in speeds else {}),
    }


def training_report(run: Run) -> dict[str, Any]:
    description = json.loads(json.dumps(run.description))
    for name in ("folder", "folders"):  # a path of the machine that trained is nobody else's business
        description["data"].pop(name, None)
    if "left_out" in description["data"]:  # nor are the names of films
        description["data"]["left_out"] = len(description["data"]["left_out"])
    history: list[dict[str, str]] = []
    if (run.folder / HISTORY).is_file():
        with (run.folder / HISTORY).open(newline="", encoding="utf-8") as file:
            history = list(csv.DictReader(file))
    return {
        "schema": 1,
        "run": description,
        "history": [{column: float(value) for column, value in row.items()} for row in history],
    }


def provenance(run: Run, notes: Sequence[str]) -> dict[str, Any]:
    import tensorflow as tf
    import tf2onnx

    from edgecxr.lab.train.fit import versions

    described = run.description
    return {
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": {
            "created_utc": described.get("created_utc"),
            "recipe": described["recipe"]["name"],
            "seed": described["seed"],
            "backbone_weights": described["backbone_weights"],
            "data_fingerprint": described["data"]["fingerprint"],
            "weights_sha256": hashlib.sha256(run.weights.read_bytes()).hexdigest(),
            "versions": described.get("versions", {}),
        },
        "versions": {
            **versions(),
            "tensorflow": tf.__version__,
            "onnx": onnx.__version__,
            "tf2onnx": tf2onnx.__version__,
            "onnxruntime": ort.load_library().__version__,
        },
        "notes": list(notes),
    }


def to_bytes(data: object) -> bytes:
    # Of a name that isn't UTF-8 Python holds lone surrogates; backslashed they are JSON's own escapes.
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def identity(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
