"""Arrays to JSON, by TensorFlow Serving's rules (tensorflow_serving/util/json_tensor.cc).

Rows stand under `predictions`, columns under `outputs`; a signature with one output drops its name; string
outputs whose name ends in `_bytes` are written as {"b64": ...}; NaN and Infinity are written as such.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import orjson

from embedded_server.common.errors import InvalidArgument
from embedded_server.execution.backend import Array

_BYTES_SUFFIX = "_bytes"
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY


def encode_predict(outputs: Mapping[str, Array], rows: bool) -> bytes:
    """The JSON of an answer.

    Raises InvalidArgument, as TensorFlow Serving does, for a dtype that JSON cannot carry, and in row form
    for outputs that have no rows or not equally many.
    """
    if not outputs:
        raise InvalidArgument("Cannot convert empty tensor map to JSON")
    if not rows:
        values = {alias: _whole(alias, array) for alias, array in outputs.items()}
        return orjson.dumps({"outputs": _unnamed(values)}, option=_OPTIONS)
    batch = None
    for alias, array in outputs.items():
        if array.ndim == 0:
            raise InvalidArgument(f"Tensor name: {alias} has no shape information ")
        if not len(array):
            raise InvalidArgument(f"Tensor name: {alias} has invalid batch size: 0")
        if batch is not None and len(array) != batch:
            raise InvalidArgument(
                f"Tensor name: {alias} has inconsistent batch size: {len(array)} expecting: {batch}"
            )
        batch = len(array)
    if len(outputs) == 1:
        ((alias, array),) = outputs.items()
        return orjson.dumps({"predictions": _whole(alias, array)}, option=_OPTIONS)
    columns = {alias: _rows(alias, array) for alias, array in outputs.items()}
    predictions = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return orjson.dumps({"predictions": predictions}, option=_OPTIONS)


def encode_classes(labels: Array | None, scores: Array | None) -> bytes:
    """The JSON of a classification: for each example a list of classes, each a label and a score.

    labels, scores: n x c each, or None for what the model does not say.
    """
    given = scores if labels is None else labels
    assert given is not None, "a classifier has labels or scores"
    rows = np.full(given.shape, "", np.object_) if labels is None else _text(labels, _as_text)
    numbers = np.zeros(given.shape, np.float32) if scores is None else scores
    results = [
        list(zip(row_labels, _numbers(row_scores), strict=True))
        for row_labels, row_scores in zip(rows.tolist(), numbers, strict=True)
    ]
    return orjson.dumps({"results": results}, option=_OPTIONS)


def encode_values(values: Array) -> bytes:
    """The JSON of a regression: a number for each example."""
    return orjson.dumps({"results": _whole("", values)}, option=_OPTIONS)


def _numbers(array: Array) -> Iterator[Any]:
    """The elements of a float tensor, each as something that orjson writes."""
    flat = array.reshape(-1)
    if np.isfinite(flat).all():
        yield from flat
    else:
        for number in flat:
            yield orjson.Fragment(_with_infinities(np.asarray(number)))


def _unnamed(values: Mapping[str, Any]) -> Any:
    return next(iter(values.values())) if len(values) == 1 else values


def _whole(alias: str, array: Array) -> Any:
    """A tensor as something that orjson writes."""
    array = _writable(alias, array)
    if array.dtype == np.object_:
        return array.tolist()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return orjson.Fragment(_with_infinities(array))
    return array if array.ndim else array[()]


def _rows(alias: str, array: Array) -> Iterator[Any]:
    """The rows of a tensor, each as something that orjson writes."""
    array = _writable(alias, array)
    if array.dtype == np.object_:
        yield from array.tolist()
    elif array.dtype.kind == "f" and not np.isfinite(array).all():
        for row in array:
            yield orjson.Fragment(_with_infinities(np.asarray(row)))
    else:
        yield from array


def _writable(alias: str, array: Array) -> Array:
    """Contiguous and of a type that orjson knows; strings become text or {"b64": ...}."""
    if array.dtype == np.object_:
        return _text(array, _as_base64 if alias.endswith(_BYTES_SUFFIX) else _as_text)
    if array.dtype.name in ("float16", "bfloat16"):
        array = array.astype(np.float32)
    if array.dtype.kind not in "fiub":
        raise InvalidArgument(f"Failed to write JSON value for tensor type: {array.dtype.name}")
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _text(array: Array, write: Callable[[bytes], Any]) -> Array:
    written = np.empty(array.size, dtype=np.object_)
    for index, value in enumerate(array.reshape(-1)):
        written[index] = write(value)
    return written.reshape(array.shape)


def _as_base64(value: bytes) -> dict[str, str]:
    return {"b64": binascii.b2a_base64(value, newline=False).decode("ascii")}


def _as_text(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        # TensorFlow Serving writes such bytes as they are; a name ending in _bytes is how to avoid it.
        text = json.dumps(value.decode(errors="surrogateescape"), ensure_ascii=False)
        return orjson.Fragment(text.encode(errors="surrogateescape"))


def _with_infinities(array: Array) -> bytes:
    """Write a float tensor that holds NaN or Infinity.

    orjson writes null for each of them, in order, and nothing else in a tensor is null.
    """
    strange = array[~np.isfinite(array)]
    words = iter([b"NaN" if np.isnan(x) else b"Infinity" if x > 0 else b"-Infinity" for x in strange])
    written = orjson.dumps(array if array.ndim else array[()], option=_OPTIONS)
    return re.sub(rb"null", lambda _: next(words), written)
