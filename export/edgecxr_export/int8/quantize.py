"""The ONNX graph in int8: static, per channel, calibrated on training pictures, with the uint8 picture as it comes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry

from edgecxr.engines.ort import OnnxRuntimeEngine
from edgecxr.errors import DataError, GateError
from edgecxr.lab.dataset import Example
from edgecxr.system.machine import cpus
from edgecxr_export.graphs.onnx_graph import INPUT, bias_tensor, canonical
from edgecxr_export.int8 import symmetric
from edgecxr_export.labelled import spread_over_origins

MIN_PICTURES = 8  # below this the ranges of the activations are an accident
BATCH = 8  # pictures the calibration takes at a time
ENDS = 2  # the black and the white picture, last of the calibration inputs

# 7-bit weights, -64 to 64: 2 x 255 x 64 < 2**15, so that AVX2's vpmaddubsw, which adds two products in int16, can't
# saturate. Full range moved probabilities by up to 0.13 on such CPUs; reduced range is as fast.
LEVELS = {"reduced": 64, "full": 127}


@dataclass(frozen=True)
class Settings:
    """What every int8 graph is told, however its ranges were found. Each was measured; see the fields."""

    activations: str = "uint8"  # with int8 weights the fastest pair on x86: 18.9 ms, against 25.6 (S8S8), 64.7 (U8U8)
    weights: str = "int8, per channel"
    head: str = "float32"  # in int8 it was off by 0.56 in a logit and broke the evidence's sum by 0.5
    # Rounding shifts the logits of all pictures alike (by -0.1 to 0.1 in one trained model): the head takes it back.
    bias_correction: str = "mean logit of the calibration pictures"


# Where activations are symmetric: what TensorRT reads. It takes no 32-bit integers into DequantizeLinear, so a bias
# stays a float (microsoft/onnxruntime issue 14229). It makes one layer of a convolution and the Relu behind it, where
# nothing is rounded between the two: its guide quantizes the inputs of weighted layers, and not their outputs.
TENSORRT = {"ActivationSymmetric": True, "QuantizeBias": False, "OpTypesToExcludeOutputQuantization": ["Conv"]}


def calibration_rows(examples: Sequence[Example], count: int) -> list[int]:
    """Rows of `count` training pictures, see `spread_over_origins`; raises DataError for fewer than 8."""
    available = sum(example.split == "train" for example in examples)
    if min(available, count) < MIN_PICTURES:
        raise DataError(
            f"calibration needs {MIN_PICTURES} training pictures or more, got {min(available, count)}: the folder of "
            "pictures is too small to calibrate an int8 model"
        )
    return spread_over_origins(examples, count)


def calibration_inputs(pictures: npt.NDArray[np.uint8], rows: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Network inputs (len(rows) + 2, H, W, 1): those rows, one black and one white picture.

    Black and white make the input's range 0..255 whatever was chosen, so that its scale is 1 and its zero point 0.
    """
    chosen = pictures[np.asarray(rows)]  # (n, H, W)
    ends = np.stack([np.zeros_like(chosen[0]), np.full_like(chosen[0], 255)])
    return np.concatenate([chosen, ends])[..., None]


