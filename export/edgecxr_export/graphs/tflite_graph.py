"""A TFLite file whose bytes depend on the network alone, and what its tensors and operators are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
from tensorflow.lite.python import schema_py_generated as schema

from edgecxr import engines
from edgecxr.bundle import METADATA_PREFIX
from edgecxr.errors import GateError

INPUT = "image"
IDENTIFIER = b"TFL3"
ALIGNMENT = 16  # bytes; the schema's `force_align` of a buffer's data, which the Python code made from it leaves out
RUNTIME_VERSION = "min_runtime_version"  # the one metadata of the converter that says something to a runtime

_OPERATORS: dict[int, str] = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)
}
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


@dataclass(frozen=True)
class Census:
    """What a file is made of. The head is every operator that `head` names."""

    operators: Mapping[str, int]  # how many of each kind
    not_built_in: tuple[str, ...]  # custom and flex operators
    int8_weights: float  # share of the convolution weights before the head that are int8, 0 to 1
    int8_activations: float  # share of the tensors that operators before the head write that are int8, 0 to 1
    float_head: bool  # whether all weights and activations of the head are float32


def parse(data: bytes) -> Any:
    """The file as a schema.ModelT of one subgraph; raises GateError where it holds several."""
    model = schema.ModelT.InitFromPackedBuf(bytearray(data))
    if len(model.subgraphs) != 1:
        raise GateError(f"the TFLite file was expected to hold one graph, got {len(model.subgraphs)}")
    return model


def kind(model: Any, operator: Any) -> str:
    """An operator's name in the schema: CONV_2D; CUSTOM for those that aren't built in."""
    code = model.operatorCodes[operator.opcodeIndex]
    # Codes below 127 stand in the older field too, and older files have only that.
    return _OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)]


def constant(model: Any, tensor: Any) -> npt.NDArray[np.uint8] | None:
    """A tensor's stored bytes, None where it is computed."""
    data = model.buffers[tensor.buffer].data
    return None if data is None or len(data) == 0 else data


def quantization(tensor: Any) -> tuple[list[float], list[int]]:
    """(scales, zero points) of a tensor; empty where it isn't quantized."""
    found = tensor.quantization
    if found is None or found.scale is None:
        return [], []
    return [float(scale) for scale in found.scale], [int(point) for point in found.zeroPoint]


def head(model: Any) -> list[int]:
    """Places of the operators that lead to no rectifier: the linear head, `ood`, and the steps from int8 to them."""
    operators = model.subgraphs[0].operators
    rectifiers = [
        place
        for place, operator in enumerate(operators)
        if kind(model, operator) == "RELU"
        or getattr(operator.builtinOptions, "fusedActivationFunction", 0) == schema.ActivationFunctionType.RELU
    ]
    if not rectifiers:
        raise GateError("the TFLite file was expected to hold rectifiers, got none")
    maker = {int(index): place for place, operator in enumerate(operators) for index in operator.outputs}
    leading: set[int] = set()
    waiting = rectifiers
    while waiting:
        place = waiting.pop()
        if place not in leading:
            leading.add(place)
            waiting += [maker[int(index)] for index in operators[place].inputs if int(index) in maker]
    return [place for place in range(len(operators)) if place not in leading]


def census(model: Any) -> Census:
    graph = model.subgraphs[0]
    behind = set(head(model))
    kinds = [kind(model, operator) for operator in graph.operators]
    codes = [model.operatorCodes[operator.opcodeIndex] for operator in graph.operators]
    foreign = {_text(code.customCode) or name for code, name in zip(codes, kinds, strict=True) if name == "CUSTOM"}
    weights: Counter[int] = Counter()
    written: Counter[int] = Counter()
    float_head = True
    for place, operator in enumerate(graph.operators):
        outputs = [graph.tensors[index] for index in operator.outputs]
        inputs = [graph.tensors[index] for index in operator.inputs if index >= 0]
        if place in behind:
            # What isn't a number of the network is an int32: axes and shapes.
            read = [] if kinds[place] == "DEQUANTIZE" else inputs
            allowed = (schema.TensorType.FLOAT32, schema.TensorType.INT32)
            float_head = float_head and all(tensor.type in allowed for tensor in [*read, *outputs])
            continue
        written.update(tensor.type for tensor in outputs)
        if kinds[place] in CONVOLUTIONS:
            weights[inputs[1].type] += int(np.prod(inputs[1].shape))
    int8 = schema.TensorType.INT8
    return Census(
        operators=dict(sorted(Counter(kinds).items())),
        not_built_in=tuple(sorted(foreign)),
        int8_weights=weights[int8] / weights.total(),
        int8_activations=written[int8] / written.total(),
        float_head=float_head,
    )


