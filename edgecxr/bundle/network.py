"""What a network's file may bring along: nothing from outside it.

ONNX may keep weights in other files, which it names by path: OpenVINO reads such a file from the working directory even
where the model itself came from memory, and no hash of the bundle covers it. The runtime doesn't import onnx, so this
walks the protobuf messages (onnx.proto of ONNX 1.21) as far as tensors can stand in them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence

from edgecxr.errors import BundleError

MAX_DEPTH = 64  # of messages in messages; protobuf itself stops at 100
MAX_FIELDS = 2_000_000  # an exported Xception has under 10,000

# Message -> field number -> the message that the field holds.
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a tensor
_METADATA = 14  # of a model
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# TensorProto.DataType -> the same in Triton's words, of what our networks take and give.
ELEMENTS = {1: "TYPE_FP32", 2: "TYPE_UINT8", 10: "TYPE_FP16"}
Tensor = tuple[str, tuple[int, ...]]  # of ELEMENTS; the dimensions behind the batch's, -1 where one is free

# Fields of a TFLite file's Model table that its converter writes: version to signature_defs. Those after them name
# buffers in other files.
TFLITE_FIELDS = 8


def check(data: bytes, kind: str) -> None:
    """Raise BundleError where a network's file is no single file of its `kind`, onnx or tflite."""
    try:
        if kind == "onnx":
            _check_onnx(data)
        else:
            _check_tflite(data)
    except (IndexError, struct.error):
        raise BundleError(f"the artifact is no whole {kind} file") from None


def _check_onnx(data: bytes) -> None:
    waiting = [("model", 0, len(data), 0)]
    fields = 0
    while waiting:
        message, position, end, depth = waiting.pop()
        while position < end:
            fields += 1
            if fields > MAX_FIELDS or depth > MAX_DEPTH:
                raise BundleError("the artifact is nested deeper, or has more parts, than a network of this kind")
            key, position = _varint(data, position)
            field, wire = (key & 0xFFFFFFFF) >> 3, key & 7
            if message == "tensor" and (field, wire) == (_EXTERNAL_DATA, _BYTES):
                raise BundleError("the artifact keeps weights in another file, which is refused")
            if wire == _VARINT:
                value, position = _varint(data, position)
                if message == "tensor" and field == _DATA_LOCATION and value:
                    raise BundleError("the artifact keeps weights in another file, which is refused")
            elif wire == _BYTES:
                length, position = _varint(data, position)
                if field in _FIELDS[message]:
                    waiting.append((_FIELDS[message][field], position, position + length, depth + 1))
                position += length
            elif wire in (_FIXED64, _FIXED32):
                position += 8 if wire == _FIXED64 else 4
            else:
                raise BundleError("the artifact is no whole onnx file")
        if position != end or end > len(data):
            raise BundleError("the artifact is no whole onnx file")


def metadata(data: bytes) -> dict[str, str]:
    """The `metadata_props` of an ONNX file that `check` let pass; raises BundleError where a key stands there twice."""
    found: dict[str, str] = {}
    for position, end in _messages(data, 0, len(data), _METADATA):
        entry = {field: data[a:b] for field in (1, 2) for a, b in _messages(data, position, end, field)}
        key, value = (entry.get(field, b"").decode("utf-8", "replace") for field in (1, 2))
        if key in found:
            raise BundleError(f"the artifact's metadata says {key[:64]!r} twice")
        found[key] = value
    return found


def with_metadata(data: bytes, kind: str, entries: Mapping[str, str]) -> bytes:
    """A network's file that `check` let pass with `entries` among its metadata, in place of those of their keys.

    In an ONNX file the properties come sorted by key and before the fields of higher numbers, as onnx writes them;
    every other field keeps its bytes: graph, nodes and initializers. A TFLite file keeps every byte but the offsets of
    the texts that it has a key for, which are written behind its end; a key that it doesn't have is left out.
    """
    if kind != "onnx":
        return _tflite_saying(data, entries)
    before: list[bytes] = []
    after: list[bytes] = []
    position = 0
    for field, _, _, end in _fields(data, 0, len(data)):
        if field != _METADATA:
            (before if field < _METADATA else after).append(data[position:end])
        position = end
    said = {**metadata(data), **entries}
    properties = [
        _message(_METADATA, _message(1, key.encode()) + _message(2, text.encode()))
        for key, text in sorted(said.items())
    ]
    return b"".join([*before, *properties, *after])


def precision(data: bytes) -> str:
    """An artifact's precision, by the kinds of the tensors of an ONNX file that `check` let pass."""
    kinds = set()
    for start, end in _messages(data, 0, len(data), 7):  # graph
        for tensor, behind in _messages(data, start, end, 5):  # initializer
            kinds |= {value for field, value in _numbers(data, tensor, behind) if field == 2}  # data_type
    if kinds & {2, 3}:  # UINT8, INT8: symmetric activations alone have int8 zero points, and no uint8 anywhere
        return "int8" if 2 in kinds else "int8-symmetric"
    return "fp16" if 10 in kinds else "fp32"


def has_ood(data: bytes, kind: str) -> bool:
    """Whether a network's file that `check` let pass has the output that tells films from other pictures.

    An ONNX file names it `ood`; in a TFLite file it is the third output. Raises BundleError where the file can't say.
    """
    try:
        return b"ood" in _onnx_outputs(data) if kind == "onnx" else _tflite_outputs(data) == 3
    except (IndexError, struct.error):
        raise BundleError(f"the artifact is no whole {kind} file") from None


