"""JSON to arrays, by TensorFlow Serving's rules (tensorflow_serving/util/json_tensor.cc).

`instances` is the row form (one element for each example; each becomes a row of every input), `inputs` the
column form (whole tensors). A value must have the JSON type of its dtype: whole numbers for integers, true
or false for bool, any number for floats. Bytes are {"b64": "..."}.

Arrays are checked and converted in whole columns: a list is flattened level by level, and sets of types
and lengths tell whether it is a tensor. Only where they say no is it walked, for the message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, NoReturn

import numpy as np

from embedded_server.common.errors import InvalidArgument, ServingError, Unimplemented
from embedded_server.execution.backend import Array
from embedded_server.execution.signature import DataType, Signature, TensorSpec
from embedded_server.wire.parsing import decode_base64, is_base64, json_type, shown, signature_name, utf8

_MAX_RANK = 64  # dimensions of a numpy array (NPY_MAXDIMS); TensorFlow itself takes 254


@dataclass(frozen=True)
class PredictRequest:
    """A predict request as arrays; `rows` says in which form to answer."""

    signature: str
    inputs: Mapping[str, Array]
    rows: bool


def decode_predict(document: Mapping[str, Any], signatures: Mapping[str, Signature]) -> PredictRequest:
    """Turn a parsed predict request into arrays.

    Raises InvalidArgument where the request does not fit the signature, Unimplemented for a dtype that
    JSON cannot carry. Messages are TensorFlow Serving's own where it has one.
    """
    name = signature_name(document)
    signature = signatures.get(name)
    if signature is None:
        raise InvalidArgument(f'Serving signature name: "{name}" not found in signature def')
    if not signature.inputs:
        raise InvalidArgument(f"Failed to get input map for signature: {name}")
    if "instances" in document:
        if "inputs" in document:
            raise InvalidArgument(
                f"JSON Value: {shown(document)} Not formatted correctly expecting only one of 'inputs' or "
                "'instances' keys to exist"
            )
        instances = document["instances"]
        if not isinstance(instances, list):
            raise InvalidArgument(f"JSON Value: {shown(document)} Excepting 'instances' to be an list/array")
        if not instances:
            raise InvalidArgument(f"JSON Value: {shown(document)} No values in 'instances' array")
        return PredictRequest(name, _decode_rows(instances, signature.inputs), rows=True)
    if "inputs" in document:
        return PredictRequest(name, _decode_columns(document["inputs"], signature.inputs), rows=False)
    raise InvalidArgument("Missing 'inputs' or 'instances' key")


def _decode_rows(instances: list[Any], specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    named = _is_named(instances[0])
    if len(specs) > 1 and not named:
        raise InvalidArgument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required "
            "as per tensorinfo_map"
        )
    for index, element in enumerate(instances):
        if _is_named(element) != named:
            raise InvalidArgument(
                f"Expecting {'object but got list' if named else 'value/list but got object'} "
                f"at item {index} of input list"
            )
    if not named:
        ((alias, spec),) = specs.items()
        return {alias: _column(instances, spec.dtype, "")}
    for index, element in enumerate(instances):
        if element.keys() != specs.keys():
            _refuse_keys(index, element, specs)
    return {
        alias: _column([element[alias] for element in instances], spec.dtype, f" key: {alias}")
        for alias, spec in specs.items()
    }


def _is_named(element: Any) -> bool:
    return isinstance(element, dict) and not is_base64(element)


def _refuse_keys(index: int, element: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> NoReturn:
    unknown = next((key for key in element if key not in specs), None)
    if unknown is not None:
        raise InvalidArgument(
            f"Failed to process element: {index} key: {unknown} of 'instances' list. "
            f"Error: INVALID_ARGUMENT: JSON object: does not have named input: {unknown}"
        )
    raise InvalidArgument(
        f"Failed to process element: {index} of 'instances' list. JSON object: {shown(element)} "
        f"keys must be equal to: {','.join(sorted(specs))}"
    )


def _decode_columns(columns: Any, specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    if not _is_named(columns):
        if len(specs) > 1:
            raise InvalidArgument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required "
                "as per tensorinfo_map"
            )
        ((alias, spec),) = specs.items()
        return {alias: _tensor(columns, spec.dtype)}
    for alias in specs:
        if alias not in columns:
            raise InvalidArgument(f"Missing named input: {alias} in 'inputs' object.")
    return {alias: _tensor(columns[alias], spec.dtype) for alias, spec in specs.items()}


def _tensor(value: Any, dtype: DataType) -> Array:
    array = _convert(value, dtype)
    if array is None:
        _check(value, _leading_shape(value), dtype)
        raise InvalidArgument(f"JSON Value: {shown(value)} is not a tensor of type: {dtype.name}")
    return array


def _column(values: list[Any], dtype: DataType, key: str) -> Array:
    """One row for each of `values`; `key` is how messages name the input."""
    if dtype.name in _CONVERTERS:
        array = _convert(values, dtype)
        if array is not None:
            return array
    index = 0
    try:
        shape = _checked_shape(values[0], dtype)
        index = _first_bad(values, shape, dtype)
        bad_shape = _checked_shape(values[index], dtype)
        size, bad_size = (int(np.prod(sizes, dtype=np.int64)) for sizes in (shape, bad_shape))
        if bad_size != size:
            raise InvalidArgument(f"Expecting tensor size: {size} but got: {bad_size}")
        if bad_shape != shape:
            raise InvalidArgument(f"Expecting shape {_brackets(shape)} but got: {_brackets(bad_shape)}")
    except ServingError as error:
        raise InvalidArgument(
            f"Failed to process element: {index}{key} of 'instances' list. Error: {error.code}: {error}"
        ) from None
    raise InvalidArgument(f"JSON Value: {shown(values)} is not a tensor of type: {dtype.name}")


def _convert(value: Any, dtype: DataType) -> Array | None:
    """An array of a number, string or nested list, or None where it is not a tensor of this dtype."""
    flattened = _flatten(value)
    if flattened is None:
        return None
    leaves, shape = flattened
    converter = _CONVERTERS.get(dtype.name)
    if converter is None:
        if leaves:
            raise Unimplemented(f"Conversion of JSON Value: {shown(leaves[0])} to type: {dtype.name}")
        return None
    array = converter(leaves, dtype)
    return None if array is None else array.reshape(shape)


def _flatten(value: Any) -> tuple[list[Any], tuple[int, ...]] | None:
    """The leaves of a nested list and its shape; None where lists of one level differ in length.

    Raises InvalidArgument for more levels than an array can have.
    """
    level: list[Any] = [value]
    shape: list[int] = []
    while level and type(level[0]) is list:
        _check_rank(len(shape) + 1)
        if set(map(type, level)) != {list}:
            return None
        sizes = set(map(len, level))
        if len(sizes) != 1:
            return None
        shape.append(sizes.pop())
        level = list(chain.from_iterable(level))
    return level, tuple(shape)


def _floats(leaves: list[Any], dtype: DataType) -> Array | None:
    types = set(map(type, leaves))
    if not types <= {float, int}:
        return None
    # As C++ reads a number: a double, rounded to the type. What is too large becomes infinity.
    with np.errstate(over="ignore"):
        return np.array(leaves, dtype=np.float64).astype(dtype.numpy)


def _integers(leaves: list[Any], dtype: DataType) -> Array | None:
    if not set(map(type, leaves)) <= {int}:
        return None
    bounds = np.iinfo(_numpy(dtype))
    if leaves and (min(leaves) < bounds.min or max(leaves) > bounds.max):
        return None
    return np.array(leaves, dtype=dtype.numpy)


def _booleans(leaves: list[Any], dtype: DataType) -> Array | None:
    return np.array(leaves, dtype=np.bool_) if set(map(type, leaves)) <= {bool} else None


def _strings(leaves: list[Any], dtype: DataType) -> Array | None:
    array = np.empty(len(leaves), dtype=np.object_)  # numpy's own string types would cut zero bytes
    for index, leaf in enumerate(leaves):
        try:
            if type(leaf) is str:
                array[index] = utf8(leaf)
            elif type(leaf) is dict and is_base64(leaf):
                array[index] = decode_base64(leaf["b64"])
            else:
                return None
        except InvalidArgument:
            return None
    return array


# half, bfloat16 and uint16 are more than TensorFlow Serving takes: it answers 501.
_CONVERTERS: Mapping[str, Callable[[list[Any], DataType], Array | None]] = {
    **dict.fromkeys(("float", "double", "half", "bfloat16"), _floats),
    **dict.fromkeys(("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"), _integers),
    "bool": _booleans,
    "string": _strings,
}


def _numpy(dtype: DataType) -> np.dtype[Any]:
    assert dtype.numpy is not None, dtype.name  # _CONVERTERS names only types that arrays can hold
    return dtype.numpy


def _leading_shape(value: Any) -> tuple[int, ...]:
    """The shape that the first element of every level suggests; the rest is checked against it.

    Raises InvalidArgument for more levels than an array can have.
    """
    shape: list[int] = []
    while type(value) is list:
        _check_rank(len(shape) + 1)
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _check_rank(rank: int) -> None:
    if rank > _MAX_RANK:
        raise InvalidArgument(f"JSON Value is nested too deeply: a tensor has at most {_MAX_RANK} dimensions")


def _checked_shape(value: Any, dtype: DataType) -> tuple[int, ...]:
    """The shape of a value. Raises the first thing that is wrong with it."""
    shape = _leading_shape(value)
    _check(value, shape, dtype)
    return shape


def _check(value: Any, shape: tuple[int, ...], dtype: DataType, level: int = 0) -> None:
    """Find the first thing wrong with a value of which _convert could make nothing, and raise it."""
    rank = len(shape)
    if type(value) is not list:
        if level != rank:
            raise InvalidArgument(
                f"JSON Value: {shown(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {rank}"
            )
        _check_leaf(value, dtype)
        return
    if level >= rank:
        raise InvalidArgument(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise InvalidArgument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} "
            f"expected size: {shape[level]}"
        )
    if value:
        _check(value[_first_bad(value, shape[level + 1 :], dtype)], shape, dtype, level + 1)


def _first_bad(values: list[Any], shape: tuple[int, ...], dtype: DataType) -> int:
    """The index of the first of `values` that is no tensor of this shape; the last one if all are.

    Halves are converted whole, for a walk over millions of numbers would take a minute of a thread.
    """
    first, end = 0, len(values)
    while end - first > 1:
        middle = (first + end) // 2
        if _are_tensors(values[first:middle], shape, dtype):
            first = middle
        else:
            end = middle
    return first


def _are_tensors(values: list[Any], shape: tuple[int, ...], dtype: DataType) -> bool:
    try:
        array = _convert(values, dtype)
    except ServingError:
        return False
    return array is not None and array.shape[1:] == shape


def _check_leaf(value: Any, dtype: DataType) -> None:
    if type(value) is dict and dtype.name == "string":
        if not is_base64(value):
            raise InvalidArgument(f"JSON Value: {shown(value)} not formatted correctly for base64 data")
        decode_base64(value["b64"])
    elif type(value) is str and dtype.name == "string":
        utf8(value)
    elif _convert(value, dtype) is None:
        raise InvalidArgument(
            f"JSON Value: {shown(value)} Type: {json_type(value)} is not of expected type: {dtype.name}"
        )


def _brackets(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"
