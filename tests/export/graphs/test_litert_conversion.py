"""TFLite files: the trained model's answers, int8 where they say so, and the same bytes in every process."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tensorflow.lite.python import schema_py_generated as schema

import tiny
from edgecxr.bundle import load, manifest_digest
from edgecxr.bundle import network as modelfile
from edgecxr.device.verify import verify
from edgecxr.engines.litert import LiteRtEngine
from edgecxr.engines.select import Asked
from edgecxr.errors import GateError, UsageError
from edgecxr_export.graphs import onnx_graph, tflite_graph
from edgecxr_export.graphs import tflite as litert
from edgecxr_export.graphs.deploy import EvidenceHead, deploy_model
from export.conftest import CONVOLUTIONS, SUMS, Network

pytestmark = pytest.mark.lab
# 6 ordinary convolutions; of each separable one a depthwise and a pointwise. No batch norm and no scaling is left.
SEPARABLE = (CONVOLUTIONS - 6) // 2
BACKBONE = {
    "CAST": 1,
    "CONV_2D": 6 + SEPARABLE,
    "DEPTHWISE_CONV_2D": SEPARABLE,
    "MAX_POOL_2D": 4,
    "SUM": 1,
    "RELU": SUMS - 1,
    "ADD": SUMS + 1,  # others are part of their convolution; one sum is the head's
}
METADATA = {"labels": '["covid", "normal"]', "temperature": "0.5"}


def small_model(dtype: str = "float32") -> Any:
    """Two convolutions and a pooled head on the tiny bundle's 64 px, built as a deploy model is."""
    rng = np.random.default_rng(3)
    image = keras.Input((tiny.SIZE, tiny.SIZE, 1), name="image", dtype=dtype)
    tensor = keras.ops.cast(image, "float32") if dtype != "float32" else image
    for filters, stride in ((8, 4), (16, 4)):
        conv = keras.layers.Conv2D(filters, 3, stride, padding="same", activation="relu")
        tensor = conv(tensor)
        kernel, _ = conv.get_weights()
        scale = 0.02 if filters == 8 else 0.3
        conv.set_weights([rng.normal(0, scale, kernel.shape), rng.normal(0, 0.2, filters)])
    weights = rng.normal(0, 0.3, (1, 1, 16, 3)).astype(np.float32) / 16
    logits, evidence = EvidenceHead(weights, np.array([0.1, -0.2, 0.3], dtype=np.float32))(tensor)
    return keras.Model(image, {"logits": logits, "evidence": evidence})


def with_ends(pictures: np.ndarray) -> np.ndarray:
    """The pictures, a black and a white one."""
    return np.concatenate([pictures, np.zeros_like(pictures[:1]), np.full_like(pictures[:1], 255)])


def small_pictures(seed: int = 0, count: int = 12) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (count, tiny.SIZE, tiny.SIZE, 1)) * rng.uniform(0.2, 1, (count, 1, 1, 1))
    return noise.astype(np.uint8)


@pytest.fixture(scope="module")
def small() -> dict[str, bytes]:
    """The small model in each precision."""
    return {
        "fp32": litert.convert(small_model(), METADATA),
        "int8": litert.quantize(small_model(), with_ends(small_pictures(1)), METADATA),
    }


def changed(data: bytes, change: Any) -> bytes:
    """The file with `change` applied to its one graph."""
    model = tflite_graph.parse(data)
    change(model, model.subgraphs[0])
    return tflite_graph.serialise(model, {})


# The pooled head's file is the export stage's own, in test_stage.py.
@pytest.mark.slow
@pytest.mark.parametrize("network", ["flatten-dense16"], indirect=True)
def test_fp32_gives_keras_s_answers(network: Network) -> None:
    data = litert.convert(deploy_model(network.reference, network.recipe, "float32"))
    engine = LiteRtEngine(data, "cpu", "fp32", 2)
    spread = np.ptp(network.logits, axis=0).max()
    assert np.abs(engine.run(network.inputs).logits - network.logits).max() < 1e-4 * spread
    expected = network.deploy(network.inputs, training=False)["evidence"].numpy()
    assert np.abs(engine.run(network.inputs).evidence - expected).max() < 1e-4 * spread
    found = litert.check(data, "fp32")
    assert found.operators == {**BACKBONE, "BATCH_MATMUL": 1, "RESHAPE": 2}


