"""The deploy model as TFLite files: float32, and int8 throughout but for the head and `ood`.

    from edgecxr_export import litert
    model = deploy_model(reference, recipe, "float32")        # not the signature that ONNX takes
    fp32 = litert.convert(model, metadata)                    # bytes of model.fp32.tflite
    int8 = litert.quantize(model, quantize.calibration_inputs(pictures, rows), metadata)

    calibrated = litert.calibrate(model, calibration)         # the slow part of `quantize`
    calibrated.convolutions                                   # places that may stand in the next call's keep_float
    litert.serialise_int8(calibrated, keep_float=[7, 30], metadata=metadata)

`metadata` are the key-value pairs (values JSON) that the ONNX files carry too. Both files take the grey picture as it
is, uint8 with scale 1 and zero point 0, and give the deploy model's outputs in float32, for any batch size (an
interpreter's `resize_tensor_input`). Checked of every file that leaves this module: built-in operators only, that
input, those outputs, a free batch size, and of an int8 file how much of it is int8. `LiteRtEngine` (extra `litert`)
runs them, here too. The bytes are the same for the same weights and calibration pictures, in whatever process.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.lite.python import convert as tflite_convert
from tensorflow.lite.python import schema_py_generated as schema

from edgecxr.engines.litert import LiteRtEngine
from edgecxr.errors import GateError, UsageError
from edgecxr.system.machine import cpus
from edgecxr_export.graphs import tflite_graph
from edgecxr_export.graphs.tflite_graph import CONVOLUTIONS, INPUT, Census

BATCH = 8  # pictures the bias correction takes at a time
# Least share of an int8 file's convolution weights, and of the tensors between its operators, that are int8 (the head
# aside). All are, until a sensitive convolution is left in float32.
MIN_INT8 = 0.9


@dataclass(frozen=True)
class Calibrated:
    """A float network with the range of each activation, ready to be quantized in several ways."""

    model: bytes  # TFLite, float32
    head: tuple[str, ...]  # names in it of what the head's operators write
    convolutions: Mapping[int, str]  # place among its operators -> name of what it writes
    pictures: npt.NDArray[np.uint8]  # (M, H, W, 1) of those it was calibrated on, those that show something
    mean_logits: npt.NDArray[np.float64]  # (K,) of the float model over them


def convert(model: Any, metadata: Mapping[str, str] | None = None) -> bytes:
    """The deploy model with a float32 input (Keras) as a TFLite file in float32.

    Raises UsageError for a model of another input, GateError where the file isn't what this module promises.
    """
    _check_input(model)
    with _saved(model) as folder, _quiet():
        data = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    graph = tflite_graph.canonical(tflite_graph.take_uint8(tflite_graph.parse(data)))
    data = tflite_graph.serialise(graph, metadata or {})
    check(data, "fp32")
    return data


def quantize(model: Any, calibration: npt.NDArray[np.uint8], metadata: Mapping[str, str] | None = None) -> bytes:
    """The deploy model with a float32 input (Keras) as an int8 TFLite file; see `calibrate` and `serialise_int8`."""
    return serialise_int8(calibrate(model, calibration), metadata=metadata)


def calibrate(
    model: Any, calibration: npt.NDArray[np.uint8], observed: npt.NDArray[np.uint8] | None = None
) -> Calibrated:
    """Least and greatest value of each activation of `model` (Keras, float32 input) over `calibration` (N, H, W, 1).

    A black and a white picture must be among them (see `quantize.calibration_inputs`). `observed` are the pictures that
    the converter is shown in their place, at a second each, where `transfer.moved` replaces its ranges.
    """
    _check_input(model)
    if calibration.dtype != np.uint8 or calibration.shape[1:] != tuple(model.input.shape[1:]):
        raise UsageError(
            f"calibration pictures must be uint8 (N, {', '.join(map(str, model.input.shape[1:]))}), got "
            f"{calibration.dtype} {calibration.shape}"
        )
    shown = calibration if observed is None else observed
    with _saved(model) as folder, _quiet():
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([picture[None].astype(np.float32)] for picture in shown)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        # The converter quantizes everything or nothing; its second half, which is told below what to leave, is the one
        # behind TensorFlow's documented "selective quantization" (tf.lite.experimental.QuantizationDebugger).
        converter._experimental_calibrate_only = True
        data = converter.convert()
    graph = tflite_graph.parse(data)
    operators, tensors = graph.subgraphs[0].operators, graph.subgraphs[0].tensors
    written = [tensors[operator.outputs[0]].name.decode() for operator in operators]
    head = tflite_graph.head(graph)
    pictures = calibration[np.ptp(calibration.reshape(len(calibration), -1), axis=1) > 0]
    # As a graph: a plain call keeps every activation of a batch, 2 GB at 299 px.
    logits = np.asarray(model.predict(pictures.astype(np.float32), batch_size=BATCH, verbose=0)["logits"])
    return Calibrated(
        model=bytes(data),
        head=tuple(written[place] for place in head),
        convolutions={
            place: written[place]
            for place in range(len(operators))
            if place not in head and tflite_graph.kind(graph, operators[place]) in CONVOLUTIONS
        },
        pictures=pictures,
        mean_logits=logits.mean(axis=0, dtype=np.float64),
    )


def serialise_int8(
    calibrated: Calibrated, *, keep_float: Collection[int] = (), metadata: Mapping[str, str] | None = None
) -> bytes:
    """The int8 TFLite file: per-channel int8 weights and int8 activations; the head, `ood`, `keep_float` in float32.

    `keep_float` are keys of `calibrated.convolutions`. The head's bias takes back what quantization does to the mean
    logits of the calibration pictures, as in the ONNX file (`edgecxr_export.quantize.correct_bias`).
    Raises GateError where the file isn't what this module promises, as after a calibration without black and white.
    """
    left = [*calibrated.head, *(calibrated.convolutions[place] for place in sorted(keep_float))]
    with _quiet():
        data = tflite_convert.mlir_quantize(calibrated.model, fully_quantize=False, denylisted_nodes=left)
    graph = tflite_graph.canonical(tflite_graph.take_uint8(tflite_graph.parse(data)))
    data = tflite_graph.serialise(graph, metadata or {})
    check(data, "int8")
    engine = LiteRtEngine(data, "cpu", "int8", cpus())
    pictures = calibrated.pictures
    logits = [engine.run(pictures[start : start + BATCH]).logits for start in range(0, len(pictures), BATCH)]
    bias = tflite_graph.bias(graph)
    bias += (calibrated.mean_logits - np.concatenate(logits).mean(axis=0, dtype=np.float64)).astype(np.float32)
    return tflite_graph.serialise(graph, metadata or {})


def check(data: bytes, precision: str) -> Census:
    """What the file is made of; raises GateError where that isn't what an artifact of `precision` promises."""
    model = tflite_graph.parse(data)
    graph = model.subgraphs[0]
    found = tflite_graph.census(model)
    if found.not_built_in:
        raise GateError(f"a TFLite file must hold built-in operators only, got {', '.join(found.not_built_in)}")
    image = graph.tensors[graph.inputs[0]]
    scale, zero_point = tflite_graph.quantization(image)
    if len(graph.inputs) != 1 or (image.type, scale, zero_point) != (schema.TensorType.UINT8, [1.0], [0]):
        raise GateError(
            "the TFLite file's input must be the picture itself (uint8, scale 1, zero point 0), got type "
            f"{image.type}, scale {scale}, zero point {zero_point}"
        )
    outputs = [graph.tensors[index] for index in graph.outputs]
    if any(tensor.type != schema.TensorType.FLOAT32 for tensor in outputs) or not found.float_head:
        raise GateError("the TFLite file's head and outputs must be float32, got others")
    for tensor in [image, *outputs]:
        if tensor.shapeSignature is None or tensor.shapeSignature[0] != -1:
            raise GateError(f"the TFLite file's batch size must be free, got a fixed one in {tensor.name.decode()}")
    shares = (found.int8_weights, found.int8_activations)
    if precision == "int8" and min(shares) < MIN_INT8:
        raise GateError(
            f"at least {MIN_INT8:.0%} of an int8 file's weights and activations must be int8, got {shares[0]:.1%} and "
            f"{shares[1]:.1%}"
        )
    if precision != "int8" and max(shares) > 0:
        raise GateError(f"a TFLite file in {precision} must hold nothing in int8, got {max(shares):.1%}")
    return found


def _check_input(model: Any) -> None:
    if model.input.dtype != "float32":
        raise UsageError(f"the deploy model's input must be float32 for TFLite, got {model.input.dtype}")


@contextmanager
def _saved(model: Any) -> Iterator[str]:
    """The folder of a SavedModel, which the converter freezes: with a bare function it leaves live variables."""
    with tempfile.TemporaryDirectory(prefix="edgecxr-") as scratch:
        folder = str(Path(scratch) / "saved")
        archive = keras.export.ExportArchive()
        archive.track(model)
        signature = [tf.TensorSpec((None, *model.input.shape[1:]), model.input.dtype, name=INPUT)]
        archive.add_endpoint("serve", lambda image: model(image, training=False), input_signature=signature)
        with _quiet():
            archive.write_out(folder, verbose=False)
        yield folder


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what TensorFlow's C++ code says about every step off the terminal, unless the step fails."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    with tempfile.TemporaryFile() as said:
        for number in (1, 2):
            os.dup2(said.fileno(), number)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(kept[1], said.read())
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, saved in zip((1, 2), kept, strict=True):
                os.dup2(saved, number)
                os.close(saved)
