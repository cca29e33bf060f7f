"""Which JSON numbers an input of each type takes, and their values."""

from __future__ import annotations

import math
from collections.abc import Iterator

from contract.case import GUIDE, JSON_TENSOR, Rest, asked

INTEGERS = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "int8": (-128, 127),
    "uint8": (0, 255),
}
OTHERS = {"a text": '"1"', "true": "true", "null": "null", "an object": '{"a": 1}'}
"""That are no numbers, as JSON."""
FLOATS = {
    "a whole number": ("1", 1.0),
    "zero": ("0", 0.0),
    "negative zero": ("-0.0", 0.0),
    "a fraction": ("-2.5", -2.5),
    "an exponent": ("25e-2", 0.25),
    "a capital exponent": ("1E2", 100.0),
    "a positive exponent": ("1e+2", 100.0),
    "too small": ("1e-400", 0.0),
    "2^24": ("16777216", 16777216.0),
    "2^24 + 1": ("16777217", 16777216.0),
    "20 million": ("20000000", 20000000.0),
    "a time": ("1764000000", 1764000000.0),
    "2^53 + 1": ("9007199254740993", float(2**53)),
    "2^64 - 1": ("18446744073709551615", float(2**64)),
    "beyond 64 bits": ("36893488147419103232", float(2**65)),
    "NaN": ("NaN", math.nan),
    "-NaN": ("-NaN", math.nan),
    "Infinity": ("Infinity", math.inf),
    "-Infinity": ("-Infinity", -math.inf),
    "Inf": ("Inf", math.inf),
    "-Inf": ("-Inf", -math.inf),
}
"""Name -> JSON and value; where float and double differ, the number is exact in both."""


def _integers() -> Iterator[Rest]:
    for dtype, (least, most) in INTEGERS.items():
        signature = f"echo_{dtype}"
        for name, value in (("least", least), ("most", most), ("one", 1)):
            yield asked(
                f"{dtype}: {name}", {"instances": [value]}, {"predictions": [value]}, signature=signature
            )
        yield asked(f"{dtype}: minus zero", '{"instances": [-0]}', {"predictions": [0]}, signature=signature)
        refused = {**OTHERS, "a fraction": "1.5", "a whole number with a point": "1.0", "an exponent": "1e2"}
        if dtype not in ("int16", "int8", "uint8"):  # those wrap around there, and are refused here
            refused["one more than most"] = str(most + 1)
            refused["one less than least"] = str(least - 1)
        for name, text in refused.items():
            yield asked(
                f"{dtype}: {name}", f'{{"instances": [{text}]}}', signature=signature,
                message="object" if text.startswith("{") else "is not of expected type",
            )  # fmt: skip


def _floats() -> Iterator[Rest]:
    for dtype in ("float32", "float64"):
        signature = f"echo_{dtype}"
        for name, (text, value) in FLOATS.items():
            if dtype == "float32" and name == "2^53 + 1":
                value = float(2**53)
            if dtype == "float64" and name == "2^24 + 1":
                value = 16777217.0
            yield asked(
                f"{dtype}: {name}", f'{{"inputs": [{text}]}}', {"outputs": [value]}, signature=signature
            )
        for name, text in OTHERS.items():
            yield asked(
                f"{dtype}: {name}", f'{{"instances": [{text}]}}', signature=signature,
                message="object" if text.startswith("{") else "is not of expected type",
            )  # fmt: skip
    yield asked(
        "float32: too large becomes infinity", '{"inputs": [1e39, -1e39]}', {"outputs": [math.inf, -math.inf]},
        signature="echo_float32",
    )  # fmt: skip
    yield asked(
        "float64: what float cannot hold", '{"inputs": [1e39]}', {"outputs": [1e39]}, signature="echo_float64"
    )
    yield asked(
        "float32: a third",
        '{"inputs": [0.3333333333333333]}',
        {"outputs": [0.3333333432674408]},
        signature="echo_float32",
    )
    yield asked(
        "float64: all digits", '{"inputs": [0.1234567890123456]}', {"outputs": [0.1234567890123456]},
        signature="echo_float64",
    )  # fmt: skip


def _truth_values() -> Iterator[Rest]:
    body = {"instances": [True, False]}
    yield asked(
        "bool: true and false", body, {"predictions": [True, False]}, signature="echo_bool", source=GUIDE
    )
    for name, text in {**OTHERS, "one": "1", "zero": "0", "a fraction": "1.0"}.items():
        if name != "true":
            yield asked(
                f"bool: {name}", f'{{"instances": [{text}]}}', signature="echo_bool", source=JSON_TENSOR,
                message="object" if text.startswith("{") else "is not of expected type",
            )  # fmt: skip


CASES = [*_integers(), *_floats(), *_truth_values()]