def quantize(
    model: Any,
    ranges: Mapping[str, tuple[float, float]],
    *,
    keep_float: Collection[str] = (),
    full_range: bool = False,
    zero_point_0: bool = False,
    correct: Callable[[Any], Any] = lambda made: made,
) -> Any:
    """The canonical fp32 `model` (onnx.ModelProto) in int8 with those ranges of its activations; canonical too.

    `correct` is given the int8 graph while its values still have the names that they have in `model`. The head stays in
    float32, and so do the nodes `keep_float` (their names). With `zero_point_0` activations are symmetric (int8, zero
    point 0), see `symmetric`. Raises GateError where the graph isn't one that takes the picture itself as its quantized
    tensor.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if zero_point_0:
        copy = symmetric.centred(copy)
    nodes = list(copy.graph.node)
    first = next(node for node in nodes if node.op_type == "Conv")
    # The picture's grey levels are the quantized tensor, whatever was calibrated on: scale 1, zero point 0.
    levels = (-symmetric.LEVELS, symmetric.LEVELS) if zero_point_0 else (0, 255)
    known = {**ranges, first.input[0]: levels}
    data = {name: (np.float32(low), np.float32(high)) for name, (low, high) in known.items()}
    quantizer = QDQQuantizer(
        copy,
        True,  # per channel
        not full_range,
        QuantType.QInt8,  # weights
        QuantType.QInt8 if zero_point_0 else QuantType.QUInt8,  # activations
        TensorsData(CalibrationMethod.MinMax, data),
        [],
        [*head_nodes(model), *keep_float],
        sorted(QDQRegistry),
        TENSORRT if zero_point_0 else {},
    )
    quantizer.quantize_model()
    made = _read_as_stored(quantizer.model.model, head_nodes(model))
    return canonical(correct(made if zero_point_0 else take_uint8(made)))


def _read_as_stored(model: Any, outside: Collection[str]) -> Any:
    """Let the nodes `outside` of the integers (their names) read an activation as it is stored, in 8 bits.

    The quantizer lets `ood` read the float sum in the middle, before it is rounded. An engine then computes that sum in
    floats, and not as it does where integers alone read it: the logits could change.
    """
    stored = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    read = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for node in model.graph.node:
        if node.name in outside:
            node.input[:] = [read[stored[name]] if name in stored else name for name in node.input]
    return model


def mean_logits(model: Any, precision: str, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Mean logits (K,) of an onnx.ModelProto over `pictures` (N, H, W, 1)."""
    engine = OnnxRuntimeEngine(model.SerializeToString(), "cpu", precision, cpus())
    logits = [engine.run(pictures[start : start + BATCH]).logits for start in range(0, len(pictures), BATCH)]
    return np.asarray(np.concatenate(logits).mean(axis=0, dtype=np.float64))


def correct_bias(quantized: Any, expected: npt.NDArray[np.float64], pictures: npt.NDArray[np.uint8]) -> Any:
    """Add to the head's bias what int8 takes from the mean logits of `pictures` (N, H, W, 1), `expected` (K,) in fp32.

    Empirical bias correction, after Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
    Correction", ICCV 2019, at the one place that stays in float32; evidence and its sum aren't touched.
    """
    tensor = bias_tensor(quantized)
    corrected = numpy_helper.to_array(tensor) + (expected - mean_logits(quantized, "int8", pictures))
    tensor.CopyFrom(numpy_helper.from_array(corrected.astype(np.float32), tensor.name))
    return quantized


def head_nodes(model: Any) -> list[str]:
    """Names of a canonical graph's nodes behind the last Relu: the linear head and `ood`, which stay in float32."""
    nodes = list(model.graph.node)
    last = max(place for place, node in enumerate(nodes) if node.op_type == "Relu")
    return [node.name for node in nodes[last + 1 :]]


def take_uint8(model: Any) -> Any:
    """Make the uint8 picture itself the quantized tensor: image -> Reshape -> DequantizeLinear, exact to the last bit.

    The quantizer leaves image -> Cast -> Reshape -> QuantizeLinear -> DequantizeLinear. With scale 1 and zero point 0
    the two of them change nothing and go. Raises GateError where the graph or the numbers are others.
    """
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    cast = _reader(graph, INPUT, "Cast")
    reshape = _reader(graph, cast.output[0], "Reshape")
    quantizer = _reader(graph, reshape.output[0], "QuantizeLinear")
    dequantizer = _reader(graph, quantizer.output[0], "DequantizeLinear")
    for node in (quantizer, dequantizer):
        scale, zero_point = (constants[name] for name in node.input[1:])
        if scale != 1 or zero_point != 0 or zero_point.dtype != np.uint8:
            raise GateError(
                "the picture's own grey levels must be the quantized input (uint8, scale 1, zero point 0), got "
                f"{zero_point.dtype}, scale {scale}, zero point {zero_point}"
            )
    reshape.input[0] = INPUT
    dequantizer.input[0] = reshape.output[0]
    graph.node.remove(cast)
    graph.node.remove(quantizer)
    return model


def _reader(graph: Any, value: str, op_type: str) -> Any:
    readers = [node for node in graph.node if value in node.input]
    if [node.op_type for node in readers] != [op_type]:
        found = ", ".join(node.op_type for node in readers) or "nothing"
        raise GateError(f"the quantized graph's input was expected to lead to one {op_type}, got {found}")
    return readers[0]
