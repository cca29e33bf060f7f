"""What a signature of a SavedModel takes and gives, in terms that need no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True)
class DataType:
    """A TensorFlow type.

    name: as TensorFlow's messages write it ("float", "int64", "string").
    numpy: the type of arrays fed and fetched; object (elements are bytes) for strings, None where an
        array cannot hold the type (resources, quantized types, the DT_INVALID of an operation).
    """

    name: str
    numpy: np.dtype[Any] | None


def _data_type(name: str, numpy: Any = None) -> DataType:
    return DataType(name, None if numpy is None else np.dtype(numpy))


# tensorflow/core/framework/types.proto: the number of each DataType, and its name by DataTypeString().
_DATA_TYPES: Mapping[int, DataType] = {
    1: _data_type("float", np.float32),
    2: _data_type("double", np.float64),
    3: _data_type("int32", np.int32),
    4: _data_type("uint8", np.uint8),
    5: _data_type("int16", np.int16),
    6: _data_type("int8", np.int8),
    7: _data_type("string", np.object_),
    8: _data_type("complex64", np.complex64),
    9: _data_type("int64", np.int64),
    10: _data_type("bool", np.bool_),
    11: _data_type("qint8"),
    12: _data_type("quint8"),
    13: _data_type("qint32"),
    14: _data_type("bfloat16", ml_dtypes.bfloat16),
    15: _data_type("qint16"),
    16: _data_type("quint16"),
    17: _data_type("uint16", np.uint16),
    18: _data_type("complex128", np.complex128),
    19: _data_type("half", np.float16),
    20: _data_type("resource"),
    21: _data_type("variant"),
    22: _data_type("uint32", np.uint32),
    23: _data_type("uint64", np.uint64),
}

_NUMBERS = {known.numpy: number for number, known in _DATA_TYPES.items() if known.numpy is not None}


def data_type(number: int) -> DataType:
    """The type that a message names by number."""
    return _DATA_TYPES.get(number, DataType(f"unknown dtype enum ({number})", None))


def number_of(numpy: np.dtype[Any]) -> int:
    """The number of the type whose arrays have this numpy type."""
    return _NUMBERS[numpy]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output.

    name: the tensor in the graph ("serving_default_x:0"), not the name that clients use.
    shape: one entry for each dimension, None where any size goes; None altogether for unknown rank.
    """

    name: str
    dtype: DataType
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    """A function of a model; inputs and outputs by the names that clients use."""

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str


def signatures_of(signature_defs: Mapping[str, Any]) -> dict[str, Signature]:
    """Turn SignatureDef messages (tensorflow/core/protobuf/meta_graph.proto) into Signatures, by name."""
    return {
        name: Signature(name, _specs(proto.inputs.items()), _specs(proto.outputs.items()), proto.method_name)
        for name, proto in signature_defs.items()
    }


def _specs(tensor_infos: Iterable[tuple[str, Any]]) -> dict[str, TensorSpec]:
    # Sorted: a protobuf map has no order, and answers should not change theirs from run to run.
    return {alias: _spec(info) for alias, info in sorted(tensor_infos)}


def _spec(info: Any) -> TensorSpec:
    shape = None
    if not info.tensor_shape.unknown_rank:
        shape = tuple(None if dim.size < 0 else int(dim.size) for dim in info.tensor_shape.dim)
    return TensorSpec(info.name, data_type(info.dtype), shape)
