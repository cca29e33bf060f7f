"""TensorProto to arrays and back (tensorflow/core/framework/tensor.cc, Tensor::FromProto and AsProtoField).

Reading takes both forms: the raw bytes of `tensor_content`, as numpy and tf.make_tensor_proto write them
(nothing is copied), and a field of values for each type, where fewer values than elements mean that the
last one is repeated. Writing gives the field of values, as TensorFlow Serving does by default: clients read
`outputs["y"].float_val` without a library between.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from embedded_server.common.errors import InvalidArgument, Unimplemented
from embedded_server.execution.backend import Array
from embedded_server.execution.signature import data_type, number_of

_MAX_FILLED = (
    64 * 2**20
)  # bytes of the tensors of one request whose values were not all sent; as of a request
_MAX_RANK = 64  # dimensions of a numpy array (NPY_MAXDIMS); TensorFlow itself takes 254

# Type -> the field that holds its values, and numpy's type for the numbers in it. half_val holds bit
# patterns, the complex fields hold pairs.
_FIELDS: Mapping[np.dtype[Any], tuple[str, type[np.generic]]] = {
    np.dtype(numpy): (field, values)
    for field, values, types in (
        ("float_val", np.float32, [np.float32]),
        ("double_val", np.float64, [np.float64]),
        ("int_val", np.int32, [np.int32, np.int16, np.int8, np.uint16, np.uint8]),
        ("int64_val", np.int64, [np.int64]),
        ("uint32_val", np.uint32, [np.uint32]),
        ("uint64_val", np.uint64, [np.uint64]),
        ("bool_val", np.bool_, [np.bool_]),
        ("half_val", np.int32, [np.float16, ml_dtypes.bfloat16]),
        ("scomplex_val", np.float32, [np.complex64]),
        ("dcomplex_val", np.float64, [np.complex128]),
    )
    for numpy in types
}
_PACKED = {"float_val": b"\x2a", "double_val": b"\x32"}  # tensor.proto: fields 5 and 6, length-delimited


def from_proto(alias: str, proto: Any) -> Array:
    """The array of a TensorProto; strings become an object array of bytes. May be read-only.

    alias: the name of the input, for the message. Raises InvalidArgument for what is no tensor.
    """
    return from_protos({alias: proto})[alias]


def from_protos(protos: Mapping[str, Any]) -> dict[str, Array]:
    """The arrays of all tensors of a request, by alias; see from_proto.

    A few bytes can name a shape of any size, and be sent as often as one likes: there is a bound for all.
    """
    room, arrays = _MAX_FILLED, {}
    for alias, proto in protos.items():
        arrays[alias], filled = _read(alias, proto, room)
        room -= filled
    return arrays


def _read(alias: str, proto: Any, room: int) -> tuple[Array, int]:
    """The array, and its bytes if its values were not all sent: at most `room`."""
    filled = 0
    numpy, dims = data_type(proto.dtype).numpy, proto.tensor_shape.dim
    shape = tuple(dim.size for dim in dims)
    if numpy is None or proto.tensor_shape.unknown_rank or len(dims) > _MAX_RANK or min(shape, default=0) < 0:
        raise _unreadable(alias)
    count = math.prod(shape)
    content: bytes = proto.tensor_content
    if content and numpy == np.object_:
        values = _decode_strings(alias, content, count)
    elif content:
        if len(content) != count * numpy.itemsize:
            raise _unreadable(alias)
        values = np.frombuffer(content, np.uint8) != 0 if numpy == np.bool_ else np.frombuffer(content, numpy)
    else:
        values = _sent(proto, numpy)[:count]
        if len(values) != count:
            values = _filled(alias, values, count, room)
            filled = values.nbytes
    try:
        return values.reshape(shape), filled
    except ValueError:  # no elements, and sizes whose product numpy cannot hold
        raise _unreadable(alias) from None


def to_proto(array: Array, proto: Any, as_content: bool = False) -> None:
    """Write an array into an empty TensorProto. Raises Unimplemented for a type that no field is for.

    as_content: write tensor_content, the raw bytes, instead of the field.
    """
    if array.dtype != np.object_ and array.dtype not in _FIELDS:
        raise Unimplemented(f"a tensor of {array.dtype} cannot be sent")
    proto.dtype = number_of(array.dtype)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if as_content:
        is_text = array.dtype == np.object_
        proto.tensor_content = _encode_strings(array.reshape(-1).tolist()) if is_text else array.tobytes()
        return
    if array.dtype == np.object_:
        proto.string_val.extend(array.reshape(-1).tolist())
        return
    field, values = _FIELDS[array.dtype]
    flat = np.ascontiguousarray(array).reshape(-1)
    if field == "half_val":
        flat = flat.view(np.uint16)
    elif field.endswith("complex_val"):
        flat = flat.view(values)
    tag = _PACKED.get(field)
    if tag and flat.size:
        # On the wire such a field is the array's own bytes: a hundred times as fast as number by number.
        proto.MergeFromString(tag + _varint(flat.nbytes) + flat.tobytes())
    else:
        getattr(proto, field).extend(flat.tolist())


def _unreadable(alias: str) -> InvalidArgument:
    return InvalidArgument(f"tensor parsing error: {alias}")


def _sent(proto: Any, numpy: np.dtype[Any]) -> Array:
    """The values of the field for this type, flat."""
    if numpy == np.object_:
        return np.array(list(proto.string_val), dtype=np.object_)
    field, numbers = _FIELDS[numpy]
    values = np.array(getattr(proto, field), dtype=numbers)
    if field == "half_val":
        return values.astype(np.uint16).view(numpy)
    if field.endswith("complex_val"):
        return values[: len(values) // 2 * 2].view(numpy)
    return values.astype(numpy, copy=False)


def _filled(alias: str, values: Array, count: int, room: int) -> Array:
    """`count` elements: those given, then the last one again and again; zeros if none is given."""
    if count * values.itemsize > room:
        raise InvalidArgument(
            f"tensor parsing error: {alias} has {count} elements, of which {len(values)} were sent"
        )
    last = values[-1] if len(values) else b"" if values.dtype == np.object_ else 0
    whole = np.full(count, last, dtype=values.dtype)
    whole[: len(values)] = values
    return whole


def _decode_strings(alias: str, content: bytes, count: int) -> Array:
    """Strings as C++ packs them: all lengths as varints, then all the bytes (port::DecodeStringList)."""
    sizes, position = [], 0
    for _ in range(min(count, len(content))):
        size = shift = 0
        while True:
            if position == len(content) or shift > 28:
                raise _unreadable(alias)
            byte = content[position]
            position += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        sizes.append(size)
    if len(sizes) != count or position + sum(sizes) != len(content):
        raise _unreadable(alias)
    values = np.empty(count, dtype=np.object_)
    for index, size in enumerate(sizes):
        values[index] = content[position : position + size]
        position += size
    return values


def _encode_strings(values: Sequence[bytes]) -> bytes:
    """What _decode_strings reads (port::EncodeStringList)."""
    return b"".join([*(_varint(len(value)) for value in values), *values])


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
