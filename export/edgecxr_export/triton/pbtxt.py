"""A message in Protocol Buffers' text format, so that writing a config.pbtxt needs no protobuf; pure."""

from __future__ import annotations

import json
from collections.abc import Mapping


class Name(str):
    """A name of an enumeration, such as TYPE_UINT8, which stands there without quotes."""

    __slots__ = ()


def text(message: Mapping[str, object], indent: str = "") -> str:
    """The fields of a message, a line or a block each, in their order.

    A string, a number, a `Name` or a mapping is a field; a list is a field that is repeated. Text Format Language
    Specification: quotes, backslashes and control characters are escaped as JSON does it, and the rest is UTF-8.
    """
    return "".join(
        f"{indent}{field}{_written(value, indent)}\n"
        for field, found in message.items()
        for value in (found if isinstance(found, list) else [found])
    )


def _written(value: object, indent: str) -> str:
    if isinstance(value, Mapping):
        return f" {{\n{text(value, indent + '  ')}{indent}}}"
    quoted = isinstance(value, str) and not isinstance(value, Name)
    return f": {json.dumps(value, ensure_ascii=False) if quoted else value}"
