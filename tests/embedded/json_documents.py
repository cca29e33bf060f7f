"""JSON documents and the signatures that they are for."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from embedded_server.common.errors import ServingError
from embedded_server.execution.signature import DataType, Signature, TensorSpec
from embedded_server.wire.decoding import decode_predict
from embedded_server.wire.parsing import parse_request

NUMPY = {
    "float": np.float32,
    "double": np.float64,
    "half": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "int8": np.int8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
    "uint8": np.uint8,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "uint64": np.uint64,
    "bool": np.bool_,
    "string": np.object_,
    "complex64": np.complex64,
}


def signature(**inputs: str) -> dict[str, Signature]:
    specs = {
        name: TensorSpec(f"{name}:0", DataType(dtype, np.dtype(NUMPY[dtype])), None)
        for name, dtype in inputs.items()
    }
    return {"serving_default": Signature("serving_default", specs, {}, "tensorflow/serving/predict")}


def decode(text: str, **inputs: str) -> dict[str, Any]:
    request = decode_predict(parse_request(text.encode()), signature(**inputs))
    return dict(request.inputs)


def refusal(text: str, **inputs: str) -> str:
    with pytest.raises(ServingError) as caught:
        decode(text, **inputs)
    assert caught.value.http_status == 400
    return str(caught.value)


def same(actual: Any, expected: Any, dtype: Any) -> None:
    expected = np.array(expected, dtype=dtype)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)
