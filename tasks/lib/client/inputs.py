"""What is sent to a model: photos as predict requests that fit its signature.

Models that take encoded images get the photos as they are, models that take pixels get them resized,
and any other model gets seeded random tensors of its input shapes.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.lib.client import examples
from tasks.lib.client.signature import DEFAULT_SIGNATURE, Signature, Tensor, default_signature
from tasks.lib.common.errors import ModelError, SuiteError
from tasks.lib.common.settings import Paths

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

SAMPLES = Path("models", "samples")
"""The photos that come with the suite, counted from the project root."""
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
NUMPY_NAMES = {
    "DT_HALF": "float16", "DT_BFLOAT16": "float32", "DT_FLOAT": "float32", "DT_DOUBLE": "float64",
    "DT_INT8": "int8", "DT_INT16": "int16", "DT_INT32": "int32", "DT_INT64": "int64",
    "DT_UINT8": "uint8", "DT_UINT16": "uint16", "DT_UINT32": "uint32", "DT_UINT64": "uint64",
    "DT_BOOL": "bool",
}  # fmt: skip
ZERO_TO_ONE, ZERO_TO_255, MINUS_ONE_TO_ONE = PIXEL_RANGES = "0..1", "0..255", "-1..1"
"""In which models expect pixels."""
REQUEST_SUFFIXES = (".jsonl", ".json")
"""Of files that hold predict bodies, one a line."""
OPEN_SIDE = 224
"""Height and width of pixels where the signature leaves them open."""
FREE_SIZE = 8
"""What a dimension gets whose size the signature leaves open. The batch is always one."""


@dataclass(frozen=True)
class Sample:
    """One ready predict request."""

    name: str
    """The photo's file name, "line-N" of a file of requests, or "random-N"."""
    body: bytes
    """The JSON text of a predict body, in row form ("instances") or in column form ("inputs")."""


def sample_photos(paths: Paths) -> list[Path]:
    """The photos that come with the suite, sorted by name."""
    return photos_in(paths.root / SAMPLES)


def photos_in(place: Path) -> list[Path]:
    """`place` itself if it is a file, or the photos in that folder, sorted by name.

    Raises SuiteError if it does not exist or holds no photo.
    """
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise SuiteError(
            f"There is no photo or folder {str(place)!r}.", "Name a photo, or a folder of photos."
        )
    photos = sorted(p for p in place.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES)
    if not photos:
        raise SuiteError(
            f"There is no photo in {str(place)!r}.",
            f"Put files there that end in {', '.join(PHOTO_SUFFIXES)}.",
        )
    return photos


def requests_for(
    metadata: Mapping[str, Any], photos: Sequence[Path], count: int | None = None
) -> list[Sample]:
    """A request for each of the first `count` photos (all if None), fitting the default signature.

    Raises SuiteError for a file that is no image, ModelError for inputs that cannot be made up.
    """
    return requests_of(default_signature(metadata), photos[:count])


def requests_of(signature: Signature, photos: Sequence[Path], pixels: str | None = None) -> list[Sample]:
    """A request for each photo, fitting `signature`. Raises as `requests_for`.

    pixels: the range in which the model expects them, one of PIXEL_RANGES; None if that is not known.
    """
    if takes_photos(signature):
        tensor = signature.inputs[0]
        make = _encoded if tensor.is_image_bytes else lambda photo: _pixels(photo, tensor, pixels).tolist()
        return [Sample(photo.name, _request(signature, make(photo))) for photo in photos]
    return [
        Sample(f"random-{n}", _request(signature, _random(signature, n)))
        for n, _ in enumerate(photos, start=1)
    ]


@dataclass(frozen=True)
class Given:
    """What a person gives for proving an optimized model."""

    photos: tuple[Path, ...] = ()
    requests: tuple[Sample, ...] = ()
    """Each for the signature that it names."""


def given_at(place: Path, signature: str = "") -> Given:
    """What is at `place`: a photo, a file of JSON requests, or a folder of either.

    signature: for which requests are that name none; empty for the default one. Raises SuiteError if there is
    neither.
    """
    given = _given_at(place)
    if not signature:
        return given
    named = (replace(request, body=naming(request.body, signature)) for request in given.requests)
    return replace(given, requests=tuple(named))