def canonical(model: Any) -> Any:
    """The same graph with operators, tensors and buffers named and ordered by the graph's own structure.

    The converter's names and order, and its metadata, may be others in the next process. Here operators come in the
    order in which a walk back from the outputs meets them, and tensors in the order in which those use them. The one
    signature has an input `image` and outputs `logits`, `evidence` and perhaps `ood`, and so are the tensors called.
    Raises GateError where the converter didn't name them so.
    """
    old = model.subgraphs[0]
    signature = model.signatureDefs[0]
    named = {_text(entry.name): entry.tensorIndex for entry in [*signature.inputs, *signature.outputs]}
    outputs = [name for name in engines.OUTPUTS if name in named]
    if set(named) != {INPUT, *outputs} or not engines.known_outputs(outputs):
        wanted = ", ".join(engines.OUTPUTS[:2])
        raise GateError(f"the TFLite file was expected to have {INPUT}, {wanted} and perhaps ood, got {sorted(named)}")
    tensors: list[Any] = []
    buffers = [schema.BufferT()]  # by convention the first is empty, and stands for what is computed
    place_of: dict[int, int] = {-1: -1}  # -1 stands for an optional input left out
    buffer_of: dict[int, int] = {}

    def take(index: int, name: str) -> int:
        if index not in place_of:
            place_of[index] = len(tensors)
            tensor = old.tensors[index]
            tensor.name = next((given for given, place in named.items() if place == index), name)
            data = constant(model, tensor)
            if data is None:
                tensor.buffer = 0
            else:
                if tensor.buffer not in buffer_of:
                    buffer_of[tensor.buffer] = len(buffers)
                    buffers.append(_aligned(data))
                tensor.buffer = buffer_of[tensor.buffer]
            tensors.append(tensor)
        return place_of[index]

    take(named[INPUT], INPUT)
    codes: list[Any] = []
    operators = list(_walk(old, [named[name] for name in outputs]))
    for place, operator in enumerate(operators):
        stem = f"{kind(model, operator).lower()}_{place:03d}"
        operator.inputs = [take(int(index), f"{stem}.in{i}") for i, index in enumerate(operator.inputs)]
        operator.outputs = [take(int(index), f"{stem}.out{i}") for i, index in enumerate(operator.outputs)]
        code = model.operatorCodes[operator.opcodeIndex]
        if code not in codes:
            codes.append(code)
    for operator in operators:
        operator.opcodeIndex = codes.index(model.operatorCodes[operator.opcodeIndex])
    graph = schema.SubGraphT(
        tensors=tensors,
        inputs=[place_of[named[INPUT]]],
        outputs=[place_of[named[name]] for name in outputs],
        operators=operators,
        name="main",
    )
    new = schema.ModelT(
        version=model.version,
        operatorCodes=codes,
        subgraphs=[graph],
        description="edgecxr",
        buffers=buffers,
        metadata=[],
        signatureDefs=[
            schema.SignatureDefT(
                inputs=[schema.TensorMapT(INPUT, graph.inputs[0])],
                outputs=[schema.TensorMapT(name, place) for name, place in zip(outputs, graph.outputs, strict=True)],
                signatureKey="serving_default",
                subgraphIndex=0,
            )
        ],
    )
    for entry in model.metadata or []:
        if _text(entry.name) == RUNTIME_VERSION:
            _add_metadata(new, RUNTIME_VERSION, bytes(model.buffers[entry.buffer].data))
    return new


def take_uint8(model: Any) -> Any:
    """Make the input of a model the uint8 picture itself, with scale 1 and zero point 0.

    The converter's float32 input (grey levels 0..255) either goes through one QUANTIZE, which then goes from uint8 to
    int8 and adds the two zero points' difference, or is cast. Raises GateError where QUANTIZE has another scale.
    """
    graph = model.subgraphs[0]
    image = graph.tensors[graph.inputs[0]]
    readers = [operator for operator in graph.operators if graph.inputs[0] in operator.inputs]
    kinds = [kind(model, operator) for operator in readers]
    if kinds == ["QUANTIZE"]:
        found = quantization(graph.tensors[readers[0].outputs[0]])
        if found != ([1.0], [-128]):  # int8's -128 is grey level 0
            raise GateError(
                "the picture's own grey levels must be the quantized input (scale 1, zero point -128 in int8), got "
                f"scale {found[0]}, zero point {found[1]}"
            )
    else:
        _cast_input(model)
    image.type = schema.TensorType.UINT8
    image.quantization = schema.QuantizationParametersT(scale=[1.0], zeroPoint=[0])
    return model


def _cast_input(model: Any) -> None:
    """Put a CAST between a model's input and whatever reads it."""
    graph = model.subgraphs[0]
    image = graph.tensors[graph.inputs[0]]
    grey = schema.TensorT(
        shape=image.shape, shapeSignature=image.shapeSignature, type=image.type, name="cast.out0", buffer=0
    )
    for operator in graph.operators:
        operator.inputs = [len(graph.tensors) if index == graph.inputs[0] else index for index in operator.inputs]
    graph.tensors.append(grey)
    cast = schema.BuiltinOperator.CAST
    model.operatorCodes.append(schema.OperatorCodeT(deprecatedBuiltinCode=cast, builtinCode=cast, version=1))
    graph.operators.insert(
        0,
        schema.OperatorT(
            opcodeIndex=len(model.operatorCodes) - 1,
            inputs=[graph.inputs[0]],
            outputs=[len(graph.tensors) - 1],
            builtinOptionsType=schema.BuiltinOptions.CastOptions,
            builtinOptions=schema.CastOptionsT(
                inDataType=schema.TensorType.UINT8, outDataType=schema.TensorType.FLOAT32
            ),
        ),
    )