def onnx_tensors(data: bytes) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The inputs and the outputs of an ONNX file that `check` let pass, by name, in its order.

    Raises BundleError where the file doesn't say a kind of `ELEMENTS` and a shape of one.
    """
    try:
        inputs, outputs = (
            {
                data[a:b].decode("utf-8", "replace"): _onnx_tensor(data, value, behind)
                for value, behind in _within(data, 0, len(data), (7, field))  # graph
                for a, b in _messages(data, value, behind, 1)  # name
            }
            for field in (11, 12)  # input, output
        )
    except (IndexError, KeyError):
        raise BundleError("the artifact doesn't say of which kind and shape its inputs and outputs are") from None
    return inputs, outputs


def _onnx_tensor(data: bytes, position: int, end: int) -> Tensor:
    """The kind and shape in a ValueInfoProto; raises IndexError or KeyError where there is none."""
    start, behind = [(end, end), *_within(data, position, end, (2, 1))][-1]  # type, tensor_type
    kind = ELEMENTS[dict(_numbers(data, start, behind))[1]]  # elem_type
    # shape, dim, dim_value
    dims = [dict(_numbers(data, a, b)).get(1, -1) for a, b in _within(data, start, behind, (2, 1))]
    return kind, tuple(dims[1:])


def _within(data: bytes, position: int, end: int, path: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where each message at the end of a path of fields begins and ends."""
    if not path:
        yield position, end
        return
    for a, b in _messages(data, position, end, path[0]):
        yield from _within(data, a, b, path[1:])


def _onnx_outputs(data: bytes) -> list[bytes]:
    """The names of the graph's outputs."""
    return [
        data[a:b]
        for start, end in _messages(data, 0, len(data), 7)  # graph
        for value, behind in _messages(data, start, end, 12)  # output
        for a, b in _messages(data, value, behind, 1)  # name
    ]


def _messages(data: bytes, position: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Where each string or message in field `wanted` of a message begins and ends."""
    for field, wire, value, behind in _fields(data, position, end):
        if (field, wire) == (wanted, _BYTES):
            yield behind - value, behind


def _numbers(data: bytes, position: int, end: int) -> Iterator[tuple[int, int]]:
    """The (field, value) of each number in a message."""
    return ((field, value) for field, wire, value, _ in _fields(data, position, end) if wire == _VARINT)


def _fields(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Each field of a message: its number, its kind, its value (of _BYTES the length) and the position behind it."""
    while position < end:
        key, position = _varint(data, position)
        field, wire, value = (key & 0xFFFFFFFF) >> 3, key & 7, 0
        if wire in (_VARINT, _BYTES):
            value, position = _varint(data, position)
        position += value if wire == _BYTES else {_FIXED64: 8, _FIXED32: 4}.get(wire, 0)
        yield field, wire, value, position


def _message(field: int, content: bytes) -> bytes:
    """A string or message as field `field` of a message."""
    return _base128(field << 3 | _BYTES) + _base128(len(content)) + content


def _base128(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """(value, the position behind it) of a base-128 number of at most 10 bytes (Protocol Buffers, "Encoding")."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise BundleError("the artifact is no whole onnx file")


def _check_tflite(data: bytes) -> None:
    """FlatBuffers, "Internals": the root table's vtable holds an offset for each field, 0 where it is absent."""
    if data[4:8] != b"TFL3":
        raise BundleError("the artifact is no whole tflite file")
    if any(_table(data, _behind(data, 0))[TFLITE_FIELDS:]):
        raise BundleError("the artifact has parts beyond those that a TFLite converter writes, which is refused")


def _tflite_outputs(data: bytes) -> int:
    """How many outputs the main subgraph has: fields `subgraphs` and `outputs` of TensorFlow Lite's schema.fbs."""
    model = _behind(data, 0)
    subgraphs = _behind(data, model + _table(data, model)[2])
    main = _behind(data, subgraphs + 4)  # behind the vector's length
    outputs = _behind(data, main + _table(data, main)[2])
    return int(struct.unpack_from("<I", data, outputs)[0])


def _tflite_saying(data: bytes, entries: Mapping[str, str]) -> bytes:
    """Fields `buffers` and `metadata` of a model, `name` and `buffer` of a metadata, `data` of a buffer: schema.fbs."""
    model = _behind(data, 0)
    fields = (*_table(data, model), *[0] * TFLITE_FIELDS)
    if not fields[6]:
        return data
    changed = bytearray(data)
    buffers, listed = _behind(data, model + fields[4]), _behind(data, model + fields[6])
    for place in range(listed + 4, listed + 4 + 4 * struct.unpack_from("<I", data, listed)[0], 4):
        row = _behind(data, place)
        name, buffer = (*_table(data, row), 0, 0)[:2]
        text = _behind(data, row + name)
        key = data[text + 4 : text + 4 + struct.unpack_from("<I", data, text)[0]].decode("utf-8", "replace")
        if not buffer or key not in entries:
            continue
        holder = _behind(data, buffers + 4 + 4 * struct.unpack_from("<I", data, row + buffer)[0])
        offset = holder + _table(data, holder)[0]
        changed += bytes(-(len(changed) + 4) % 16)  # a buffer's content is aligned to 16
        struct.pack_into("<I", changed, offset, len(changed) - offset)
        content = entries[key].encode()
        changed += struct.pack("<I", len(content)) + content
    return bytes(changed)


def _behind(data: bytes, position: int) -> int:
    """The position that an offset at `position` leads to."""
    return position + int(struct.unpack_from("<I", data, position)[0])


def _table(data: bytes, position: int) -> tuple[int, ...]:
    """The offset of each field of the table at `position`, from there; 0 where a field is absent."""
    vtable = position - struct.unpack_from("<i", data, position)[0]
    if vtable < 0:
        raise BundleError("the artifact is no whole tflite file")
    (size,) = struct.unpack_from("<H", data, vtable)
    return struct.unpack_from(f"<{max(0, size - 4) // 2}H", data, vtable + 4)