def _given_at(place: Path) -> Given:
    if place.is_file():
        if place.suffix.lower() in REQUEST_SUFFIXES:
            return Given(requests=tuple(requests_in(place)))
        return Given(photos=(place,))
    if not place.is_dir():
        raise SuiteError(
            f"There is no file or folder {str(place)!r}.",
            "Name a photo, a file of JSON requests, or a folder of either.",
        )
    files = sorted(path for path in place.iterdir() if path.is_file())
    photos = tuple(path for path in files if path.suffix.lower() in PHOTO_SUFFIXES)
    lists = [path for path in files if path.suffix.lower() in REQUEST_SUFFIXES]
    if not photos and not lists:
        raise SuiteError(
            f"There is no photo and no file of JSON requests in {str(place)!r}.",
            f"Put files there that end in {', '.join((*PHOTO_SUFFIXES, *REQUEST_SUFFIXES))}.",
        )
    return Given(photos, tuple(request for path in lists for request in requests_in(path)))


def rows_of(body: bytes) -> int | None:
    """How many instances a request in row form has; None for the column form."""
    said = json.loads(body)
    return None if "inputs" in said else len(said["instances"])


def naming(body: bytes, signature: str) -> bytes:
    """The body with the name of the signature that it is for, unless it names one or needs none."""
    said = json.loads(body)
    if signature == DEFAULT_SIGNATURE or "signature_name" in said:
        return body
    return json.dumps({"signature_name": signature, **said}, separators=(",", ":")).encode()


def signature_of(body: bytes, default: str) -> str:
    """The signature that a predict body names; `default` if it names none."""
    return str(json.loads(body).get("signature_name", default))


