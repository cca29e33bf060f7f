"""tasks.lib.client.inputs: pixels and made-up values as predict requests."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.lib.client import inputs
from tasks.lib.client.inputs import NUMPY_NAMES, given_at, requests_for, requests_of
from tasks.lib.client.signature import Signature, named_signature
from tasks.lib.common.errors import ModelError, SuiteError
from tests.helpers.input_samples import instances
from tests.helpers.requests import HEIGHT, WIDTH, Put, metadata, picture


@pytest.mark.parametrize("dtype", ["DT_FLOAT", "DT_HALF", "DT_BFLOAT16", "DT_DOUBLE"])
def test_float_pixels_are_between_0_and_1(put: Put, dtype: str) -> None:
    photo = put("photo.jpg", picture("PNG"))
    (instance,) = instances(requests_for(metadata(x=(dtype, [-1, 24, 16, 3])), [photo]))
    pixels = np.asarray(instance)
    assert pixels.shape == (24, 16, 3)
    assert pixels.dtype == float
    assert pixels.min() < 0.05
    assert 0.95 < pixels.max() <= 1.0
    assert pixels.min() >= 0


@pytest.mark.parametrize("dtype", ["DT_UINT8", "DT_INT32", "DT_INT64"])
def test_whole_pixels_are_between_0_and_255(put: Put, dtype: str) -> None:
    photo = put("photo.jpg", picture("PNG"))
    (instance,) = instances(requests_for(metadata(x=(dtype, [-1, 24, 16, 3])), [photo]))
    pixels = np.asarray(instance)
    assert pixels.shape == (24, 16, 3)
    assert pixels.dtype == int
    assert pixels.min() < 10
    assert 245 < pixels.max() <= 255


@pytest.mark.parametrize(
    ("shape", "sent"),
    [
        ([-1, 24, 16, 3], (24, 16, 3)),
        ([1, 24, 16, 3], (24, 16, 3)),
        ([-1, -1, -1, 3], (224, 224, 3)),
        ([-1, -1, 16, 3], (224, 16, 3)),
    ],
)
def test_sizes_that_are_free_are_those_of_a_usual_model(
    put: Put, shape: list[int], sent: tuple[int, ...]
) -> None:
    photo = put("photo.png", picture("PNG", "RGBA"))
    (instance,) = instances(requests_for(metadata(x=("DT_UINT8", shape)), [photo]))
    assert np.asarray(instance).shape == sent


def test_pixels_keep_their_place_and_colour(put: Put) -> None:
    pixels = np.zeros((8, 8, 3), "uint8")
    pixels[:4, :, 0] = 255  # red above
    pixels[:, :4, 2] = 255  # blue at the left
    written = BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    photo = put("photo.png", written.getvalue())
    (instance,) = instances(requests_for(metadata(x=("DT_UINT8", [-1, 8, 8, 3])), [photo]))
    assert instance == pixels.tolist()


def test_a_request_of_pixels_is_about_a_megabyte(put: Put) -> None:
    (sample,) = requests_for(metadata(x=("DT_FLOAT", [-1, 224, 224, 3])), [put("a.jpg", picture())])
    assert len(sample.body) < 1_300_000


def test_pixels_of_what_is_no_image_are_told(put: Put) -> None:
    with pytest.raises(SuiteError, match="is not an image"):
        requests_for(metadata(x=("DT_FLOAT", [-1, 8, 8, 3])), [put("a.jpg", b"text")])


PHOTOS = [Path(f"{n}.jpg") for n in range(3)]
"""Only their number counts; they are not there."""


@pytest.mark.parametrize("dtype", sorted(NUMPY_NAMES))
def test_values_are_of_the_type_and_shape_of_the_input(dtype: str) -> None:
    for instance in instances(requests_for(metadata(x=(dtype, [-1, 4, -1])), PHOTOS)):
        values = np.asarray(instance)
        assert values.shape == (4, inputs.FREE_SIZE)
        if dtype == "DT_BOOL":
            assert values.dtype == bool
        elif np.dtype(NUMPY_NAMES[dtype]).kind in "iu":
            assert values.dtype == int
            assert set(values.flat) == {0, 1}
        else:
            assert values.dtype == float
            assert 0 <= values.min() < values.max() <= 1


def test_values_are_the_same_in_every_run() -> None:
    model = metadata(a=("DT_FLOAT", [-1, 6]), b=("DT_INT32", [-1, 20]), c=("DT_BOOL", [-1, 20]))
    assert requests_for(model, PHOTOS) == requests_for(model, PHOTOS)


def test_values_differ_between_samples_and_between_inputs() -> None:
    model = metadata(**{name: ("DT_FLOAT", [-1, 6]) for name in ("a", "b")})
    values = [tuple(instance[name]) for instance in instances(requests_for(model, PHOTOS)) for name in "ab"]
    assert len(set(values)) == len(values) == 6


def test_a_single_input_goes_without_its_name_and_several_with_theirs() -> None:
    (bare, *_) = instances(requests_for(metadata(x=("DT_FLOAT", [-1, 2])), PHOTOS))
    assert isinstance(bare, list)
    (named, *_) = instances(requests_for(metadata(x=("DT_FLOAT", [-1, 2]), y=("DT_INT64", [-1])), PHOTOS))
    assert set(named) == {"x", "y"}
    assert named["y"] in (0, 1)


@pytest.mark.parametrize("shape", [[-1], None])
@pytest.mark.parametrize("dtype", ["DT_FLOAT", "DT_BOOL", "DT_INT32"])
def test_one_value_for_each_instance(dtype: str, shape: list[int] | None) -> None:
    for instance in instances(requests_for(metadata(x=(dtype, shape)), PHOTOS)):
        assert isinstance(instance, (int, float, bool))


def test_text_is_text() -> None:
    model = metadata(words=("DT_STRING", [-1, 2]), length=("DT_INT32", [-1]))
    first, second, _ = instances(requests_for(model, PHOTOS))
    assert first["words"] == ["text 1", "text 1"]
    assert second["words"] == ["text 2", "text 2"]


def test_several_inputs_of_images_get_made_up_values() -> None:
    model = metadata(left=("DT_FLOAT", [-1, 4, 4, 3]), right=("DT_FLOAT", [-1, 4, 4, 3]))
    (first, *_) = instances(requests_for(model, PHOTOS))
    assert np.asarray(first["left"]).shape == np.asarray(first["right"]).shape == (4, 4, 3)
    assert first["left"] != first["right"]


def test_an_unknown_type_is_tried_with_numbers() -> None:
    (first, *_) = instances(requests_for(metadata(x=("DT_COMPLEX64", [-1, 2])), PHOTOS))
    assert np.asarray(first).shape == (2,)


@pytest.mark.parametrize("dtype", ["DT_FLOAT", "DT_STRING"])
def test_an_input_without_a_batch_is_told(dtype: str) -> None:
    with pytest.raises(ModelError) as told:
        requests_for(metadata(x=("DT_FLOAT", [-1, 2]), rate=(dtype, [])), PHOTOS)
    assert "The input 'rate' has no batch dimension" in told.value.problem


def signature(name: str, **tensors: tuple[str, list[int] | None]) -> Signature:
    return named_signature(metadata(name, **tensors), name)


def test_any_signature_gets_requests() -> None:
    (sample,) = requests_of(signature("scoring", x=("DT_FLOAT", [-1])), PHOTOS[:1])
    assert json.loads(sample.body)["signature_name"] == "scoring"


def test_a_folder_may_hold_photos_and_requests(put: Put) -> None:
    put("b.jsonl", b'{"instances": [2]}')
    put("a.json", b'{"instances": [1]}')
    photo = put("cat.JPG", picture())
    put("notes.txt", b"nothing")
    given = given_at(photo.parent)
    assert given.photos == (photo,)
    assert [json.loads(one.body)["instances"] for one in given.requests] == [[1], [2]]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("none", None, "There is no file or folder"),
        ("empty", b"", "There is no photo and no file of JSON requests"),
        ("some.jsonl", b"", "holds no request"),
        ("some.jsonl", b'{"instances": []}', "Line 1 of .* is not a predict, classify or regress request"),
        (
            "some.jsonl",
            b'{"examples": [{"x": [1, 1.5]}]}',
            "Line 1 of .* is not a predict, classify or regress request",
        ),
        ("some.jsonl", b"[1, 2]", "Line 1 of .* is not a predict, classify or regress request"),
        ("some.jsonl", b"\xff", "cannot be read"),
    ],
)
def test_nothing_that_can_be_compared(tmp_path: Path, name: str, content: bytes | None, problem: str) -> None:
    place = tmp_path / name
    if name == "empty":
        place.mkdir()
    elif content is not None:
        place.write_bytes(content)
    with pytest.raises(SuiteError, match=problem):
        given_at(place)


def test_a_signature_that_is_not_the_default_is_named() -> None:
    (sample,) = requests_for(metadata("scoring", x=("DT_FLOAT", [-1])), PHOTOS[:1])
    assert json.loads(sample.body)["signature_name"] == "scoring"


@pytest.mark.parametrize(
    ("wanted", "least", "most"), [(None, 0, 1), ("0..1", 0, 1), ("0..255", 0, 255), ("-1..1", -1, 1)]
)
def test_floats_are_in_the_range_that_the_model_expects(
    put: Put, wanted: str | None, least: int, most: int
) -> None:
    takes = signature("serving_default", x=("DT_FLOAT", [-1, HEIGHT, WIDTH, 3]))
    (sample,) = requests_of(takes, [put("slope.png", picture("PNG"))], wanted)
    pixels = np.asarray(json.loads(sample.body)["instances"])
    assert pixels.min() == least
    assert pixels.max() == most
