"""Values that fit what a model does with an input: photos, words, numbers in range."""

from __future__ import annotations

import base64
import io
import math
import re
import wave
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tensorflow.core.example import example_pb2

from embedded_server.execution.backend import Array
from embedded_server.execution.signature import DataType, TensorSpec
from embedded_server.samples.uses import (
    MINUS_ONE_TO_ONE,
    PIXEL_RANGES,
    ZERO_TO_255,
    ZERO_TO_ONE,
    Feature,
    Use,
)

_Random = np.random.Generator

SENTENCES = (
    "The museum opens at nine and closes at five.",
    "A quick brown fox jumps over the lazy dog",
    "This was the worst film I have ever seen!",
    "What a wonderful little restaurant, we will come back.",
    "Shipping took three weeks and the box was broken",
    "for number in range(10): print(number * 2)",
    "Water boils at 100 degrees at sea level.",
    "Die Sonne scheint heute den ganzen Tag.",
    "¿Dónde está la estación de tren más cercana?",
    "He said nothing, and she did not ask again.",
    "Prices rose by 4.2 percent in the last quarter.",
    "yes",
)
"""For models of which no vocabulary is known."""
_MOST_WORDS = 9
_MAGNITUDES = (1.0, 0.1, 10.0, 3.0)
_LARGEST = (2, 10, 100, 1000)
"""Of whole numbers of which nothing is known."""
_LARGEST_DIVIDED = 10**13
_SHARES = ("prob", "rate", "keep", "dropout", "threshold", "temperature", "ratio")
"""In names of numbers between 0 and 1."""
_DIGITS = 4
_SECONDS, _SAMPLE_RATE = 1, 16_000
"""Of audio files."""
_SHAPES = re.compile(r"\[(\d+),\s*(\d+),\s*[13]\].*\[(\d+),\s*(\d+),\s*[13]\]")
"""Of an image, in an error: the one that it had, then the one that it should have."""
_VALUES = re.compile(r"values, but the requested shape has (\d+)")
_LARGEST_SIDE = 4096
_LEAST_SIDE = 8
"""Of what is taken for an image."""


@dataclass(frozen=True)
class Kind:
    """How an input is filled.

    name: photo, audio, example, words, text, number text, csv, pixels, ids, numbers, positive numbers, zeros
        or flags.
    is_base64: whether texts are web-safe base64 of it.
    """

    name: str
    is_base64: bool = False

    def __str__(self) -> str:
        return f"base64 {self.name}" if self.is_base64 else self.name