def requests_in(file: Path) -> list[Sample]:
    """The requests in a file, a predict, classify or regress body on each line. Raises SuiteError."""
    try:
        lines = [line for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(
            f"{str(file)!r} cannot be read ({error}).", "Name a file of JSON requests."
        ) from None
    samples = [_sample(file, number, line) for number, line in enumerate(lines, start=1)]
    if not samples:
        raise SuiteError(f"{str(file)!r} holds no request.", "Put a request body on each of its lines.")
    return samples


def _sample(place: Path, number: int, line: str) -> Sample:
    try:
        body = json.loads(line)
        if "examples" in body:
            body = examples.predict_body(body)
        if "inputs" not in body and not len(body["instances"]):
            raise ValueError("no instances")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SuiteError(
            f"Line {number} of {str(place)!r} is not a predict, classify or regress request.",
            'Write requests such as {"instances": [[1.0, 2.0]]}, {"inputs": [[1.0, 2.0]]} or '
            '{"examples": [{"x": 1.0}]}, one a line.',
        ) from None
    return Sample(f"line-{number}", json.dumps(body, separators=(",", ":")).encode())


def takes_photos(signature: Signature) -> bool:
    """Whether the model's one input is encoded images or pixels."""
    return len(signature.inputs) == 1 and (
        signature.inputs[0].is_image_bytes or signature.inputs[0].is_pixels
    )


def _request(signature: Signature, instance: object) -> bytes:
    request: dict[str, object] = {"instances": [instance]}
    if signature.name != DEFAULT_SIGNATURE:
        request = {"signature_name": signature.name, **request}
    return json.dumps(request, separators=(",", ":")).encode()


def _encoded(photo: Path) -> dict[str, str]:
    return {"b64": base64.b64encode(as_jpeg(photo)).decode()}


def as_jpeg(photo: Path, size: tuple[int, int] | None = None) -> bytes:
    """The photo as JPEG: its own bytes if it is one, else converted. Raises SuiteError if it is no image.

    size: height and width that it must have; None for its own.
    """
    from io import BytesIO

    image = _opened(photo)
    if size is not None and image.size != size[::-1]:
        image = image.convert("RGB").resize(size[::-1])
    elif image.format == "JPEG":
        return photo.read_bytes()
    converted = BytesIO()
    image.convert("RGB").save(converted, "JPEG", quality=95)
    return converted.getvalue()


def _pixels(photo: Path, tensor: Tensor, pixel_range: str | None) -> np.ndarray[Any, Any]:
    """The photo as [height, width, 3]: whole numbers in [0, 255], floats as `wanted` or in [0, 1]."""
    assert tensor.shape is not None
    height, width = (size or OPEN_SIDE for size in tensor.shape[1:3])
    return _resized(photo, (height, width), 3, tensor.dtype, pixel_range)


def pixels_like(photo: Path, sample: object, tensor: Tensor, pixel_range: str | None) -> object:
    """The photo as nested lists with the dimensions of `sample`, [..., height, width, 1 or 3] or with the
    channels before the height, repeated over what is before these. Sides that are open get OPEN_SIDE."""
    import numpy as np

    shape = np.shape(np.asarray(sample))
    fixed = (tensor.shape or ())[-3:] if tensor.shape is not None else shape[-3:]
    channels_last = shape[-1] in (1, 3)
    at = (0, 1, 2) if channels_last else (1, 2, 0)
    height, width = (fixed[side] or OPEN_SIDE for side in at[:2])
    image = _resized(photo, (height, width), shape[-3:][at[2]], tensor.dtype, pixel_range)
    image = image if channels_last else image.transpose(2, 0, 1)
    return np.broadcast_to(image, (*shape[:-3], *image.shape)).tolist()


def _resized(
    photo: Path, size: tuple[int, int], channels: int, dtype: str, pixel_range: str | None
) -> np.ndarray[Any, Any]:
    import numpy as np

    height, width = size
    image = _opened(photo).convert("L" if channels == 1 else "RGB").resize((width, height))
    pixels = np.asarray(image).reshape(height, width, channels)
    kind = np.dtype(NUMPY_NAMES.get(dtype, "float32"))
    if kind == np.int8:
        return (pixels.astype(np.int16) - 128).astype(kind)
    if kind.kind in "iu" or pixel_range == ZERO_TO_255:
        return pixels.astype(kind)
    # Four digits are more than a pixel has, and keep a 224x224 request at about 1 MB.
    scaled = pixels / 127.5 - 1.0 if pixel_range == MINUS_ONE_TO_ONE else pixels / 255.0
    rounded: np.ndarray[Any, Any] = np.round(scaled, 4)
    return rounded


def _opened(photo: Path) -> Image.Image:
    """The photo, decoded, with nothing of it left open. Raises SuiteError."""
    import warnings

    from PIL import Image, UnidentifiedImageError

    remedy = "Choose a JPEG photo."
    try:
        with photo.open("rb") as file, warnings.catch_warnings():
            # A file that unpacks to many times what a photo has is an attack or a mistake.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(file)
            image.load()
    except FileNotFoundError:
        raise SuiteError(f"There is no photo {str(photo)!r}.", "Check the name.") from None
    except UnidentifiedImageError:
        raise SuiteError(f"{str(photo)!r} is not an image.", remedy) from None
    except Exception as error:  # decoders of damaged files raise whatever they stumble over
        raise SuiteError(f"{str(photo)!r} is not an image that can be read ({error}).", remedy) from None
    return image


def _random(signature: Signature, n: int) -> object:
    """One instance of seeded random values; a bare value where the signature has a single input."""
    values = {tensor.name: _random_value(tensor, n) for tensor in signature.inputs}
    return next(iter(values.values())) if len(values) == 1 else values


def _random_value(tensor: Tensor, n: int) -> object:
    import numpy as np

    if tensor.shape == ():
        raise ModelError(
            f"The input {tensor.name!r} has no batch dimension, so no request can be made up for it.",
            "Export the model with a batch dimension on every input.",
        )
    shape = [FREE_SIZE if size is None else size for size in (tensor.shape or ())[1:]]
    # The tensor's name is part of the seed: two inputs of one shape must not get the same values.
    random = np.random.default_rng([n, zlib.crc32(tensor.name.encode())])
    if tensor.dtype == "DT_STRING":
        return np.full(shape, f"text {n}").tolist()
    dtype = np.dtype(NUMPY_NAMES.get(tensor.dtype, "float32"))
    if dtype.kind == "b":
        return (random.random(shape) < 0.5).tolist()
    if dtype.kind in "iu":
        # Small enough to be an index into most vocabularies.
        return random.integers(0, 2, shape).tolist()
    return random.random(shape).round(4).tolist()
