"""JSON to arrays and back, without a model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from json_documents import NUMPY, decode, refusal, same


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
