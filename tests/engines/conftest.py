"""The tiny network as TFLite files, and a bundle that holds it in both formats."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from edgecxr.bundle import manifest_digest


@pytest.fixture(scope="session")
def tflite(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """fp32 and int8: grey (N, 64, 64, 1) -> the outputs of `tiny.tiny_model`."""
    import tensorflow as tf

    folder = saved(tmp_path_factory.mktemp("network") / "saved")
    float32 = tf.lite.TFLiteConverter.from_saved_model(folder)
    integer = tf.lite.TFLiteConverter.from_saved_model(folder)
    integer.optimizations = [tf.lite.Optimize.DEFAULT]
    shape = (1, tiny.SIZE, tiny.SIZE, 1)
    integer.representative_dataset = lambda: ([np.full(shape, level, np.float32)] for level in (0, 100, 255))
    integer.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    integer.inference_input_type = tf.uint8
    return {"fp32": float32.convert(), "int8": integer.convert()}


@pytest.fixture(scope="session")
def tflite_with_ood(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """fp32: grey (N, 64, 64, 1) -> the outputs of `tiny.with_ood`."""
    import tensorflow as tf

    folder = saved(tmp_path_factory.mktemp("network") / "saved", ood=True)
    return bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())


def saved(folder: Path, *, ood: bool = False) -> str:
    """The tiny network as TensorFlow's SavedModel."""
    import tensorflow as tf

    class Network(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, tiny.SIZE, tiny.SIZE, 1), tf.float32, name="image")])
        def answer(self, image: Any) -> dict[str, Any]:
            pooled = tf.nn.avg_pool2d(image, 16, 16, "VALID")
            evidence = tf.nn.conv2d(pooled, (tiny.WEIGHTS / 16).reshape(1, 1, 1, 3), 1, "VALID")
            found = {"evidence": evidence, "logits": tf.reduce_sum(evidence, [1, 2]) + tiny.BIAS}
            return {**found, "ood": tf.reduce_sum(evidence, [1, 2, 3])[:, None]} if ood else found

    network = Network()
    tf.saved_model.save(network, str(folder), signatures={"serving_default": network.answer})
    return str(folder)


@pytest.fixture(scope="session")
def both_formats(tflite: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with TFLite artifacts added, and LiteRT's answers to its golden inputs."""
    folder = tiny.write_bundle(tmp_path_factory.mktemp("bundles") / "both.edgecxr")
    manifest = json.loads((folder / "bundle.json").read_text())
    rows = json.loads((folder / "golden/expected.json").read_text())
    for precision, data in tflite.items():
        file = f"model.{precision}.tflite"
        (folder / file).write_bytes(data)
        manifest["artifacts"].append(
            {**listed(file, data), "format": "tflite", "precision": precision, "preferred": False}
        )
        rows.append({**rows[0], "artifact": file, "engine": "litert", "tolerance": 0.1})
    write(folder, manifest, rows)
    return folder


def listed(file: str, data: bytes) -> dict[str, Any]:
    return {"file": file, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def write(folder: Path, manifest: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Write the manifest and the golden answers, properly listed."""
    golden = json.dumps(rows).encode()
    (folder / "golden/expected.json").write_bytes(golden)
    for row in manifest["files"]:
        if row["file"] == "golden/expected.json":
            row.update(listed(row["file"], golden))
    manifest["digest"] = manifest_digest(manifest)
    (folder / "bundle.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="session")
def inputs() -> np.ndarray:
    """Network inputs, uint8 (8, H, W, 1)."""
    return np.random.default_rng(3).integers(0, 256, (8, tiny.SIZE, tiny.SIZE, 1)).astype(np.uint8)


@pytest.fixture(scope="session")
def expected(inputs: np.ndarray) -> np.ndarray:
    """Their logits, computed by hand."""
    return np.stack([tiny.tiny_logits(image[:, :, 0]) for image in inputs])
