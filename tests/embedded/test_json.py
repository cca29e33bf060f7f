"""JSON to arrays and back, without a model."""

from __future__ import annotations

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from embedded_server.common.errors import InvalidArgument, ServingError, Unimplemented
from embedded_server.execution.signature import DataType, Signature, TensorSpec
from embedded_server.wire.decoding import decode_predict
from embedded_server.wire.encoding import encode_predict
from embedded_server.wire.parsing import decode_base64, parse_request

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


class TestReading:
    def test_rows_of_a_plain_list_become_the_only_input(self) -> None:
        same(decode('{"instances": [[1,2],[3,4],[5,6]]}', x="int32")["x"], [[1, 2], [3, 4], [5, 6]], "int32")

    def test_scalar_rows(self) -> None:
        same(decode('{"instances": [1, 2.5, -3]}', x="float")["x"], [1, 2.5, -3], "float32")

    def test_named_rows(self) -> None:
        text = '{"instances": [{"a": [1, 2], "b": "x"}, {"b": {"b64": "AP8="}, "a": [3, 4]}]}'
        arrays = decode(text, a="double", b="string")
        same(arrays["a"], [[1, 2], [3, 4]], "float64")
        same(arrays["b"], [b"x", b"\x00\xff"], object)

    def test_columns(self) -> None:
        arrays = decode('{"inputs": {"a": [[1], [2]], "b": true, "more": 1}}', a="uint8", b="bool")
        same(arrays["a"], [[1], [2]], "uint8")
        same(arrays["b"], True, "bool")

    def test_columns_of_the_only_input_need_no_name(self) -> None:
        same(decode('{"inputs": [[[1.5]]]}', x="float")["x"], [[[1.5]]], "float32")
        same(decode('{"inputs": {"b64": "AAE="}}', x="string")["x"], b"\x00\x01", object)

    def test_zero_bytes_at_the_end_of_a_string_survive(self) -> None:
        assert decode('{"instances": [{"b64": "YQAA"}]}', x="string")["x"][0] == b"a\x00\x00"

    @pytest.mark.parametrize(
        ("text", "shape"), [('{"inputs": []}', (0,)), ('{"instances": [[], []]}', (2, 0))]
    )
    def test_empty_lists(self, text: str, shape: tuple[int, ...]) -> None:
        for dtype in ("float", "int64", "bool", "string"):
            assert decode(text, x=dtype)["x"].shape == shape

    @pytest.mark.parametrize("dtype", ["half", "bfloat16", "float", "double"])
    def test_every_float_dtype(self, dtype: str) -> None:
        same(decode('{"instances": [0, 1, -2.5, 1e-3]}', x=dtype)["x"], [0, 1, -2.5, 1e-3], NUMPY[dtype])

    @pytest.mark.parametrize(
        "dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
    )
    def test_every_integer_dtype_to_its_bounds(self, dtype: str) -> None:
        bounds = np.iinfo(NUMPY[dtype])
        values = [int(bounds.min), 1, int(bounds.max)]
        same(decode(json.dumps({"instances": values}), x=dtype)["x"], values, dtype)
        for outside in (bounds.min - 1, bounds.max + 1):
            assert "is not of expected type" in refusal(json.dumps({"instances": [outside]}), x=dtype)

    @pytest.mark.parametrize(
        ("word", "value"),
        [("NaN", np.nan), ("-NaN", np.nan), ("Infinity", np.inf), ("-Infinity", -np.inf), ("-Inf", -np.inf)],
    )
    @pytest.mark.parametrize("dtype", ["float", "double", "half"])
    def test_what_json_lacks(self, word: str, value: float, dtype: str) -> None:
        array = decode(f'{{"instances": [1, {word}, 2.5]}}', x=dtype)["x"]
        same(array, [1, value, 2.5], NUMPY[dtype])

    def test_such_words_in_strings_stay_text(self) -> None:
        arrays = decode('{"instances": [{"t": "a \\"NaN Inf", "x": NaN}]}', t="string", x="float")
        assert arrays["t"][0] == b'a "NaN Inf'

    def test_texts_with_escapes_beside_what_json_lacks(self) -> None:
        arrays = decode(
            r'{"inputs": {"t": ["\\", "NaN", "\"-NaN"], "x": [-NaN, Inf]}}', t="string", x="float"
        )
        assert arrays["t"].tolist() == [b"\\", b"NaN", b'"-NaN']
        same(arrays["x"], [np.nan, np.inf], "float32")

    def test_text_is_utf8(self) -> None:
        assert decode('{"instances": ["grün \\u00fc"]}', x="string")["x"][0] == "grün ü".encode()

    def test_large_arrays_equal_numpy(self) -> None:
        values = np.random.default_rng(0).normal(size=(3, 50, 40, 3)).astype(np.float32)
        same(decode(json.dumps({"instances": values.tolist()}), x="float")["x"], values, "float32")


