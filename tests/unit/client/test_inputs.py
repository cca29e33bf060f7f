"""tasks.lib.client.inputs: photos and made-up values as predict requests."""

from __future__ import annotations

import base64
import json
import random
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.lib.client import inputs
from tasks.lib.client.inputs import NUMPY_NAMES, Sample, given_at, photos_in, requests_for, requests_of
from tasks.lib.client.signature import Signature, named_signature
from tasks.lib.common.errors import ModelError, SuiteError
from tasks.lib.common.settings import Settings
from tests.helpers.requests import HEIGHT, WIDTH, Put, metadata, picture

JPEG_MODEL = metadata(image_bytes=("DT_STRING", [-1]))


def instances(samples: list[Sample]) -> list[Any]:
    """What is in each request, which must be JSON in row form with one instance."""
    found = []
    for sample in samples:
        request = json.loads(sample.body)
        assert list(request) == ["instances"]
        (instance,) = request["instances"]
        found.append(instance)
    return found


def sent_jpeg(photo: Path) -> bytes:
    ((encoded),) = instances(requests_for(JPEG_MODEL, [photo]))
    assert list(encoded) == ["b64"]
    return base64.b64decode(encoded["b64"], validate=True)


# Which photos


def test_a_photo_is_itself(put: Put) -> None:
    photo = put("odd.name", picture())
    assert photos_in(photo) == [photo]


def test_a_folder_gives_its_photos_by_name(put: Put, tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "d.jpeg", "c.webp", "notes.txt", "labels"):
        put(name, b"")
    assert [photo.name for photo in photos_in(tmp_path)] == ["a.png", "b.JPG", "c.webp", "d.jpeg"]


@pytest.mark.parametrize("name", ["", "notes.txt"])
def test_a_folder_without_photos_is_told(put: Put, tmp_path: Path, name: str) -> None:
    if name:
        put(name, b"text")
    with pytest.raises(SuiteError) as told:
        photos_in(tmp_path)
    assert told.value.problem == f"There is no photo in {str(tmp_path)!r}."
    assert ".jpg, .jpeg, .png" in told.value.remedy


def test_a_place_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="There is no photo or folder"):
        photos_in(tmp_path / "nothing.jpg")


def test_the_photos_that_come_with_the_suite(settings: Settings) -> None:
    photos = inputs.sample_photos(settings.paths)
    assert len(photos) >= 8
    assert len(requests_for(JPEG_MODEL, photos)) == len(photos)
    for photo in photos:
        assert sent_jpeg(photo) == photo.read_bytes()
        with Image.open(photo) as image:
            assert 224 < min(image.size) <= max(image.size) <= 800


def test_only_as_many_as_asked_for(put: Put) -> None:
    photos = [put(f"{n}.jpg", picture()) for n in range(4)]
    assert [sample.name for sample in requests_for(JPEG_MODEL, photos, 2)] == ["0.jpg", "1.jpg"]
    assert [sample.name for sample in requests_for(JPEG_MODEL, photos)] == [p.name for p in photos]
    numbers = metadata(x=("DT_FLOAT", [-1, 2]))
    assert [sample.name for sample in requests_for(numbers, photos, 3)] == [
        "random-1",
        "random-2",
        "random-3",
    ]


# Encoded images


@pytest.mark.parametrize("shape", [[-1], None])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_is_sent_as_it_is(put: Put, mode: str, shape: list[int] | None) -> None:
    content = picture("JPEG", mode)
    photo = put("photo.jpg", content)
    ((encoded),) = instances(requests_for(metadata(image=("DT_STRING", shape)), [photo]))
    assert base64.b64decode(encoded["b64"]) == content


def test_a_jpeg_is_known_by_its_content(put: Put) -> None:
    content = picture("JPEG")
    assert sent_jpeg(put("photo.png", content)) == content


