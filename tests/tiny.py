"""A tiny bundle for tests of the runtime: its network is small enough to be computed by hand (`tiny_logits`)."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgecxr.bundle import SCHEMA, manifest_digest
from edgecxr.engines import Outputs
from edgecxr.pictures.preprocess import Contract

LABELS = ("covid", "normal", "viral_pneumonia")
SIZE = 64
CONTRACT = Contract(height=SIZE, width=SIZE)
WEIGHTS = np.array([0.03, -0.02, 0.01], dtype=np.float32)  # logit per grey level of a location, summed over 16
BIAS = np.array([-1.5, 2.0, 0.25], dtype=np.float32)
TEMPERATURE = 2.0


def tiny_logits(image: np.ndarray) -> np.ndarray:
    """(H, W) uint8 -> (K,): the mean grey of each of 4 x 4 blocks times a weight, summed, plus a bias."""
    blocks = image.reshape(4, 16, 4, 16).mean(axis=(1, 3))
    return blocks.sum() * WEIGHTS / 16 + BIAS


def outputs(logits: np.ndarray) -> Outputs:
    """What a run that gave these logits (N, K) gave, its evidence black."""
    return Outputs(logits.astype(np.float32), np.zeros((len(logits), 4, 4, logits.shape[1]), dtype=np.float32))


def tiny_ood(image: np.ndarray) -> float:
    """(H, W) uint8 -> what `with_ood` gives of it: the logits without their bias, summed."""
    return float((tiny_logits(image) - BIAS).sum())


def with_ood(name: str = "ood", keepdims: int = 1) -> bytes:
    """The tiny network with a further output (N, 1)."""
    model = onnx.load_from_string(tiny_model())
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "classes"))
    model.graph.node.append(helper.make_node("ReduceSum", ["sums", "classes"], [name], keepdims=keepdims))
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1] if keepdims else ["N"]))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def tiny_model(bias: np.ndarray = BIAS) -> bytes:
    """uint8 (N, 64, 64, 1) -> logits (N, 3), evidence (N, 4, 4, 3)."""
    constants = {
        "nchw": np.array([-1, 1, SIZE, SIZE], dtype=np.int64),
        "kernel": (WEIGHTS / 16).reshape(3, 1, 1, 1),
        "axes": np.array([1, 2], dtype=np.int64),
        "bias": bias,
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["float", "nchw"], ["plane"]),
        helper.make_node("AveragePool", ["plane"], ["pooled"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Conv", ["pooled", "kernel"], ["maps"]),
        helper.make_node("Transpose", ["maps"], ["evidence"], perm=[0, 2, 3, 1]),
        helper.make_node("ReduceSum", ["evidence", "axes"], ["sums"], keepdims=0),
        helper.make_node("Add", ["sums", "bias"], ["logits"]),
    ]
    return _serialised("tiny", nodes, constants)


def _serialised(name: str, nodes: list[Any], constants: dict[str, Any]) -> bytes:
    """The model of these nodes, with a deploy graph's input and outputs."""
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 1])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3]),
            helper.make_tensor_value_info("evidence", TensorProto.FLOAT, ["N", 4, 4, 3]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def golden_inputs() -> np.ndarray:
    """(8, 64, 64, 1) uint8 noise of differing brightness."""
    rng = np.random.default_rng(7)
    return np.stack([rng.integers(0, 32 * (i + 1), (SIZE, SIZE, 1)).astype(np.uint8) for i in range(8)])


def abstention(threshold: float) -> dict[str, Any]:
    """The field of a manifest: in fp32 and int8 on ONNX Runtime, `threshold`."""
    rows = [
        {"artifact": f"model.{p}.onnx", "engine": "onnxruntime", "precision": p, "threshold": threshold}
        for p in ("fp32", "int8")
    ]
    return {"kept": 0.995, "split": "dev", "pictures": 400, "thresholds": rows}


def write_bundle(folder: Path, model: bytes | None = None, *, abstain_at: float | None = None, **changes: Any) -> Path:
    """Write the tiny bundle, or one of another `model`; `changes` replace fields of its manifest before its digest.

    With `abstain_at` it is of `with_ood`'s network, and abstains from there on.
    """
    if abstain_at is not None:
        model, changes = model or with_ood(), {"abstention": abstention(abstain_at), **changes}
    inputs = golden_inputs()
    stored = io.BytesIO()
    np.save(stored, inputs)
    logits = [tiny_logits(image[:, :, 0]).tolist() for image in inputs]
    expected: list[dict[str, Any]] = [
        {"artifact": f"model.{p}.onnx", "engine": "onnxruntime", "logits": logits, "tolerance": 1e-3}
        for p in ("fp32", "int8")
    ]
    if abstain_at is not None:
        ood = [[tiny_ood(image[:, :, 0])] for image in inputs]
        expected = [{**row, "ood": ood, "ood_tolerance": 1e-3} for row in expected]
    contents = {
        "model.fp32.onnx": model or tiny_model(),
        "model.int8.onnx": model or tiny_model(),  # stands in for one: the runtime doesn't look inside
        "golden/inputs.npy": stored.getvalue(),
        "golden/expected.json": json.dumps(expected).encode(),
        "MODEL_CARD.md": b"# Tiny\n",
    }
    listed = {}
    for file, data in contents.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)
        listed[file] = {"file": file, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "name": "tiny",
        "version": "1",
        "labels": list(LABELS),
        "preprocessing": CONTRACT.to_json(),
        "temperature": TEMPERATURE,
        "abstention": None,
        "operating_points": [],
        "artifacts": [
            {**listed.pop(f"model.{p}.onnx"), "format": "onnx", "precision": p, "preferred": p == "int8", "opset": 17}
            for p in ("fp32", "int8")
        ],
        "files": list(listed.values()),
        "provenance": {},
    }
    manifest.update(changes)
    manifest["digest"] = manifest_digest(manifest)
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder


def deep_model(seed: int = 3) -> bytes:
    """As `tiny_model`, of the kinds of layers that an Xception has, with random weights: its last bits depend on which
    kernels an engine takes, as those of a whole network do."""
    rng = np.random.default_rng(seed)
    constants: dict[str, np.ndarray] = {"nchw": np.array([-1, 1, SIZE, SIZE], dtype=np.int64)}
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["float", "nchw"], ["x0"]),
    ]
    channels = [1, 32, 64, 128, 256]
    for i, (before, after) in enumerate(itertools.pairwise(channels)):
        groups = before if i else 1
        width = before if i else after
        scale = 1 / 255 if i == 0 else 1.0
        spread = np.sqrt(2 / 9) if i else np.sqrt(2 / 9) * scale
        constants[f"d{i}"] = rng.normal(0, spread, (width, 1, 3, 3)).astype(np.float32)
        constants[f"p{i}"] = rng.normal(0, np.sqrt(2 / width), (after, width, 1, 1)).astype(np.float32)
        nodes += [
            helper.make_node(
                "Conv", [f"x{i}", f"d{i}"], [f"c{i}"], kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2], group=groups
            ),
            helper.make_node("Conv", [f"c{i}", f"p{i}"], [f"b{i}"]),
            helper.make_node("Relu", [f"b{i}"], [f"x{i + 1}"]),
        ]
    constants |= {
        "head": rng.normal(0, np.sqrt(2 / channels[-1]), (3, channels[-1], 1, 1)).astype(np.float32),
        "axes": np.array([1, 2], dtype=np.int64),
        "bias": BIAS,
    }
    nodes += [
        helper.make_node("Conv", [f"x{len(channels) - 1}", "head"], ["maps"]),
        helper.make_node("Transpose", ["maps"], ["evidence"], perm=[0, 2, 3, 1]),
        helper.make_node("ReduceSum", ["evidence", "axes"], ["sums"], keepdims=0),
        helper.make_node("Add", ["sums", "bias"], ["logits"]),
    ]
    return _serialised("deep", nodes, constants)
