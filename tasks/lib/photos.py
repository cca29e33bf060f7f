"""Photos of a person in requests of any model that takes some: each in the place of a sample's photo."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.lib import examples, inputs
from tasks.lib.errors import ModelError
from tasks.lib.inputs import Sample
from tasks.lib.samples import PHOTO, Samples
from tasks.lib.signature import Signature, Tensor

_PIXELS, _EXAMPLE, _BASE64 = "pixels", "example", "base64 "


def requests_for(made: Samples | None, signature: Signature, photos: Sequence[Path]) -> list[Sample]:
    """A predict request for each photo.

    `made` are the model's samples, None where only its metadata is known. Raises ModelError, before anything
    is sent, if the model takes no photo; SuiteError for a file that is no image.
    """
    if made is None:
        if not inputs.takes_photos(signature):
            raise _takes_none(signature)
        return inputs.requests_of(signature, photos)
    if not made.takes_photos(signature.name) and _EXAMPLE not in made.kinds(signature.name):
        raise _takes_none(signature)
    sample = json.loads(made.of(signature)[0].body)
    return [Sample(photo.name, _with(photo, sample, made, signature)) for photo in photos]


def _takes_none(signature: Signature) -> ModelError:
    takes = ", ".join(f"{tensor.name} {tensor.dtype}" for tensor in signature.inputs)
    return ModelError(
        f"The model takes no photos (its signature {signature.name} takes: {takes}).",
        "Give --inputs a file of JSON requests (.jsonl), or --samples to send the model's own.",
    )


def _with(photo: Path, sample: dict[str, Any], made: Samples, signature: Signature) -> bytes:
    """The sample with the photo wherever it has one."""
    body = dict(sample)
    form = "inputs" if "inputs" in body else "instances"
    for tensor in signature.inputs:

        def put(value: Any, tensor: Tensor = tensor) -> Any:
            return _put(photo, value, tensor, made, signature)

        # A single input has no name in a request, in either form.
        is_named = len(signature.inputs) > 1
        if form == "inputs":
            body[form] = (
                {**body[form], tensor.name: put(body[form][tensor.name])} if is_named else put(body[form])
            )
        else:
            body[form] = [
                {**one, tensor.name: put(one[tensor.name])} if is_named else put(one) for one in body[form]
            ]
    return json.dumps(body, separators=(",", ":")).encode()


def _put(photo: Path, value: Any, tensor: Tensor, made: Samples, signature: Signature) -> Any:
    """`value` with the photo in it if this input takes one: encoded in each text, or resized to its shape."""
    kind = made.kind(signature.name, tensor.name)
    if kind == _PIXELS:
        return inputs.pixels_like(photo, value, tensor, made.pixels(signature.name))
    size = made.photo_size(signature.name)
    if kind == _EXAMPLE:
        try:
            return _each(value, lambda one: examples.with_photo(one, inputs.as_jpeg(photo, size)))
        except ValueError:
            raise _takes_none(signature) from None
    if not kind.endswith(PHOTO):
        return value
    encoded = inputs.as_jpeg(photo, size)
    if kind.startswith(_BASE64):
        text = base64.urlsafe_b64encode(encoded).rstrip(b"=").decode()
        return _each(value, lambda _: text)
    return _each(value, lambda _: {"b64": base64.b64encode(encoded).decode()})


def _each(value: Any, change: Any) -> Any:
    """Nested lists with each text changed."""
    return [_each(one, change) for one in value] if isinstance(value, list) else change(value)
