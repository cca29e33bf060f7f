"""Requests of a person: photos, each in the place of a sample's photo, and bodies in files."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.lib.client import examples, inputs
from tasks.lib.client.inputs import REQUEST_SUFFIXES, Given, Sample
from tasks.lib.client.signature import Signature, Tensor
from tasks.lib.common.errors import ModelError, SuiteError
from tasks.lib.models.samples import PHOTO, Samples

_PIXELS, _EXAMPLE, _BASE64 = "pixels", "example", "base64 "


def takes_photos(made: Samples | None, signature: Signature) -> bool:
    """Whether an input takes photos, or tf.Examples, which may hold some.

    `made` are the model's samples, None where only its metadata is known.
    """
    if made is None or not made.kinds(signature.name):
        return inputs.takes_photos(signature)
    return made.takes_photos(signature.name) or _EXAMPLE in made.kinds(signature.name)


def requests_for(
    made: Samples | None, signature: Signature, photos: Sequence[Path], pixels: str | None = None
) -> list[Sample]:
    """A predict request for each photo.

    `made`: see takes_photos. pixels: the range that a person says; None for the one that the samples say.
    Raises ModelError, before anything is sent, if the model takes no photo; SuiteError for a file that is no
    image.
    """
    if not takes_photos(made, signature):
        raise _takes_none(signature)
    if made is None or not made.kinds(signature.name):
        return inputs.requests_of(signature, photos, pixels)
    sample = json.loads(made.of(signature)[0].body)
    return [Sample(photo.name, _with(photo, sample, made, signature, pixels)) for photo in photos]


def given_for(given: Given, made: Samples | None, signature: Signature, default: str) -> list[Sample]:
    """What a person has given for `signature`; `default` is the signature of requests that name none.

    Photos are for every signature that takes some.
    """
    requests = _those_for(signature, given.requests, default)
    if not given.photos or not takes_photos(made, signature):
        return requests
    return [*requests, *requests_for(made, signature, given.photos)]


def from_path(
    place: Path, made: Samples | None, signature: Signature, default: str, pixels: str | None = None
) -> list[Sample]:
    """A request to `signature` for each photo at `place`, or each line of a file of JSON requests.

    A request is a predict, classify or regress body; those for other signatures are left out. `default`: see
    given_for; made, pixels: see requests_for. Raises SuiteError for what is neither, and where none is for
    the signature; ModelError for photos that the model does not take.
    """
    if place.suffix.lower() not in REQUEST_SUFFIXES:
        return requests_for(made, signature, inputs.photos_in(place), pixels)
    bodies = inputs.requests_in(place)
    mine = _those_for(signature, bodies, default)
    if not mine:
        names = ", ".join(sorted({inputs.signature_of(body.body, default) for body in bodies}))
        raise SuiteError(
            f"{str(place)!r} has no request for the signature {signature.name!r}, only for: {names}.",
            "Choose one of these with --signature, or give other requests.",
        )
    return mine


def _takes_none(signature: Signature) -> ModelError:
    takes = ", ".join(f"{tensor.name} {tensor.dtype}" for tensor in signature.inputs)
    return ModelError(
        f"The model takes no photos (its signature {signature.name} takes: {takes}).",
        "Give --inputs a file of JSON requests (.jsonl), or --samples to send the model's own.",
    )


def _those_for(signature: Signature, requests: Sequence[Sample], default: str) -> list[Sample]:
    return [
        replace(request, body=inputs.naming(request.body, signature.name))
        for request in requests
        if inputs.signature_of(request.body, default) == signature.name
    ]


def _with(
    photo: Path, sample: dict[str, Any], made: Samples, signature: Signature, pixels: str | None
) -> bytes:
    """The sample with the photo in each place that has one."""
    body = dict(sample)
    form = "inputs" if "inputs" in body else "instances"
    for tensor in signature.inputs:

        def put(value: Any, tensor: Tensor = tensor) -> Any:
            return _put(photo, value, tensor, made, signature, pixels)

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


def _put(
    photo: Path, value: Any, tensor: Tensor, made: Samples, signature: Signature, pixels: str | None
) -> Any:
    """`value` with the photo in it if this input takes one: encoded in each text, or resized to its shape."""
    kind = made.kind(signature.name, tensor.name)
    if kind == _PIXELS:
        return inputs.pixels_like(photo, value, tensor, pixels or made.pixels(signature.name))
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
