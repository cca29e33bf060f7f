"""Tensors as gRPC carries them, to and from the values that JSON requests and answers hold.

The rules of JSON are TensorFlow Serving's (https://www.tensorflow.org/tfx/serving/api_rest): bytes are
{"b64": ...}, and so are answers' strings whose output's name ends in "_bytes".
"""

from __future__ import annotations

import base64
import binascii
import math
from typing import TYPE_CHECKING, Any

from tasks.lib.client.inputs import NUMPY_NAMES
from tasks.lib.client.serving_messages import DTYPES, message
from tasks.lib.client.signature import Tensor
from tasks.lib.common.errors import ModelError

if TYPE_CHECKING:
    import numpy as np

_NUMBERS = {name: number for number, name in DTYPES.items()}
_VALUES = {
    "DT_FLOAT": "float_val", "DT_DOUBLE": "double_val", "DT_INT64": "int64_val", "DT_BOOL": "bool_val",
    "DT_HALF": "half_val", "DT_BFLOAT16": "half_val", "DT_UINT32": "uint32_val", "DT_UINT64": "uint64_val",
}  # fmt: skip
"""The field that holds a tensor's values, where tensor_content does not; int_val for all others."""
_BITS = ("DT_HALF", "DT_BFLOAT16")
"""Types whose field holds the bits of each value as a whole number."""


def encode(tensor: Tensor, values: object) -> Any:
    """The Tensor message of nested lists of values that fit `tensor`, the batch outermost.

    Raises ModelError for values that do not, and for types that a request cannot be made of.
    """
    import numpy as np

    made = message("Tensor")
    try:
        made.dtype = _NUMBERS[tensor.dtype]
        if tensor.dtype == "DT_STRING":
            shape, texts = _strings(values)
            made.string_val.extend(texts)
        else:
            array = np.asarray(values, dtype=NUMPY_NAMES[tensor.dtype])
            shape = array.shape
            made.tensor_content = _contents(array, tensor.dtype)
    except KeyError:
        raise ModelError(
            f"The input {tensor.name!r} is {tensor.dtype}, which no request can be made of.",
            "Measure this model with a signature of other inputs.",
        ) from None
    except (TypeError, ValueError, OverflowError):
        raise ModelError(
            f"A request has values for the input {tensor.name!r} that do not make a tensor of "
            f"{tensor.dtype}.",
            "Give numbers for numbers and text for text, in rows of one length.",
        ) from None
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


def decode(made: Any, name: str) -> Any:
    """The values of a Tensor message as nested lists of what JSON knows; `name` is the output's.

    Raises ValueError for one that holds no whole tensor.
    """
    dtype = DTYPES.get(made.dtype, "")
    shape = [dim.size for dim in made.tensor_shape.dim]
    if dtype == "DT_STRING":
        return _nested([_text(text, name) for text in made.string_val], shape)
    if dtype not in NUMPY_NAMES:
        raise ValueError(f"{name} is {dtype or made.dtype}, which JSON cannot hold")
    return _array(made, dtype, shape).tolist()


def _array(made: Any, dtype: str, shape: list[int]) -> np.ndarray[Any, Any]:
    import numpy as np

    kind = np.dtype(NUMPY_NAMES[dtype])
    bits = np.dtype("uint16") if dtype in _BITS else kind
    if made.tensor_content:
        flat = np.frombuffer(made.tensor_content, bits.newbyteorder("<"))
    else:
        flat = np.array(getattr(made, _VALUES.get(dtype, "int_val")), bits)
        if 0 < len(flat) < math.prod(shape):
            flat = np.pad(flat, (0, math.prod(shape) - len(flat)), mode="edge")  # the last one goes on
    if dtype == "DT_BFLOAT16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    elif dtype == "DT_HALF":
        flat = flat.view(kind)
    return flat.reshape(shape)


def _contents(array: np.ndarray[Any, Any], dtype: str) -> bytes:
    """The bytes of the values, row by row, little end first."""
    import numpy as np

    if dtype == "DT_BFLOAT16":
        bits = array.view(np.uint32)
        # To the nearest, of two as near to the even one; what is no number stays none.
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        array = np.where(np.isnan(array), 0x7FC0, rounded).astype(np.uint16)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _strings(values: object) -> tuple[tuple[int, ...], list[bytes]]:
    """The shape of nested lists of text and bytes, and all of them in a row. Raises ValueError, TypeError."""
    if not isinstance(values, list):
        return (), [_bytes(values)]
    parts = [_strings(value) for value in values]
    shapes = {shape for shape, _ in parts}
    if len(shapes) > 1:
        raise ValueError("rows of different lengths")
    return (len(values), *(shapes.pop() if shapes else ())), [text for _, texts in parts for text in texts]


def _bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and value.keys() == {"b64"}:
        try:
            return base64.b64decode(value["b64"], validate=True)
        except binascii.Error as error:
            raise ValueError("bytes that are not base64") from error
    raise TypeError("neither text nor bytes")


def _text(value: bytes, name: str) -> object:
    if name.endswith("_bytes"):
        return {"b64": base64.b64encode(value).decode()}
    return value.decode(errors="backslashreplace")


def _nested(flat: list[Any], shape: list[int]) -> Any:
    """Nested lists of that shape. Raises ValueError if `flat` does not fill them."""
    if len(flat) != math.prod(shape):
        raise ValueError("values that do not fill the shape")
    for size in reversed(shape[1:]):
        flat = [flat[at : at + size] for at in range(0, len(flat), size)] if size else [[]] * shape[0]
    return flat if shape else flat[0]