def test_int8_is_int8_but_for_its_head(network: Network, calibrated: litert.Calibrated) -> None:
    data = litert.serialise_int8(calibrated)
    found = litert.check(data, "int8")
    assert (found.int8_weights, found.int8_activations, found.float_head) == (1.0, 1.0, True)
    # Into the graph; into its head and into ood.
    assert (found.operators["QUANTIZE"], found.operators["DEQUANTIZE"]) == (1, 2)
    assert len(data) < 12_300_000
    engine = LiteRtEngine(data, "cpu", "int8", 2)
    logits = engine.run(network.inputs).logits
    # Random weights pass rounding on as trained ones don't: 0.90 and 0.85 here, about 0 for a graph that is miswired.
    ours, theirs = (a - a.mean(axis=0) for a in (logits, network.logits))
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.7
    bias = tflite_graph.bias(tflite_graph.parse(data))
    assert np.abs(engine.run(network.inputs).evidence.sum(axis=(1, 2)) + bias - logits).max() < 1e-5
    # Bias correction: over the calibration pictures, the mean logits are those of the float model.
    means = engine.run(calibrated.pictures).logits.mean(axis=0)
    assert np.abs(means - calibrated.mean_logits).max() < 1e-4
    reference = np.asarray(network.reference(calibrated.pictures.astype(np.float32), training=False)).mean(axis=0)
    assert np.abs(calibrated.mean_logits - reference).max() < 1e-4
    assert len(calibrated.pictures) == 16  # black and white have no part in it


@pytest.mark.parametrize("network", ["pooled"], indirect=True)  # it isn't the head's
def test_a_convolution_can_be_left_in_float(network: Network, calibrated: litert.Calibrated) -> None:
    first, second = list(calibrated.convolutions)[:2]
    assert len(calibrated.convolutions) == CONVOLUTIONS
    found = litert.check(litert.serialise_int8(calibrated, keep_float=[first, second]), "int8")
    assert 0.99 < found.int8_weights < 1.0
    data = litert.serialise_int8(calibrated, keep_float=[first])
    graph = tflite_graph.parse(data)
    convs = [o for o in graph.subgraphs[0].operators if tflite_graph.kind(graph, o) == "CONV_2D"]
    types = [graph.subgraphs[0].tensors[conv.inputs[1]].type for conv in convs[:2]]
    assert types == [schema.TensorType.FLOAT32, schema.TensorType.INT8]
    assert tflite_graph.census(graph).operators["CAST"] == 1  # the picture is cast for it
    assert np.isfinite(LiteRtEngine(data, "cpu", "int8", 2).run(network.inputs).logits).all()
    with pytest.raises(GateError, match=r"at least 90% of an int8 file's weights and activations must be int8, got "):
        litert.serialise_int8(calibrated, keep_float=list(calibrated.convolutions)[:40])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_picture_goes_in_as_it_is_in_any_number(small: dict[str, bytes], precision: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=small[precision])
    (image,) = interpreter.get_input_details()
    assert (image["name"], image["dtype"], image["quantization"]) == ("image", np.uint8, (1.0, 0))
    assert list(image["shape_signature"]) == [-1, tiny.SIZE, tiny.SIZE, 1]
    outputs = interpreter.get_output_details()
    assert [(o["name"], o["dtype"]) for o in outputs] == [("logits", np.float32), ("evidence", np.float32)]
    signature = interpreter.get_signature_list()
    assert signature == {"serving_default": {"inputs": ["image"], "outputs": ["evidence", "logits"]}}

    pictures = small_pictures(4, 5)
    expected = np.asarray(small_model()(pictures.astype(np.float32), training=False)["logits"])
    engine = LiteRtEngine(small[precision], "cpu", precision, 1)
    for count in (1, 5, 2):
        tolerance = {"fp32": 1e-5, "int8": 0.05 * np.ptp(expected)}[precision]
        assert np.abs(engine.run(pictures[:count]).logits - expected[:count]).max() < tolerance
    assert np.ptp(expected, axis=0).max() > 0.05  # pictures do differ to this model


def test_metadata_and_layout(small: dict[str, bytes]) -> None:
    for data in small.values():
        modelfile.check(data, "tflite")
        assert tflite_graph.read_metadata(data) == METADATA
        again = tflite_graph.parse(data)
        assert tflite_graph.serialise(tflite_graph.canonical(again), METADATA) == data  # nothing left to canonicalise
        model = schema.Model.GetRootAs(data)
        stored = [model.Buffers(i) for i in range(model.BuffersLength()) if not model.Buffers(i).DataIsNone()]
        # Where the flatbuffer schema says `force_align: 16`, kernels may rely on it.
        assert {(b._tab.Vector(b._tab.Offset(4))) % tflite_graph.ALIGNMENT for b in stored} == {0}


SCRIPT = """
import hashlib, keras
for _ in range({shift}):
    keras.layers.Conv2D(2, 3), keras.layers.Add()  # so that names which Keras numbers are others
from export.graphs import test_litert_conversion as t
from edgecxr_export.graphs import onnx_graph, tflite as litert
data = [litert.convert(t.small_model(), t.METADATA),
        litert.quantize(t.small_model(), t.with_ends(t.small_pictures(1)), t.METADATA),
        onnx_graph.serialise(onnx_graph.convert(t.small_model("uint8"), 17), t.METADATA)]
print("hashes", *(hashlib.sha256(d).hexdigest() for d in data))
"""


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(small: dict[str, bytes]) -> None:
    """TFLite and ONNX; test_stage.py has whole networks. tf2onnx by itself numbers names in its own way each time."""
    graph = onnx_graph.convert(small_model("uint8"), 17)
    files = [small["fp32"], small["int8"], onnx_graph.serialise(graph, METADATA)]
    ours = [hashlib.sha256(data).hexdigest() for data in files]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(shift=5)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "17", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout.splitlines()[-1] == " ".join(["hashes", *ours])


