"""The JSON text of a request, and what its values are (tensorflow_serving/util/json_tensor.cc).

As TensorFlow Serving's parser, rapidjson, this one reads NaN and Infinity too, takes the first of two members
of one name, hands on bytes that are no UTF-8, and is done at a zero byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson
import pybase64

from embedded_server.common.errors import InvalidArgument
from embedded_server.execution.signature import DEFAULT_SIGNATURE

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SHOWN_CHARACTERS = 200  # of a value in an error message: enough to recognise it
_INT64 = (-(2**63), 2**64 - 1)  # whole numbers beyond are read as floats, as rapidjson and orjson do


def parse_request(body: bytes) -> dict[str, Any]:
    """The JSON object of a request. Raises InvalidArgument for anything else."""
    body = body.removeprefix(_BYTE_ORDER_MARK).partition(b"\0")[0]
    if not body.strip(b" \t\r\n"):
        raise InvalidArgument("JSON Parse error: The document is empty")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # orjson keeps to the letter of JSON.
        if b"NaN" not in body and b"Inf" not in body and _is_utf8(body):
            raise InvalidArgument(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
        document = _parse_leniently(body)
    if not isinstance(document, dict):
        raise InvalidArgument(f"JSON Value: {shown(document)} Is not object")
    # Each member has a colon: so many mean that orjson has met a name twice, and kept the last, or that there
    # are colons in texts.
    try:
        is_sure = body.count(b":") <= _members(document)
    except RecursionError:
        is_sure = True  # which Python's reader could not read
    return document if is_sure else dict(_parse_leniently(body))


def signature_name(document: Mapping[str, Any]) -> str:
    """The signature that a request names, or the default one."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise InvalidArgument(
            f"JSON Value: {shown(document)} not formatted correctly. "
            "'signature_name' key must be a string value."
        )
    return name or DEFAULT_SIGNATURE


def is_base64(value: Mapping[str, Any]) -> bool:
    return len(value) == 1 and isinstance(value.get("b64"), str)


def decode_base64(text: str) -> bytes:
    """Decode base64 as TensorFlow Serving does: padding is optional, white space is skipped.

    Raises InvalidArgument.
    """
    decoded: bytes
    try:
        # Unless told to validate, decoders skip what is not in the alphabet and take anything for base64.
        decoded = pybase64.b64decode(text, validate=True)
    except ValueError:
        bare = "".join(text.split()).rstrip("=")
        try:
            decoded = pybase64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
        except ValueError:
            raise InvalidArgument("Unable to base64 decode") from None
    return decoded


def utf8(text: str) -> bytes:
    """The bytes of a text, those that are no UTF-8 as they came."""
    return text.encode(errors="surrogateescape")


def json_type(value: Any) -> str:
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return str(value)
    names: Mapping[type, str] = {str: "String", dict: "Object", list: "Array"}
    return names.get(type(value), "Number")


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        text = text.encode(errors="surrogateescape").decode(errors="replace")
    except (ValueError, RecursionError):
        text = "(nested too deeply to show)"
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


# Piece by piece, for a pattern of a whole text would go through the rest of the body at each quote that
# nothing closes. All begin with a letter of their own: the search skips what is between, 64 MB in 0.3 s.
_INFINITIES = re.compile(
    r'\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u[dD][89a-fA-F]|\\.|"|-NaN|NaN|Inf(?:inity)?', re.DOTALL
)


def _parse_leniently(body: bytes) -> Any:
    """Read JSON as rapidjson does: see the module."""
    in_text = False

    def spelled_for_python(match: re.Match[str]) -> str:
        nonlocal in_text
        word = match.group()
        if word == '"':
            in_text = not in_text
        elif word.startswith(("\\u", "\\U")) and len(word) == len("\\ud8"):
            raise InvalidArgument(
                f"JSON Parse error: The surrogate pair in string is invalid. at offset: {match.start()}"
            )
        elif not in_text and not word.startswith("\\"):
            return "NaN" if word.endswith("NaN") else "Infinity"
        return word

    text = body.decode(errors="surrogateescape")
    if "NaN" in text or "Inf" in text or "\\u" in text:
        text = _INFINITIES.sub(spelled_for_python, text)
    try:
        return json.loads(text, parse_int=_parse_integer, object_pairs_hook=_first_of_each)
    except json.JSONDecodeError as error:
        raise InvalidArgument(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except RecursionError:
        raise InvalidArgument("JSON Parse error: nested too deeply") from None


def _first_of_each(members: list[tuple[str, Any]]) -> dict[str, Any]:
    first: dict[str, Any] = {}
    for name, value in members:
        first.setdefault(name, value)
    return first


def _members(value: Any) -> int:
    """How many members the objects in it have; lists that begin with a plain value are taken to hold none."""
    if isinstance(value, dict):
        return len(value) + sum(map(_members, value.values()))
    if isinstance(value, list) and value and isinstance(value[0], dict | list):
        first = _members(value[0])
        return sum(map(_members, value)) if first else 0
    return 0


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parse_integer(digits: str) -> int | float:
    if len(digits) > 20:  # more than any 64-bit number: int() would refuse thousands of digits
        return float(digits)
    number = int(digits)
    return number if _INT64[0] <= number <= _INT64[1] else float(digits)