class Filler:
    """Fills arrays. The same seed gives the same values."""

    def __init__(self, photos: Sequence[bytes], pixels: str | None) -> None:
        """photos: JPEG files. pixels: the range that a person names; None to go by the graph."""
        self._photos = photos
        self._pixels = pixels
        self.photo_size: tuple[int, int] | None = None
        """Height and width of all photos; None if each has its own."""

    def resized(self, refusal: str) -> Filler | None:
        """With photos of the one size that TensorFlow's message `refusal` asks for; None if it asks for none.

        It tells the shape that the first photo had when it was refused, perhaps cropped by then.
        """
        if not self._photos:
            return None
        height, width = tf.io.decode_jpeg(self._photos[0]).shape[:2]
        size = _size_told(refusal, height, width)
        if size is None:
            return None
        made = Filler([_jpeg_of(photo, size) for photo in self._photos], self._pixels)
        made.photo_size = size
        return made

    def kinds(self, name: str, spec: TensorSpec, use: Use) -> list[Kind]:
        """How this input may be filled, the likeliest first."""
        if spec.dtype.numpy == np.object_:
            return _kinds_of_text(use)
        if spec.dtype.numpy == np.bool_:
            return [Kind("flags")]
        if use.below is None and image_sides(spec.shape) is not None:
            return [Kind("pixels")]
        known = [Kind("ids")] if use.below is not None or use.numbers else []
        return [*known, Kind("numbers"), Kind("positive numbers"), Kind("zeros")]

    def range_of(self, use: Use) -> str | None:
        """The range of pixels; None if neither graph nor person says it."""
        return self._pixels or use.pixels

    def filled(
        self, name: str, spec: TensorSpec, use: Use, kind: Kind, shape: tuple[int, ...], seed: int
    ) -> Array:
        """An array of this shape."""
        random = np.random.default_rng([seed, *name.encode()])
        if kind.name == "pixels":
            return self._pixel_array(spec, use, shape, seed)
        if spec.dtype.numpy != np.object_:
            return _numbers(random, name, spec, use, kind, shape, seed)
        values = [self._text(random, use, kind, seed + number) for number in range(math.prod(shape))]
        if kind.is_base64:
            values = [base64.urlsafe_b64encode(value).rstrip(b"=") for value in values]
        array = np.empty(len(values), np.object_)
        array[:] = values
        return array.reshape(shape)

    def _text(self, random: _Random, use: Use, kind: Kind, seed: int) -> bytes:
        match kind.name:
            case "photo" if self._photos:
                return self._photos[seed % len(self._photos)]
            case "audio":
                return _audio(random)
            case "example":
                return self._example(use.features, seed)
            case "words":
                return _words(random, use)
            case "number text":
                return b"%d" % random.integers(0, _LARGEST[seed % len(_LARGEST)])
            case "csv":
                return b",".join(b"%d" % number for number in random.integers(0, 10, 4))
        return SENTENCES[seed % len(SENTENCES)].encode()

    def _example(self, features: Sequence[Feature], seed: int) -> bytes:
        message = example_pb2.Example()
        for feature in features:
            values = message.features.feature[feature.name]
            dtype = (
                np.dtype(np.object_)
                if feature.dtype.name == "string"
                else np.dtype(feature.dtype.as_numpy_dtype)
            )
            spec = TensorSpec(feature.name, DataType(feature.dtype.name, dtype), (feature.size,))
            kind = self.kinds(feature.name, spec, feature.use)[0]
            array = self.filled(feature.name, spec, feature.use, kind, (feature.size,), seed).ravel()
            if dtype == np.object_:
                values.bytes_list.value.extend(array.tolist())
            elif dtype.kind == "i":
                values.int64_list.value.extend(array.tolist())
            else:
                values.float_list.value.extend(array.tolist())
        serialized: bytes = message.SerializeToString(deterministic=True)
        return serialized

    def _pixel_array(self, spec: TensorSpec, use: Use, shape: tuple[int, ...], seed: int) -> Array:
        height, width, channels = image_sides(shape) or (1, 1, 1)
        count = math.prod(shape) // (height * width * channels)
        images = [self._image(height, width, channels, seed + number) for number in range(count)]
        pixels = np.stack(images).astype(np.float64) if images else np.zeros((0, height, width, channels))
        # Where nothing tells the range, samples have each of them in turn.
        is_whole = spec.dtype.numpy is not None and spec.dtype.numpy.kind in "iu"
        match (ZERO_TO_255 if is_whole else self.range_of(use)) or PIXEL_RANGES[seed % len(PIXEL_RANGES)]:
            case value if value == ZERO_TO_ONE:
                pixels = (pixels / 255).round(_DIGITS)
            case value if value == MINUS_ONE_TO_ONE:
                pixels = (pixels / 127.5 - 1).round(_DIGITS)
        dtype = spec.dtype.numpy
        assert dtype is not None
        if dtype == np.int8:
            pixels = pixels - 128
        if _are_channels_first(shape):
            pixels = pixels.transpose(0, 3, 1, 2)
        return np.asarray(pixels.reshape(shape), dtype)

    def _image(self, height: int, width: int, channels: int, seed: int) -> Array:
        if not self._photos:
            return np.random.default_rng(seed).integers(0, 256, (height, width, channels))
        photo = tf.io.decode_jpeg(self._photos[seed % len(self._photos)], channels=1 if channels == 1 else 3)
        image = tf.image.resize(photo, (height, width), antialias=True).numpy()
        return np.asarray(image.clip(0, 255).round())


