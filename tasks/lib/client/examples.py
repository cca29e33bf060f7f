"""tf.Examples: classify and regress bodies as predict bodies, and photos put into Examples.

A classify or regress body lists examples as JSON, and the server makes serialized tf.Examples of them for the
signature's one input. Sent to `:predict` as such, they get the same tensors as an answer, over gRPC too. The
rules are TensorFlow Serving's (https://www.tensorflow.org/tfx/serving/api_rest#classify_and_regress_api).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from tasks.lib.client.serving_messages import message

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG"


def predict_body(said: Mapping[str, Any]) -> dict[str, Any]:
    """The predict body of what a classify or regress body says. Raises ValueError, TypeError.

    A context is part of each example, whose own features go before it.
    """
    examples, context = said["examples"], said.get("context", {})
    if not isinstance(examples, list) or not examples:
        raise ValueError("no examples")
    written = [_serialized({**context, **example}) for example in examples]
    named = {"signature_name": said["signature_name"]} if "signature_name" in said else {}
    return {**named, "instances": [{"b64": base64.b64encode(one).decode()} for one in written]}


def _serialized(features: Mapping[str, Any]) -> bytes:
    made = message("Example")
    for name, content in features.items():
        values = content if isinstance(content, list) else [content]
        entry = made.features.feature.add(key=name)
        kinds = {_kind(value) for value in values}
        if len(kinds) > 1:
            raise ValueError(f"the feature {name!r} has values of several kinds")
        for kind in kinds:
            convert = _bytes if kind == "bytes_list" else int if kind == "int64_list" else float
            getattr(entry.value, kind).value.extend(map(convert, values))
    return bytes(made.SerializeToString())


def _kind(value: object) -> str:
    if isinstance(value, int):  # truth values too
        return "int64_list"
    return "float_list" if isinstance(value, float) else "bytes_list"


def _bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and value.keys() == {"b64"}:
        return base64.b64decode(value["b64"], validate=True)
    raise TypeError("a feature holds neither numbers nor text")


def with_photo(example: object, photo: bytes) -> object:
    """A tf.Example of a request, {"b64": ...}, with this photo for the one in it. Raises ValueError if it
    holds none."""
    from google.protobuf.message import DecodeError

    try:
        made = message("Example", _bytes(example))
    except (DecodeError, TypeError, binascii.Error):
        raise ValueError("no tf.Example") from None
    photos = [
        entry.value.bytes_list.value
        for entry in made.features.feature
        if any(content.startswith((_JPEG, _PNG)) for content in entry.value.bytes_list.value)
    ]
    if not photos:
        raise ValueError("no photo in the tf.Example")
    for values in photos:
        values[:] = [photo] * len(values)
    return {"b64": base64.b64encode(made.SerializeToString()).decode()}
