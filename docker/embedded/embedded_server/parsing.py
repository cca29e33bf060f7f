"""The JSON text of a request, and what its values are (tensorflow_serving/util/json_tensor.cc).

As TensorFlow Serving's parser, rapidjson, this one reads NaN and Infinity too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson
import pybase64

from embedded_server.errors import InvalidArgument
from embedded_server.signature import DEFAULT_SIGNATURE

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SHOWN_CHARACTERS = 200  # of a value in an error message: enough to recognise it
_INT64 = (-(2**63), 2**64 - 1)  # whole numbers beyond are read as floats, as rapidjson and orjson do


def parse_request(body: bytes) -> dict[str, Any]:
    """The JSON object of a request. Raises InvalidArgument for anything else."""
    if not body:
        raise InvalidArgument("JSON Parse error: The document is empty")
    body = body.removeprefix(_BYTE_ORDER_MARK)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # orjson keeps to the letter of JSON; TensorFlow Serving also reads NaN and Infinity.
        if b"NaN" not in body and b"Inf" not in body:
            raise InvalidArgument(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
        document = _parse_with_infinities(body)
    if not isinstance(document, dict):
        raise InvalidArgument(f"JSON Value: {shown(document)} Is not object")
    return document


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
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which Python's own JSON reader lets through
        raise InvalidArgument(f"JSON Parse error: {text[:40]!a} is not valid Unicode") from None


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
    except (ValueError, RecursionError):
        text = "(nested too deeply to show)"
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


# Piece by piece, for a pattern of a whole text would go through the rest of the body at each quote that
# nothing closes. All begin with a letter of their own: the search skips what is between, 64 MB in 0.3 s.
_INFINITIES = re.compile(r'\\.|"|-NaN|NaN|Inf(?:inity)?', re.DOTALL)


def _parse_with_infinities(body: bytes) -> Any:
    """Read JSON that holds NaN, Inf or Infinity (rapidjson's kParseNanAndInfFlag)."""
    in_text = False

    def spelled_for_python(match: re.Match[str]) -> str:
        nonlocal in_text
        word = match.group()
        if word == '"':
            in_text = not in_text
        elif not in_text and not word.startswith("\\"):
            return "NaN" if word.endswith("NaN") else "Infinity"
        return word

    try:
        return json.loads(_INFINITIES.sub(spelled_for_python, body.decode()), parse_int=_parse_integer)
    except json.JSONDecodeError as error:
        raise InvalidArgument(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"JSON Parse error: not valid UTF-8 at offset: {error.start}") from None
    except RecursionError:
        raise InvalidArgument("JSON Parse error: nested too deeply") from None


def _parse_integer(digits: str) -> int | float:
    if len(digits) > 20:  # more than any 64-bit number: int() would refuse thousands of digits
        return float(digits)
    number = int(digits)
    return number if _INT64[0] <= number <= _INT64[1] else float(digits)
