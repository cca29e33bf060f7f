"""How outputs are written as JSON."""

from __future__ import annotations

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from embedded_server.common.errors import InvalidArgument
from embedded_server.wire.encoding import encode_predict
from embedded_server.wire.parsing import decode_base64
from json_documents import NUMPY


class TestBase64:
    @pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 100, 50_000, 50_001, 50_002])
    def test_any_bytes(self, size: int) -> None:
        import base64

        data = np.random.default_rng(size).bytes(size)
        text = base64.b64encode(data).decode()
        assert decode_base64(text) == data
        assert decode_base64(text.rstrip("=")) == data
        assert decode_base64(text[: size // 2] + " \n" + text[size // 2 :]) == data


def encode(rows: bool = True, **outputs: Any) -> str:
    return encode_predict(outputs, rows).decode()


class TestWriting:
    def test_one_output_drops_its_name(self) -> None:
        array = np.array([[1, 2], [3, 4]], dtype=np.int32)
        assert json.loads(encode(y=array)) == {"predictions": [[1, 2], [3, 4]]}
        assert json.loads(encode(rows=False, y=array)) == {"outputs": [[1, 2], [3, 4]]}

    def test_several_outputs(self) -> None:
        outputs = {
            "a": np.array([[1.0], [2.0]], dtype=np.float32),
            "b": np.array([8, 9], dtype=np.int64),
            "c_bytes": np.array([b"hello", b"tf"], dtype=object),
            "d": np.array([[b"x", b"y"], [b"z", b""]], dtype=object),
        }
        assert json.loads(encode(**outputs)) == {
            "predictions": [
                {"a": [1.0], "b": 8, "c_bytes": {"b64": "aGVsbG8="}, "d": ["x", "y"]},
                {"a": [2.0], "b": 9, "c_bytes": {"b64": "dGY="}, "d": ["z", ""]},
            ]
        }
        assert json.loads(encode(rows=False, **outputs)) == {
            "outputs": {
                "a": [[1.0], [2.0]],
                "b": [8, 9],
                "c_bytes": [{"b64": "aGVsbG8="}, {"b64": "dGY="}],
                "d": [["x", "y"], ["z", ""]],
            }
        }

    def test_floats_are_short_and_exact(self) -> None:
        assert encode(y=np.array([0.2, 1, 9e6, 555557.5], np.float32)) == (
            '{"predictions":[0.2,1.0,9000000.0,555557.5]}'
        )
        values = np.random.default_rng(1).normal(size=2000).astype(np.float32)
        read = np.array(json.loads(encode(y=values))["predictions"], dtype=np.float32)
        np.testing.assert_array_equal(read, values)

    @pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
    def test_nan_and_infinity(self, dtype: Any) -> None:
        array = np.array([[np.nan, np.inf], [3.0, -np.inf]], dtype=dtype)
        assert encode(y=array) == '{"predictions":[[NaN,Infinity],[3.0,-Infinity]]}'
        assert encode(y=array, z=array[:, 1]) == (
            '{"predictions":[{"y":[NaN,Infinity],"z":Infinity},{"y":[3.0,-Infinity],"z":-Infinity}]}'
        )
        assert encode(rows=False, y=array[0, 0]) == '{"outputs":NaN}'

    @pytest.mark.parametrize("name", [name for name in NUMPY if name not in ("string", "complex64")])
    def test_every_dtype(self, name: str) -> None:
        array = np.array([0, 1, 1], dtype=NUMPY[name])
        assert json.loads(encode(y=array)) == {"predictions": [0, 1, 1]}
        assert json.loads(encode(rows=False, y=array[1])) == {"outputs": 1}

    def test_arrays_that_are_not_contiguous(self) -> None:
        array = np.arange(6, dtype=np.float32).reshape(2, 3)
        assert json.loads(encode(y=array.T)) == {"predictions": array.T.tolist()}

    def test_no_rows(self) -> None:
        for outputs in ({"y": np.zeros((0, 2))}, {"y": np.zeros((0, 2)), "z": np.zeros(0, object)}):
            with pytest.raises(InvalidArgument, match="Tensor name: y has invalid batch size: 0"):
                encode_predict(outputs, rows=True)
            assert b'"outputs"' in encode_predict(outputs, rows=False)

    def test_strings_that_are_not_utf8_are_written_as_they_are(self) -> None:
        array = np.array([b'"\xff\n', "ü".encode()], dtype=object)
        assert encode_predict({"y": array}, rows=True) == b'{"predictions":["\\"\xff\\n","\xc3\xbc"]}'

    @pytest.mark.parametrize(
        ("outputs", "message"),
        [
            ({}, "empty tensor map"),
            ({"y": np.array(1)}, "Tensor name: y has no shape information"),
            ({"y": np.zeros(2), "z": np.zeros(3)}, "z has inconsistent batch size: 3 expecting: 2"),
            ({"y": np.zeros(2, np.complex64)}, "Failed to write JSON value for tensor type: complex64"),
        ],
    )
    def test_what_cannot_be_written(self, outputs: dict[str, Any], message: str) -> None:
        with pytest.raises(InvalidArgument, match=message):
            encode_predict(outputs, rows=True)