def serialise(model: Any, metadata: Mapping[str, str]) -> bytes:
    """The bytes of a canonical model, with `metadata` (values JSON) under names that start with `edgecxr.`."""
    model.metadata = [entry for entry in model.metadata if not _text(entry.name).startswith(METADATA_PREFIX)]
    kept = [*model.subgraphs[0].tensors, *model.metadata]
    del model.buffers[1 + max(entry.buffer for entry in kept) :]  # an earlier call's
    for key in sorted(metadata):
        _add_metadata(model, METADATA_PREFIX + key, metadata[key].encode())
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def read_metadata(data: bytes) -> dict[str, str]:
    """What `serialise` was given, of a file that it wrote."""
    model = parse(data)
    return {
        _text(entry.name).removeprefix(METADATA_PREFIX): bytes(model.buffers[entry.buffer].data).decode()
        for entry in model.metadata or []
        if _text(entry.name).startswith(METADATA_PREFIX)
    }


def bias(model: Any) -> npt.NDArray[np.float32]:
    """The head's bias (K,): a view of the model's own numbers.

    Raises GateError where the logits aren't the evidence's sum plus a constant.
    """
    graph = model.subgraphs[0]
    last = next(operator for operator in graph.operators if graph.outputs[0] in list(operator.outputs))
    constants = [graph.tensors[index] for index in last.inputs if constant(model, graph.tensors[index]) is not None]
    if kind(model, last) != "ADD" or len(constants) != 1 or constants[0].type != schema.TensorType.FLOAT32:
        raise GateError(f"the TFLite file was expected to end by adding a bias to the logits, got {kind(model, last)}")
    data: npt.NDArray[np.uint8] = model.buffers[constants[0].buffer].data
    return data.view(np.float32)


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]  # tensorflow brings no types
    """A buffer whose data begins where the schema asks for it."""

    def Pack(self, builder: Any) -> Any:  # noqa: N802  the schema's name
        data = self.data.tobytes()
        builder.StartVector(1, len(data), ALIGNMENT)
        builder.head -= len(data)
        builder.Bytes[builder.head : builder.head + len(data)] = data
        packed = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, packed)
        return schema.BufferEnd(builder)


def _aligned(data: npt.NDArray[np.uint8]) -> Any:
    return _AlignedBuffer(data=np.array(data, dtype=np.uint8))


def store(model: Any, tensor: Any, value: npt.NDArray[np.float32]) -> None:
    """Give a constant other numbers, in a buffer of its own: several may share the old one."""
    tensor.buffer = len(model.buffers)
    model.buffers.append(_aligned(np.frombuffer(np.ascontiguousarray(value).tobytes(), dtype=np.uint8)))


def aligned(model: Any) -> Any:
    """The same parsed model without unused buffers and each of the rest where the schema asks for it."""
    kept = [*model.subgraphs[0].tensors, *(model.metadata or [])]
    used = sorted({0, *(entry.buffer for entry in kept)})
    place = {old: new for new, old in enumerate(used)}
    for entry in kept:
        entry.buffer = place[entry.buffer]
    model.buffers = [
        schema.BufferT() if (data := model.buffers[old].data) is None or len(data) == 0 else _aligned(data)
        for old in used
    ]
    model.metadata = model.metadata or []
    return model


def _add_metadata(model: Any, name: str, value: bytes) -> None:
    model.metadata.append(schema.MetadataT(name=name, buffer=len(model.buffers)))
    model.buffers.append(_aligned(np.frombuffer(value, dtype=np.uint8)))


def _walk(graph: Any, outputs: list[int]) -> Iterator[Any]:
    """Operators in an order that serves each before its readers and depends on the wiring only."""
    maker = {int(index): operator for operator in graph.operators for index in operator.outputs}
    done: set[int] = set()
    stack = [maker[index] for index in reversed(outputs)]
    while stack:
        operator = stack[-1]
        makers = [maker[int(index)] for index in operator.inputs if int(index) in maker]
        waiting = [made_by for made_by in makers if id(made_by) not in done]
        if waiting:
            stack.extend(reversed(waiting))
            continue
        stack.pop()
        if id(operator) not in done:
            done.add(id(operator))
            yield operator


def _text(value: Any) -> str:
    """A name as text: bytes in what was read, text in what was made, None where there is none."""
    return value.decode() if isinstance(value, bytes) else str(value or "")
