"""JSON documents that are refused, with the words of the refusal."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from embedded_server.common.errors import Unimplemented
from json_documents import decode, refusal, same


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