def _size_told(refusal: str, height: int, width: int) -> tuple[int, int] | None:
    shapes = _SHAPES.search(refusal)
    if shapes is not None:
        had, expected = ([int(shapes[n]) for n in numbers] for numbers in ((1, 2), (3, 4)))
        sides = [side * w / h for side, w, h in zip((height, width), expected, had, strict=True) if h]
        # Crops around the middle of odd sides are a pixel larger.
        whole = [int(side) if side == int(side) else 2 * round(side / 2) for side in sides]
        if len(whole) == 2 and all(0 < side <= _LARGEST_SIDE for side in whole):
            return whole[0], whole[1]
    numbers = _VALUES.search(refusal)
    values = int(numbers[1]) if numbers is not None else 0
    for channels in (3, 1):
        side = math.isqrt(values // channels)
        if 0 < side <= _LARGEST_SIDE and side * side * channels == values:
            return side, side
    return None


def _jpeg_of(photo: bytes, size: tuple[int, int]) -> bytes:
    image = tf.image.resize(tf.io.decode_jpeg(photo, channels=3), size, antialias=True)
    return bytes(tf.io.encode_jpeg(tf.cast(tf.clip_by_value(image, 0, 255), tf.uint8), quality=95).numpy())


def _kinds_of_text(use: Use) -> list[Kind]:
    known = {"number": "number text"}.get(use.decoded, use.decoded)
    if known:
        first = [Kind(known, use.is_base64)]
    elif use.words:
        first = [Kind("words", use.is_base64)]
    else:
        first = [Kind("text", use.is_base64)]
    rest = ("text", *(["words"] if use.words else []), "photo", "number text")
    return first + [Kind(name, use.is_base64) for name in rest if name != first[0].name]


def image_sides(shape: Sequence[int | None] | None) -> tuple[int, int, int] | None:
    """Height, width and channels of what looks like images; None if it does not. Open sides count as 8."""
    # Of three dimensions only without rows: others are sequences.
    if shape is None or not (len(shape) == 4 or (len(shape) == 3 and None not in shape)):
        return None
    if shape[-1] in (1, 3):
        sides: tuple[int | None, ...] = (shape[-3], shape[-2], shape[-1])
    elif _are_channels_first(shape):
        sides = shape[-2], shape[-1], shape[-3]
    else:
        return None
    height, width, channels = (_LEAST_SIDE if side is None else side for side in sides)
    return (height, width, channels) if min(height, width) >= _LEAST_SIDE else None


def _are_channels_first(shape: Sequence[int | None]) -> bool:
    return len(shape) == 4 and shape[1] in (1, 3) and shape[-1] not in (1, 3)


def _numbers(
    random: _Random, name: str, spec: TensorSpec, use: Use, kind: Kind, shape: tuple[int, ...], seed: int
) -> Array:
    dtype = spec.dtype.numpy
    assert dtype is not None
    if dtype == np.bool_:
        return np.asarray(random.random(shape) < 0.5) if shape else np.asarray(bool(seed % 2))
    if kind.name == "zeros":
        return np.zeros(shape, dtype)
    if kind.name == "ids":
        if use.numbers:
            return np.asarray(random.choice(use.numbers, shape), dtype)
        return np.asarray(random.integers(0, max(1, use.below or 1), shape), dtype)
    least = 1 if kind.name == "positive numbers" else 0
    if dtype.kind in "iu":
        largest = 2 if "mask" in name.lower() else _LARGEST[seed % len(_LARGEST)]
        if use.is_divided and seed % 2:
            largest = _LARGEST_DIVIDED
        largest = min(largest, int(np.iinfo(dtype).max) - least)
        return np.asarray(random.integers(least, largest + least, shape), dtype)
    if dtype.kind == "c":
        return np.asarray(random.standard_normal(shape) + 1j * random.standard_normal(shape), dtype)
    if any(part in name.lower() for part in _SHARES):
        return np.asarray((0.5 + 0.5 * random.random(shape)).round(_DIGITS), dtype)
    numbers = random.standard_normal(shape) * _MAGNITUDES[seed % len(_MAGNITUDES)]
    numbers = np.abs(numbers) + 0.1 if least else numbers
    return np.asarray(np.round(numbers, _DIGITS), dtype)


def _words(random: _Random, use: Use) -> bytes:
    """A word of the vocabulary, or a text of them. Special words such as [UNK] are left out if possible."""
    plain = [word for word in use.words if word[:1] not in (b"[", b"<")] or list(use.words)
    if not use.is_split:
        return plain[int(random.integers(len(plain)))]
    count = int(random.integers(1, _MOST_WORDS + 1))
    return b" ".join(plain[int(number)] for number in random.integers(0, len(plain), count))


def _audio(random: _Random) -> bytes:
    """A WAV file: a second of one tone with some noise, one channel of 16 bits."""
    time = np.arange(_SECONDS * _SAMPLE_RATE) / _SAMPLE_RATE
    tone = np.sin(2 * np.pi * random.uniform(100, 2000) * time) * 0.5
    samples = tone + random.standard_normal(tone.size) * 0.05
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(_SAMPLE_RATE)
        writer.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return file.getvalue()
