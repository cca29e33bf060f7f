"""tasks.lib.client.examples: classify and regress bodies, and photos in tf.Examples."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tasks.lib.client import examples
from tests.helpers.requests import features


def test_each_example_is_an_instance() -> None:
    said = {"signature_name": "score", "examples": [{"age": 3, "name": "a"}, {"age": [1, 2], "x": 0.5}]}
    body = examples.predict_body(said)
    assert body["signature_name"] == "score"
    first, second = map(features, body["instances"])
    assert first == {"age": [3], "name": [b"a"]}
    assert second == {"age": [1, 2], "x": [0.5]}


def test_a_feature_of_the_example_goes_before_that_of_the_context() -> None:
    body = examples.predict_body({"context": {"a": 1, "b": "c"}, "examples": [{"a": 2}]})
    assert features(body["instances"][0]) == {"a": [2], "b": [b"c"]}
    assert "signature_name" not in body


def test_bytes_truth_values_and_empty_lists() -> None:
    (one,) = examples.predict_body({"examples": [{"x": {"b64": "/w=="}, "y": True, "z": []}]})["instances"]
    assert features(one) == {"x": [b"\xff"], "y": [1], "z": []}


@pytest.mark.parametrize(
    "said",
    [
        {"examples": []},
        {"examples": {}},
        {"examples": [{"x": [1, "a"]}]},
        {"examples": [{"x": [1, 2.5]}]},
        {"examples": [{"x": None}]},
        {"examples": [{"x": {"b64": "?"}}]},
        {"examples": [1]},
        {"examples": [{"x": 2**63}]},
    ],
)
def test_what_is_no_example_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        examples.predict_body(said)


def test_a_photo_takes_the_place_of_the_photo_in_an_example() -> None:
    photo = base64.b64encode(b"\xff\xd8\xffold").decode()
    example = examples.predict_body({"examples": [{"image": {"b64": photo}, "key": "k", "n": 1}]})
    changed = examples.with_photo(example["instances"][0], b"new")
    assert features(changed) == {"image": [b"new"], "key": [b"k"], "n": [1]}  # type: ignore[arg-type]


@pytest.mark.parametrize("example", [{"b64": ""}, {"b64": "/////w=="}, "text", 3])
def test_an_example_without_a_photo_is_told(example: object) -> None:
    with pytest.raises(ValueError, match="no "):
        examples.with_photo(example, b"new")