@pytest.mark.parametrize(
    ("format", "mode"),
    [
        ("PNG", "RGB"),
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("PNG", "L"),
        ("PNG", "LA"),
        ("PNG", "1"),
        ("GIF", "P"),
        ("BMP", "RGB"),
        ("WEBP", "RGB"),
        ("TIFF", "CMYK"),
    ],
)
def test_any_other_image_becomes_a_jpeg(put: Put, format: str, mode: str) -> None:
    with Image.open(BytesIO(sent_jpeg(put("photo.any", picture(format, mode))))) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (WIDTH, HEIGHT))


def test_a_converted_image_looks_the_same(put: Put) -> None:
    content = picture("PNG")
    with (
        Image.open(BytesIO(content)) as before,
        Image.open(BytesIO(sent_jpeg(put("a.png", content)))) as after,
    ):
        apart = np.abs(np.asarray(before, dtype=int) - np.asarray(after, dtype=int))
    assert apart.mean() < 3


# What is no image


def test_a_missing_photo_is_told(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="There is no photo"):
        requests_for(JPEG_MODEL, [tmp_path / "nothing.jpg"])


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\0" * 5000]
)
def test_what_is_no_image_is_told(put: Put, content: bytes) -> None:
    photo = put("photo.jpg", content)
    with pytest.raises(SuiteError) as told:
        requests_for(JPEG_MODEL, [photo])
    assert f"{str(photo)!r} is not an image" in told.value.problem
    assert told.value.remedy == "Choose a JPEG photo."


def test_a_folder_named_like_a_photo_is_told(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").mkdir()
    with pytest.raises(SuiteError, match="is not an image that can be read"):
        requests_for(JPEG_MODEL, [tmp_path / "photo.jpg"])


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95])
def test_a_truncated_jpeg_is_told(put: Put, kept: float) -> None:
    whole = picture(size=(300, 200))
    photo = put("photo.jpg", whole[: int(len(whole) * kept)])
    with pytest.raises(SuiteError, match=r"is not an image that can be read \(.*truncated"):
        requests_for(JPEG_MODEL, [photo])


@pytest.mark.parametrize("format", ["PNG", "GIF", "BMP", "WEBP", "TIFF", "JPEG"])
def test_a_damaged_file_is_sent_or_told_but_never_a_traceback(put: Put, format: str) -> None:
    """Decoders raise all sorts of things: 40 files with some bytes changed or the end missing."""
    chance = random.Random(format)
    for _ in range(40):
        content = bytearray(picture(format, "P" if format == "GIF" else "RGB"))
        for _ in range(chance.randint(1, 8)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        photo = put("photo", bytes(content[: chance.randint(len(content) // 2, len(content))]))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow warns of odd metadata
                sent = sent_jpeg(photo)
        except SuiteError as told:
            assert "is not an image" in told.problem  # noqa: PT017
        else:
            assert sent[:2] == b"\xff\xd8"


def png_of(width: int, height: int) -> bytes:
    """A PNG of one colour: a few kilobytes, however large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + checksum

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    squeeze = zlib.compressobj(9)
    row = b"\0" * (width // 8 + 1)
    rows = b"".join(squeeze.compress(row) for _ in range(height)) + squeeze.flush()
    parts = chunk(b"IHDR", size + b"\x01\0\0\0\0"), chunk(b"IDAT", rows), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(("width", "height"), [(10_000, 9_500), (20_000, 20_000)])
def test_a_bomb_is_told_and_not_unpacked(put: Put, width: int, height: int) -> None:
    """Pillow only warns of the first size, and refuses the second."""
    photo = put("bomb.png", png_of(width, height))
    assert photo.stat().st_size < 200_000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pytest's own setting would make an error of the warning
        with pytest.raises(SuiteError, match=r"that can be read \(.*decompression bomb"):
            requests_for(JPEG_MODEL, [photo])


def test_the_bombs_are_real_images(put: Put) -> None:
    assert sent_jpeg(put("small.png", png_of(64, 64)))[:2] == b"\xff\xd8"


# Pixels


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


# Any other model


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
