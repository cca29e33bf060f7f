"""TensorProto to arrays and back; TensorFlow's own reader and writer are the measure."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from embedded_server.common.errors import InvalidArgument, Unimplemented
from embedded_server.execution.tensors import from_proto, from_protos, to_proto
from tensorflow.core.framework.tensor_pb2 import TensorProto

NUMBERS = (
    np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.bool_, np.int8, np.int16, np.int32, np.int64,
    np.uint8, np.uint16, np.uint32, np.uint64, np.complex64, np.complex128,
)  # fmt: skip
SHAPES = ((), (1,), (3,), (0,), (2, 0, 3), (2, 3, 4))


def array(dtype: Any, shape: tuple[int, ...]) -> Any:
    values = np.random.default_rng(1).normal(size=shape) * 50
    if np.dtype(dtype).kind == "c":
        return (values + 1j * values[::-1] if values.ndim else values + 2j).astype(dtype)
    return np.abs(values).astype(dtype) if np.dtype(dtype).kind == "u" else values.astype(dtype)


def same(actual: Any, expected: Any) -> None:
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert actual.tolist() == expected.tolist()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", NUMBERS)
def test_numbers(dtype: Any, shape: tuple[int, ...]) -> None:
    expected = array(dtype, shape)
    same(from_proto("x", tf.make_tensor_proto(expected)), expected)
    written = TensorProto()
    to_proto(expected, written)
    assert not written.tensor_content
    same(tf.make_ndarray(written), expected)
    same(from_proto("x", written), expected)
    content = TensorProto(dtype=written.dtype, tensor_shape=written.tensor_shape)
    content.tensor_content = expected.tobytes()
    same(from_proto("x", content), expected)


def test_arrays_that_are_not_contiguous() -> None:
    for dtype in (np.float32, np.int64, np.float16, np.complex64):
        expected = array(dtype, (4, 6))[::2, ::3]
        written = TensorProto()
        to_proto(expected, written)
        same(tf.make_ndarray(written), expected)


def test_a_type_that_no_message_has() -> None:
    with pytest.raises(Unimplemented, match="cannot be sent"):
        to_proto(np.zeros(2, [("f0", np.int8)]), TensorProto())  # how numpy has a quantized type


@pytest.mark.parametrize("values", [[b"one", b"", b"zw\xc3\xb6lf", b"\x00\xff" * 100], []])
def test_strings(values: list[bytes]) -> None:
    expected = np.array(values, dtype=object)
    same(from_proto("x", tf.make_tensor_proto(expected, tf.string)), expected)
    written = TensorProto()
    to_proto(expected, written)
    same(from_proto("x", written), expected)
    assert list(written.string_val) == values
    packed = TensorProto(dtype=tf.string.as_datatype_enum)
    packed.tensor_shape.dim.add(size=len(values))
    lengths = b"".join(bytes([n]) if n < 128 else bytes([n & 127 | 128, n >> 7]) for n in map(len, values))
    packed.tensor_content = lengths + b"".join(values)
    same(from_proto("x", packed), expected)


@pytest.mark.parametrize(
    ("dtype", "field"), [("float32", "float_val"), ("int8", "int_val"), ("bool", "bool_val")]
)
def test_the_last_of_too_few_values_is_repeated(dtype: str, field: str) -> None:
    """And what is too much is ignored, as TensorFlow does it."""
    for given in ([], [1], [1, 0], [1, 0, 1, 0, 1, 0]):
        proto = TensorProto(dtype=tf.dtypes.as_dtype(dtype).as_datatype_enum)
        proto.tensor_shape.dim.add(size=2)
        proto.tensor_shape.dim.add(size=2)
        getattr(proto, field).extend(given)
        filled = (given + [given[-1] if given else 0] * 4)[:4]
        same(from_proto("x", proto), np.array(filled, dtype).reshape(2, 2))


def test_bytes_of_truth_values() -> None:
    proto = tf.make_tensor_proto(np.array([True, False, True]))
    proto.tensor_content = b"\x02\x00\x01"
    same(from_proto("x", proto), np.array([True, False, True]))


def _proto(dtype: str, sizes: list[int], **fields: Any) -> TensorProto:
    proto = TensorProto(dtype=tf.dtypes.as_dtype(dtype).as_datatype_enum, **fields)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


UNKNOWN_RANK = _proto("float32", [], float_val=[1])
UNKNOWN_RANK.tensor_shape.unknown_rank = True


@pytest.mark.parametrize(
    "proto",
    [
        TensorProto(),
        TensorProto(dtype=99, float_val=[1]),
        _proto("resource", [1]),
        UNKNOWN_RANK,
        _proto("float32", [-1], float_val=[1]),
        _proto("float32", [2**40, 2**40, 0, -5], float_val=[1]),
        _proto("float32", [1] * 65, float_val=[1]),
        _proto("float32", [2], tensor_content=b"1234567"),
        _proto("float32", [2**62, 4], tensor_content=b"1234567"),
        _proto("float32", [2**40], float_val=[1]),
        _proto("string", [2**40], string_val=[b"a"]),
        _proto("string", [2], tensor_content=b"\x01\x01a"),
        _proto("string", [1], tensor_content=b"\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        _proto("string", [2**50], tensor_content=b"\x00\x00"),
        _proto("string", [0, 2**62]),
        _proto("float32", [0, 2**62]),
    ],
)
def test_what_is_no_tensor(proto: TensorProto) -> None:
    with pytest.raises(InvalidArgument, match="tensor parsing error: x"):
        from_proto("x", proto)


def test_shapes_that_cost_nothing_to_send_are_bounded_together() -> None:
    """Some 20 bytes each: it would take 60 GB of memory to make arrays of all of them."""
    large, small = _proto("float32", [2**24]), _proto("float32", [2], float_val=[1])
    assert from_protos({"x": large})["x"].nbytes == 64 * 2**20
    with pytest.raises(InvalidArgument, match="tensor parsing error: x1 has 16777216 elements"):
        from_protos({f"x{number}": large for number in range(1000)})
    with pytest.raises(InvalidArgument, match="of which 1 were sent"):
        from_protos({"x": large, "y": small})