class TestRefusing:
    """Messages and cases of TensorFlow Serving's json_tensor_test.cc, and more."""

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "JSON Parse error: The document is empty"),
            ("instances = [1]", "JSON Parse error: "),
            ('{"instances": [1', "JSON Parse error: "),
            ('{"instances": [NaN', "JSON Parse error: "),
            ('{"instances": [nan]}', "JSON Parse error: "),
            ("[" * 100_000, "JSON Parse error: "),
            ("[" * 100_000 + "NaN", "JSON Parse error: "),
            ("[1]", "Is not object"),
            ("{}", "Missing 'inputs' or 'instances' key"),
            ('{"signature_name": 5, "instances": [1]}', "must be a string value"),
            ('{"signature_name": "no", "instances": [1]}', 'Serving signature name: "no" not found'),
            ('{"instances": [1], "inputs": [1]}', "only one of 'inputs' or 'instances'"),
            ('{"instances": 1}', "to be an list/array"),
            ('{"instances": []}', "No values in 'instances' array"),
            ('{"instances": [[1,2],[3,4],[5,6,7]]}', "Expecting tensor size: 2 but got: 3"),
            ('{"instances": [[1,2],[3,4],[[5,6]]]}', "Expecting shape [2] but got: [1,2]"),
            ('{"instances": [1, [1]]}', "Expecting shape [] but got: [1]"),
            ('{"instances": [[[1],[2,3]]]}', "Encountered list at unexpected size: 2 at level: 1"),
            ('{"instances": [[1,[2]]]}', "Encountered list at unexpected level: 1"),
            ('{"instances": [[[1],2]]}', "found at incorrect level: 2"),
            ('{"instances": [[1,2],["a","b"]]}', "not of expected type: int32"),
            ('{"instances": [null]}', "JSON Value: null Type: Null is not of expected type: int32"),
            ('{"instances": [true]}', "JSON Value: true Type: True is not of expected type: int32"),
            ('{"instances": [1.0]}', "JSON Value: 1.0 Type: Number is not of expected type: int32"),
            ('{"instances": [2147483648]}', "is not of expected type: int32"),
            ('{"instances": [99999999999999999999999]}', "is not of expected type: int32"),
            ('{"instances": [{"x": 1}, [2]]}', "Expecting object but got list at item 1"),
            ('{"instances": [[1], {"x": 1}]}', "Expecting value/list but got object at item 1"),
            ('{"instances": [{"y": 1}]}', "does not have named input: y"),
            ('{"instances": [{}]}', "keys must be equal to: x"),
            ('{"inputs": {"y": 1}}', "Missing named input: x in 'inputs' object."),
            (
                '{"inputs": [[1],[2,3]]}',
                "Encountered list at unexpected size: 2 at level: 1 expected size: 1",
            ),
        ],
    )
    def test_one_integer_input(self, text: str, message: str) -> None:
        assert message in refusal(text, x="int32")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"instances": [[1, 2]]}', "instances is a plain list, but expecting list of objects"),
            ('{"instances": [{"b64": "YQ=="}]}', "instances is a plain list, but expecting list of objects"),
            ('{"instances": [{"a": 1}]}', "keys must be equal to: a,b"),
            ('{"instances": [{"a": 1, "b": 2, "c": 3}]}', "does not have named input: c"),
            ('{"inputs": [1, 2]}', "inputs is a plain value/list, but expecting an object"),
            ('{"inputs": {"a": 1}}', "Missing named input: b"),
            ('{"instances": [{"a": [1], "b": 1}, {"a": [1, 2], "b": 1}]}', "element: 1 key: a of"),
        ],
    )
    def test_two_inputs(self, text: str, message: str) -> None:
        assert message in refusal(text, a="int32", b="int32")

    @pytest.mark.parametrize(
        ("dtype", "value", "expected"),
        [
            ("float", 16777216, 16777216),
            ("float", 16777217, 16777216),
            ("float", 20000001, 20000000),
            ("float", 1764000000, 1764000000),
            ("float", 0.1, np.float32(0.1)),
            ("float", 1e39, np.inf),
            ("float", -1e39, -np.inf),
            ("float", 1e-46, 0),
            ("double", 9007199254740993, 9007199254740992),
            ("double", 18446744073709551615, 18446744073709551616),
            ("double", 1e300, 1e300),
            ("half", 2049, 2048),
            ("half", 70000.0, np.inf),
        ],
    )
    def test_numbers_are_rounded_to_the_type(self, dtype: str, value: float, expected: float) -> None:
        for values in ([value], [0.5, value]):
            (*_, taken) = decode(json.dumps({"instances": values}), x=dtype)["x"]
            assert taken == expected

    @pytest.mark.parametrize("dtype", ["float", "double", "int32", "uint64", "bool", "string"])
    def test_one_value_of_another_type_among_good_ones(self, dtype: str) -> None:
        good: dict[str, Any] = {
            "float": 0.5,
            "double": 1,
            "int32": 1,
            "uint64": 1,
            "bool": True,
            "string": "a",
        }
        for bad in (True, 1, 0.5, "a", None, {"b64": "YQ=="}):
            if type(bad) is type(good[dtype]) or (dtype in ("float", "double") and type(bad) in (int, float)):
                continue
            if dtype == "string" and isinstance(bad, dict):
                continue
            message = refusal(json.dumps({"inputs": [good[dtype], bad, good[dtype]]}), x=dtype)
            assert f"is not of expected type: {dtype}" in message

    def test_large_floats_beside_small_integers(self) -> None:
        same(decode('{"instances": [16777216.0, 3]}', x="float")["x"], [16777216, 3], "float32")

    def test_a_byte_order_mark_is_passed_over(self) -> None:
        same(decode('\ufeff{"instances": [1]}', x="float")["x"], [1], "float32")
        same(decode('\ufeff{"instances": [NaN]}', x="float")["x"], [np.nan], "float32")

    @pytest.mark.parametrize("text", ["!!!!", "YQ=Q", "Y", "é"])
    def test_bad_base64(self, text: str) -> None:
        message = refusal(json.dumps({"instances": [{"b64": text}]}), x="string")
        assert message.endswith("Unable to base64 decode")

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (1, "is not of expected type: string"),
            ({"b64": 1}, "does not have named input: b64"),
            ([{"b64": "YQ==", "x": 1}], "not formatted correctly for base64 data"),
        ],
    )
    def test_what_is_no_string(self, value: Any, message: str) -> None:
        assert message in refusal(json.dumps({"instances": [value]}), x="string")

    @pytest.mark.parametrize("position", [1, 2, 500, 998, 999])
    @pytest.mark.parametrize(
        ("good", "bad", "message"),
        [
            ("1", '"a"', 'JSON Value: "a" Type: String is not of expected type: float'),
            ("[1]", "[1, 2]", "Expecting tensor size: 1 but got: 2"),
            ("[1]", "[[1]]", "Expecting shape [1] but got: [1,1]"),
            ("[1]", "1", "Expecting shape [1] but got: []"),
            ("[]", "[1]", "Expecting tensor size: 0 but got: 1"),
        ],
    )
    def test_the_first_wrong_one_of_many_rows_is_named(
        self, position: int, good: str, bad: str, message: str
    ) -> None:
        rows = [good] * 1000
        rows[position] = bad
        rows[-1] = bad
        answer = refusal(f'{{"instances": [{",".join(rows)}]}}', x="float")
        assert answer.startswith(f"Failed to process element: {position} of 'instances' list.")
        assert message in answer

    def test_a_quote_that_nothing_closes_takes_no_time(self) -> None:
        """It would be hours if each of the quotes looked for its end."""
        assert "JSON Parse error" in refusal('{"x": NaN, "instances": ["' + '\\"' * 10**6, x="string")

    def test_one_wrong_value_among_millions_takes_no_time(self) -> None:
        row = f"[{'1,' * 300}1]"
        message = refusal(f'{{"inputs": [{f"{row}," * 3000}[1]]}}', x="float")
        assert message == "Encountered list at unexpected size: 1 at level: 1 expected size: 301"

    def test_half_a_surrogate_pair(self) -> None:
        assert "JSON Parse error" in refusal('{"instances": ["\\ud800"]}', x="string")
        for text in ("\\ud800", "\\udc00", "\\ud83d!", "\\udc00\\ud800", "\\\\\\ud800"):
            told = refusal(f'{{"instances": ["{text}"], "y": NaN}}', x="string")
            assert "The surrogate pair in string is invalid." in told
        arrays = decode('{"instances": ["\\ud83d\\ude00 \\\\ud800"], "y": NaN}', x="string")
        assert arrays["x"][0] == "\U0001f600 \\ud800".encode()

    def test_a_dtype_that_json_cannot_carry(self) -> None:
        with pytest.raises(Unimplemented, match="Conversion of JSON Value: 1 to type: complex64"):
            decode('{"inputs": [1]}', x="complex64")
        assert "UNIMPLEMENTED" in refusal('{"instances": [1]}', x="complex64")

    @pytest.mark.parametrize("dtype", ["float", "int32", "bool", "string", "complex64"])
    @pytest.mark.parametrize("depth", [65, 900, 1000])
    def test_more_levels_than_an_array_has(self, depth: int, dtype: str) -> None:
        deep = "[" * depth + "]" * depth
        for text in (
            f'{{"inputs": {deep}}}',
            f'{{"instances": {deep}}}',
            f'{{"instances": [1, {deep}]}}',
            f'{{"instances": [{deep}, 1]}}',
            f'{{"instances": [{{"x": {deep}}}]}}',
            f'{{"instances": [{deep}, NaN]}}',
        ):
            refusal(text, x=dtype)

    def test_as_many_levels_as_an_array_has(self) -> None:
        assert decode(f'{{"inputs": {"[" * 64 + "1" + "]" * 64}}}', x="float")["x"].shape == (1,) * 64
        message = refusal(f'{{"inputs": {"[" * 65 + "1" + "]" * 65}}}', x="float")
        assert message == "JSON Value is nested too deeply: a tensor has at most 64 dimensions"

    def test_long_values_are_cut(self) -> None:
        assert len(refusal(json.dumps({"instances": "x" * 10_000}), x="string")) < 400


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
