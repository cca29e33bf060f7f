"""tasks.lib.client.inputs: photos as predict requests."""

from __future__ import annotations

import base64
import random
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.lib.client import inputs
from tasks.lib.client.inputs import photos_in, requests_for
from tasks.lib.common.errors import SuiteError
from tasks.lib.common.settings import Settings
from tests.helpers.input_samples import instances
from tests.helpers.requests import HEIGHT, WIDTH, Put, metadata, picture

JPEG_MODEL = metadata(image_bytes=("DT_STRING", [-1]))


def sent_jpeg(photo: Path) -> bytes:
    ((encoded),) = instances(requests_for(JPEG_MODEL, [photo]))
    assert list(encoded) == ["b64"]
    return base64.b64decode(encoded["b64"], validate=True)


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
