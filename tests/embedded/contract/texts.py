"""Texts and bytes."""

from __future__ import annotations

import base64

from contract.case import GUIDE, RAPIDJSON, Rest, asked


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


def both(*words: str) -> list[dict[str, object]]:
    """The answer of the signature `text`."""
    return [{"upper": w.upper(), "raw_bytes": b64(w.encode() + b"\x00\xff")} for w in words]


def upper(name: str, sent: object, found: object, **more: str) -> Rest:
    """Of the signature `matrix_text`, in columns."""
    return asked(name, {"inputs": [[sent]]}, {"outputs": [[found]]}, signature="matrix_text", **more)


def raw(name: str, text: bytes, found: str) -> Rest:
    """The text as it is written in a body."""
    body = b'{"signature_name": "matrix_text", "inputs": [["' + text + b'"]]}'
    return asked(name, body, {"outputs": [[found]]}, source=RAPIDJSON)


def unreadable(name: str, text: bytes) -> Rest:
    body = b'{"signature_name": "matrix_text", "inputs": [["' + text + b'"]]}'
    return asked(name, body, message="JSON Parse error", source=RAPIDJSON)


CASES: list[Rest] = [
    asked("a text", {"instances": ["one"]}, {"predictions": both("one")}, signature="text", source=GUIDE),
    asked("texts", {"instances": ["one", "two"]}, {"predictions": both("one", "two")}, signature="text"),
    asked("bytes", {"instances": [b64(b"one")]}, {"predictions": both("one")}, signature="text", source=GUIDE),
    asked("bytes next to a text", {"instances": [b64(b"one"), "two"]}, {"predictions": both("one", "two")}, signature="text"),
    asked("named bytes", {"instances": [{"text": b64(b"one")}]}, {"predictions": both("one")}, signature="text"),
    asked("bytes in a column", {"inputs": [b64(b"one")]}, {"outputs": {"upper": ["ONE"], "raw_bytes": [b64(b"one\x00\xff")]}}, signature="text"),
    asked("bytes that are the column", {"inputs": b64(b"one")}, {"outputs": {"upper": "ONE", "raw_bytes": b64(b"one\x00\xff")}}, signature="text"),
    asked("bytes in a named column", {"inputs": {"text": [b64(b"one")]}}, {"outputs": {"upper": ["ONE"], "raw_bytes": [b64(b"one\x00\xff")]}}, signature="text"),
    asked("a name that ends in _bytes", {"instances": ["x"]}, {"predictions": both("x")}, signature="text", source=GUIDE),
    upper("an empty text", "", ""),
    upper("empty bytes", {"b64": ""}, ""),
    upper("a text in a matrix", "a", "A"),
    upper("umlauts", "zwölf", "ZWöLF"),
    upper("beyond the basic plane", "😀a", "😀A"),
    upper("a text that is a number", "1", "1"),
    upper("base64 without padding", {"b64": "YQ"}, "A"),
    upper("base64 with half of its padding", {"b64": "YQ="}, "A"),
    upper("base64 with spaces", {"b64": " Y Q == "}, "A"),
    upper("base64 with line breaks", {"b64": "YWJj\nZGVm\r\n"}, "ABCDEF"),
    asked("no base64", {"instances": [{"b64": "!"}]}, signature="text", message="Unable to base64 decode"),
    asked("base64 that ends early", {"instances": [{"b64": "A"}]}, signature="text", message="Unable to base64 decode"),
    asked("web-safe base64", {"instances": [{"b64": "-_-_"}]}, signature="text", message="Unable to base64 decode"),
    asked("bytes for numbers", {"inputs": [b64(b"a")]}, signature="echo_float32", message="is not of expected type: float"),
    asked("bytes with another key", {"inputs": [{**b64(b"a"), "c": 1}]}, signature="text", message="not formatted correctly for base64 data"),
    asked("bytes that are a number", {"inputs": [{"b64": 1}]}, signature="text", message="not formatted correctly for base64 data"),
    asked("bytes in capitals", {"inputs": [{"B64": "YQ=="}]}, signature="text", message="not formatted correctly for base64 data"),
    asked("a number for a text", {"instances": [1]}, signature="text", message="is not of expected type: string"),
    asked("true for a text", {"instances": [True]}, signature="text", message="is not of expected type: string"),
    asked("null for a text", {"instances": [None]}, signature="text", message="is not of expected type: string"),
    # As it is written
    raw("escapes", rb"\"\\\/\b\f\n\r\t", '"\\/\b\f\n\r\t'),
    raw("a code point", rb"\u00e4", "ä"),
    raw("a zero by its code point", rb"a\u0000b", "A\x00B"),
    raw("a surrogate pair", rb"\ud83d\ude00", "😀"),
    raw("a surrogate pair in capitals", rb"\uD83D\uDE00", "😀"),
    raw("a backslash before what looks like an escape", rb"\\u00e4", "\\U00E4"),
    raw("a word that looks like a number", b"NaN, Inf", "NAN, INF"),
    raw("a colon and braces", b"{:[,", "{:[,"),
    raw("delete", b"\x7f", "\x7f"),
    unreadable("half of a surrogate pair", rb"\ud800"),
    unreadable("the other half of a surrogate pair", rb"\udc00"),
    unreadable("a surrogate before a letter", rb"\ud83da"),
    unreadable("an escape that is not known", rb"\x41"),
    unreadable("a code point cut short", rb"\u00e"),
    unreadable("a line break", b"a\nb"),
    unreadable("a tab", b"a\tb"),
    unreadable("a zero", b"a\x00b"),
    # Bytes that are no UTF-8 are handed on; the answer is base64, since its name ends in _bytes.
    *(
        asked(
            f"{name} in a text", b'{"signature_name": "text", "inputs": "' + data + b'"}',
            None, source=RAPIDJSON,
        )
        for name, data in {
            "a byte that is no UTF-8": b"a\xffb", "UTF-8 cut short": b"\xc3", "an overlong slash": b"\xc0\xaf",
            "an encoded surrogate": b"\xed\xa0\x80",
        }.items()
    ),
]  # fmt: skip
NOT_UTF8 = {case.name: case for case in CASES if case.answer is None and not case.message}
"""Of these the bytes are looked at: they are in `raw_bytes`."""