def test_the_converters_say_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    litert.quantize(small_model(), with_ends(small_pictures(1)))
    out, err = capfd.readouterr()
    assert out == ""
    assert [line for line in err.splitlines() if "XNNPACK" not in line] == []  # LiteRT's own, once a process


def test_the_runtime_runs_verifies_and_scores_them(small: dict[str, bytes], tmp_path: Path, edgecxr: Any) -> None:
    folder = tiny.write_bundle(tmp_path / "tflite.edgecxr")
    manifest = json.loads((folder / "bundle.json").read_text())
    rows, manifest["artifacts"] = [], []
    for precision, data in small.items():
        file = f"model.{precision}.tflite"
        (folder / file).write_bytes(data)
        logits = LiteRtEngine(data, "cpu", precision, 1).run(tiny.golden_inputs()).logits
        rows.append({"artifact": file, "engine": "litert", "logits": logits.tolist(), "tolerance": 1e-3})
        manifest["artifacts"].append(
            {"file": file, **hashed(data), "format": "tflite", "precision": precision, "preferred": False}
        )
    golden = json.dumps(rows).encode()
    (folder / "golden/expected.json").write_bytes(golden)
    next(row for row in manifest["files"] if row["file"] == "golden/expected.json").update(hashed(golden))
    manifest["digest"] = manifest_digest(manifest)
    (folder / "bundle.json").write_text(json.dumps(manifest))

    result = verify(load(folder), Asked(engine="litert"))
    assert result.passed
    assert [(check.artifact, check.engine) for check in result.golden] == [
        ("model.fp32.tflite", "litert"),
        ("model.int8.tflite", "litert"),
    ]
    picture = Path(__file__).parents[3] / "samples/phantom-1.png"
    done = edgecxr("infer", picture, "-m", folder, "--engine", "litert", "-o", "-", "--quiet")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["status"], record["engine"], record["precision"]) == ("scored", "litert", "int8")


def hashed(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def test_a_calibration_without_black_and_white_is_refused() -> None:
    grey = np.clip(small_pictures(9), 30, 200)
    with pytest.raises(GateError, match=r"own grey levels must be the quantized input .*, got scale \[0\.\d+\]"):
        litert.quantize(small_model(), grey)


def test_another_input_is_refused() -> None:
    for call in (litert.convert, lambda model: litert.quantize(model, small_pictures())):
        with pytest.raises(UsageError, match="input must be float32 for TFLite, got uint8"):
            call(small_model("uint8"))
    with pytest.raises(UsageError, match=r"must be uint8 \(N, 64, 64, 1\), got uint8 \(12, 64, 64\)"):
        litert.quantize(small_model(), small_pictures()[..., 0])


def quantized_image(scale: float, zero_point: int) -> Any:
    def change(model: Any, graph: Any) -> None:
        graph.tensors[0].quantization = schema.QuantizationParametersT(scale=[scale], zeroPoint=[zero_point])

    return change


def custom_operator(model: Any, graph: Any) -> None:
    code = schema.OperatorCodeT(builtinCode=schema.BuiltinOperator.CUSTOM, customCode="FlexErf")
    code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    model.operatorCodes.append(code)
    graph.operators[-1].opcodeIndex = len(model.operatorCodes) - 1


def int8_output(model: Any, graph: Any) -> None:
    graph.tensors[graph.outputs[0]].type = schema.TensorType.INT8


def fixed_batch(model: Any, graph: Any) -> None:
    graph.tensors[graph.outputs[1]].shapeSignature = None


@pytest.mark.parametrize(
    ("precision", "change", "message"),
    [
        ("int8", quantized_image(0.886, 0), r"got type 3, scale \[0\.88\d+\], zero point \[0\]"),
        ("int8", quantized_image(1.0, 1), r"scale \[1\.0\], zero point \[1\]"),
        ("fp32", custom_operator, "built-in operators only, got FlexErf"),
        ("int8", int8_output, "head and outputs must be float32"),
        ("fp32", fixed_batch, "batch size must be free, got a fixed one in evidence"),
    ],
)
def test_a_file_that_breaks_its_promise_is_refused(
    small: dict[str, bytes], precision: str, change: Any, message: str
) -> None:
    litert.check(small[precision], precision)
    with pytest.raises(GateError, match=message):
        litert.check(changed(small[precision], change), precision)


def test_a_precision_is_what_a_file_holds(small: dict[str, bytes]) -> None:
    with pytest.raises(GateError, match=r"at least 90% .* got 0\.0% and 0\.0%"):
        litert.check(small["fp32"], "int8")
    with pytest.raises(GateError, match="in fp32 must hold nothing in int8, got 100"):
        litert.check(small["int8"], "fp32")
