"""tasks.lib.models.user_requests: a person's photos in requests of any model that takes some."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.lib.client import examples
from tasks.lib.client.inputs import Sample, given_at
from tasks.lib.client.signature import Signature, Tensor, named_signature
from tasks.lib.common.errors import ModelError, SuiteError
from tasks.lib.models import user_requests
from tasks.lib.models.samples import Samples
from tests.helpers.requests import Put, features, metadata, picture

TEXT = Tensor("x", "DT_STRING", (None,))
NAME = "serving_default"


def samples(body: Mapping[str, Any], **inputs: Mapping[str, Any]) -> Samples:
    request = Sample("line-1", json.dumps(body).encode())
    return Samples(Path("requests.jsonl"), (request,), {"signatures": {NAME: {"inputs": inputs}}}, False)


def signature(*inputs: Tensor) -> Signature:
    return Signature(NAME, inputs, ())


def body_of(made: Samples | None, takes: Signature, photo: Path) -> dict[str, Any]:
    (sample,) = user_requests.requests_for(made, takes, [photo])
    assert sample.name == photo.name
    body: dict[str, Any] = json.loads(sample.body)
    return body


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "own.jpg"
    path.write_bytes(picture())
    return path


def encoded(photo: Path) -> dict[str, str]:
    return {"b64": base64.b64encode(photo.read_bytes()).decode()}


def test_an_encoded_photo_in_row_and_in_column_form(photo: Path) -> None:
    for body in (
        {"instances": [{"b64": "AA=="}]},
        {"inputs": {"b64": "AA=="}},
        {"inputs": [{"b64": "AA=="}]},
    ):
        made = samples(body, x={"kind": "photo"})
        (form,) = body
        expected = encoded(photo) if isinstance(body[form], dict) else [encoded(photo)]
        assert body_of(made, signature(TEXT), photo) == {form: expected}


def test_other_inputs_keep_what_the_sample_has(photo: Path) -> None:
    key = Tensor("key", "DT_STRING", (None,))
    made = samples({"instances": [{"key": "k", "x": "old"}]}, x={"kind": "photo"}, key={"kind": "text"})
    assert body_of(made, signature(key, TEXT), photo) == {"instances": [{"key": "k", "x": encoded(photo)}]}


def test_web_safe_base64_without_padding(photo: Path) -> None:
    made = samples({"instances": ["b2xk"]}, x={"kind": "base64 photo"})
    (text,) = body_of(made, signature(TEXT), photo)["instances"]
    assert base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) == photo.read_bytes()


def test_a_photo_in_a_tf_example(photo: Path) -> None:
    old = base64.b64encode(b"\xff\xd8\xffold").decode()
    body = examples.predict_body({"examples": [{"image": {"b64": old}, "n": 1}]})
    made = samples(body, x={"kind": "example"})
    (instance,) = body_of(made, signature(TEXT), photo)["instances"]
    assert features(instance) == {"image": [photo.read_bytes()], "n": [1]}


def test_a_tf_example_without_a_photo_takes_none(photo: Path) -> None:
    made = samples(examples.predict_body({"examples": [{"n": 1}]}), x={"kind": "example"})
    with pytest.raises(ModelError, match="takes no photos"):
        user_requests.requests_for(made, signature(TEXT), [photo])


def test_the_one_size_that_a_model_takes(photo: Path) -> None:
    made = samples({"instances": ["old"]}, x={"kind": "photo", "photo_size": [12, 16]})
    (instance,) = body_of(made, signature(TEXT), photo)["instances"]
    assert Image.open(io.BytesIO(base64.b64decode(instance["b64"]))).size == (16, 12)


@pytest.mark.parametrize(
    ("shape", "value", "found"),
    [
        ((None, 4, 6, 3), [1, 4, 6, 3], [1, 4, 6, 3]),
        ((1, None, None, 3), [1, 8, 8, 3], [1, 224, 224, 3]),
        ((None, 3, 4, 6), [1, 3, 4, 6], [1, 3, 4, 6]),
        ((4, 6, 3), [4, 6, 3], [4, 6, 3]),
        ((None, 28, 28, 1), [1, 28, 28, 1], [1, 28, 28, 1]),
        (None, [1, 9, 9, 3], [1, 9, 9, 3]),
        ((2, 4, 4, 3), [2, 4, 4, 3], [2, 4, 4, 3]),
    ],
)
def test_pixels_have_the_shape_of_the_sample(
    photo: Path, shape: tuple[int | None, ...] | None, value: list[int], found: list[int]
) -> None:
    made = samples({"inputs": np.zeros(value).tolist()}, x={"kind": "pixels", "pixels": "0..255"})
    pixels = np.array(body_of(made, signature(Tensor("x", "DT_FLOAT", shape)), photo)["inputs"])
    assert list(pixels.shape) == found
    assert pixels.min() < 40
    assert pixels.max() > 200


def test_a_model_that_takes_none_is_told_before_anything_is_sent(photo: Path) -> None:
    words = samples({"instances": ["word"]}, x={"kind": "words"})
    for made in (words, None):
        takes = signature(TEXT) if made else signature(Tensor("x", "DT_FLOAT", (None, 2)))
        with pytest.raises(ModelError) as told:
            user_requests.requests_for(made, takes, [photo])
        assert told.value.problem.startswith(
            "The model takes no photos (its signature serving_default takes: x "
        )


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "no.jpg").write_bytes(b"text")
    made = samples({"instances": ["old"]}, x={"kind": "photo"})
    with pytest.raises(SuiteError, match="not an image"):
        user_requests.requests_for(made, signature(TEXT), [tmp_path / "no.jpg"])


# Files of requests


def described(name: str, **tensors: tuple[str, list[int] | None]) -> Signature:
    return named_signature(metadata(name, **tensors), name)


def test_given_requests_are_for_the_signatures_that_they_name(put: Put) -> None:
    lines = b'{"instances": [1]}\n\n{"instances": [2], "signature_name": "scoring"}\n'
    given = given_at(put("some.jsonl", lines))
    assert given.photos == ()
    for name, values in (("serving_default", [1]), ("scoring", [2]), ("other", [])):
        samples = user_requests.given_for(
            given, None, described(name, x=("DT_FLOAT", [-1])), "serving_default"
        )
        assert [json.loads(sample.body)["instances"][0] for sample in samples] == values


def test_a_request_that_names_none_is_for_the_default_signature(put: Put) -> None:
    given = given_at(put("some.jsonl", b'{"instances": [1]}'))
    assert (
        len(user_requests.given_for(given, None, described("scoring", x=("DT_FLOAT", [-1])), "scoring")) == 1
    )


def test_given_photos_are_for_every_signature_that_takes_some(put: Put) -> None:
    given = given_at(put("cat.png", picture("PNG")))
    takes = described("photos", image_bytes=("DT_STRING", [-1]))
    assert [sample.name for sample in user_requests.given_for(given, None, takes, "serving_default")] == [
        "cat.png"
    ]
    assert (
        user_requests.given_for(given, None, described("numbers", x=("DT_FLOAT", [-1, 2])), "serving_default")
        == []
    )


def test_requests_are_sent_with_the_name_of_their_signature(put: Put) -> None:
    file = put("some.jsonl", b'{"instances": [1]}')
    takes = described("scoring", x=("DT_FLOAT", [-1]))
    (sample,) = user_requests.from_path(file, None, takes, "scoring")
    assert json.loads(sample.body) == {"signature_name": "scoring", "instances": [1]}
    with pytest.raises(SuiteError, match="no request for the signature 'scoring', only for: other"):
        user_requests.from_path(file, None, takes, "other")
