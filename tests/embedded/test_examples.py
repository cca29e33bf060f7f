"""JSON to tf.Examples, without a model."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf
from embedded_server.common.errors import InvalidArgument
from embedded_server.wire.examples import decode_examples
from embedded_server.wire.parsing import parse_request


def decode(text: str) -> list[dict[str, tuple[str | None, list[Any]]]]:
    """The features of each example: name -> kind and values."""
    decoded = []
    for serialized in decode_examples(parse_request(text.encode())).examples:
        features = tf.train.Example.FromString(serialized).features.feature
        decoded.append({name: _content(feature) for name, feature in features.items()})
    return decoded


def _content(feature: Any) -> tuple[str | None, list[Any]]:
    kind = feature.WhichOneof("kind")
    return kind, [] if kind is None else list(getattr(feature, kind).value)


@pytest.mark.parametrize(
    ("value", "kind", "values"),
    [
        ("1", "int64_list", [1]),
        ("[1, -2, 9223372036854775807]", "int64_list", [1, -2, 2**63 - 1]),
        ("[true, false, 7]", "int64_list", [1, 0, 7]),
        ("1.0", "float_list", [1.0]),
        ("[0.5, 1e3, -2.0]", "float_list", [0.5, 1000.0, -2.0]),
        ("[Infinity]", "float_list", [float("inf")]),
        ("18446744073709551616", "float_list", [2.0**64]),
        ('"zwölf"', "bytes_list", ["zwölf".encode()]),
        ('["a", {"b64": "AP8="}]', "bytes_list", [b"a", b"\x00\xff"]),
        ("[]", None, []),
    ],
)
def test_kinds_of_features(value: str, kind: str | None, values: list[Any]) -> None:
    assert decode(f'{{"examples": [{{"f": {value}}}]}}') == [{"f": (kind, values)}]


def test_a_context_is_part_of_every_example() -> None:
    text = '{"context": {"a": 1, "b": "c"}, "examples": [{"x": 1.5}, {"a": 2}, {}]}'
    a, b = {"a": ("int64_list", [1])}, {"b": ("bytes_list", [b"c"])}
    assert decode(text) == [
        {**a, **b, "x": ("float_list", [1.5])},
        {"a": ("int64_list", [2]), **b},
        {**a, **b},
    ]


def test_signature_name() -> None:
    assert decode_examples({"examples": [{}], "signature_name": "s"}).signature == "s"
    assert decode_examples({"examples": [{}]}).signature == "serving_default"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "key 'examples' is expected and was not found"),
        ('{"examples": {}}', "Expecting 'examples' value to be an list/array"),
        ('{"examples": []}', "'examples' value is an empty array"),
        ('{"examples": [1]}', "Example must be JSON object but got JSON Number"),
        ('{"examples": [{}], "context": []}', "Example must be JSON object but got JSON Array"),
        ('{"examples": [{"f": [1, 1.5]}]}', "Unexpected element type in feature: f expecting type: int64"),
        ('{"examples": [{"f": [1.5, "a"]}]}', "Unexpected element type in feature: f expecting type: float"),
        ('{"examples": [{"f": ["a", true]}]}', "Unexpected element type in feature: f expecting type: bytes"),
        ('{"examples": [{"f": [null]}]}', "Feature: f has element with unexpected JSON type: Null"),
        ('{"examples": [{"f": [[1]]}]}', "Feature: f has element with unexpected JSON type: Array"),
        ('{"examples": [{"f": {"b64": "AA==", "c": 1}}]}', "unexpected JSON type: Object"),
        ('{"examples": [{"f": {"b64": "!"}}]}', "Unable to base64 decode"),
        ('{"examples": [{"f": 9223372036854775808}]}', "has uint64 element. Only int64 is supported."),
        ('{"examples": [{"f": [NaN, "\\ud800"]}]}', "surrogate pair in string is invalid"),
        ('{"examples": [{"f": [NaN], "\\ud800": 1}]}', "surrogate pair in string is invalid"),
        ('{"examples": [{}], "signature_name": 1}', "'signature_name' key must be a string value"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode(text)
    assert message in str(caught.value)
