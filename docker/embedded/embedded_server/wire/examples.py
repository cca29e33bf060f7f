"""JSON to tf.Examples, by TensorFlow Serving's rules (tensorflow_serving/util/json_tensor.cc).

An example is an object: feature name -> a value, or a list of values of one kind. Whole numbers and truth
values make an int64 feature, numbers with a point or an exponent a float feature, text and {"b64": "..."}
a bytes feature. `context` is an example that is put before each of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from embedded_server.common.errors import InvalidArgument
from embedded_server.execution.backend import Array
from embedded_server.wire.parsing import decode_base64, is_base64, json_type, shown, signature_name, utf8

_INT64_MAX = 2**63 - 1


@dataclass(frozen=True)
class ExamplesRequest:
    """A classify or regress request: serialized tf.Examples, as an object array of bytes."""

    signature: str
    examples: Array


def decode_examples(document: Mapping[str, Any]) -> ExamplesRequest:
    """Turn a parsed classify or regress request into examples. Raises InvalidArgument."""
    signature = signature_name(document)
    # An example that is written after another one is merged with it: features of one name are replaced.
    context = _serialized(document["context"]) if "context" in document else b""
    if "examples" not in document:
        raise InvalidArgument(
            f"JSON Value: {shown(document)} When method is classify, key 'examples' is expected and was "
            "not found"
        )
    examples = document["examples"]
    if not isinstance(examples, list):
        raise InvalidArgument(f"JSON Value: {shown(document)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise InvalidArgument(f"JSON Value: {shown(document)} 'examples' value is an empty array")
    serialized = [context + _serialized(example) for example in examples]
    return ExamplesRequest(signature, np.array(serialized, dtype=np.object_))


def _serialized(example: Any) -> bytes:
    from tensorflow.core.example import example_pb2  # imports TensorFlow: only when that is there anyway

    if not isinstance(example, dict):
        raise InvalidArgument(f"Example must be JSON object but got JSON {json_type(example)}")
    message = example_pb2.Example()
    for name, content in example.items():
        feature = message.features.feature[_utf8_name(name)]
        kind, values = _values(name, content if isinstance(content, list) else [content])
        if kind is not None:
            getattr(feature, f"{kind}_list").value.extend(values)
    return bytes(message.SerializeToString())


def _utf8_name(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"the name of a feature is no UTF-8: {shown(name)}") from None
    return name


def _values(name: str, content: list[Any]) -> tuple[str | None, list[Any]]:
    """The kind of a feature ("bytes", "float", "int64"; None where it has no values), and its values."""
    kind, values = None, []
    for element in content:
        value_kind, value = _value(name, element)
        if kind not in (None, value_kind):
            raise InvalidArgument(f"Unexpected element type in feature: {name} expecting type: {kind}")
        kind = value_kind
        values.append(value)
    return kind, values


def _value(name: str, element: Any) -> tuple[str, Any]:
    if isinstance(element, int):  # bool is one, and counts as 0 or 1
        if element > _INT64_MAX:
            raise InvalidArgument(f"Feature: {name} has uint64 element. Only int64 is supported.")
        return "int64", int(element)
    if isinstance(element, float):
        with np.errstate(over="ignore"):  # what is too large becomes infinity, as in C++
            return "float", float(np.float32(element))
    if isinstance(element, str):
        return "bytes", utf8(element)
    if isinstance(element, dict) and is_base64(element):
        return "bytes", decode_base64(element["b64"])
    raise InvalidArgument(f"Feature: {name} has element with unexpected JSON type: {json_type(element)}")
