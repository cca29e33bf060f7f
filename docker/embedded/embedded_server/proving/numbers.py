"""Values for the requests of a proof: numbers of several magnitudes, texts, and arrays of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from embedded_server.execution.backend import Array
from embedded_server.execution.signature import TensorSpec

Shape = tuple[int, ...]
Random = np.random.Generator
_Values = npt.NDArray[np.float64]
MOST_ELEMENTS = 4_000_000
"""Of one request. Larger ones would take the time of many others."""
WORDS = (b"word", b"the", b"Linux", b"caf\xc3\xa9", b"unknownword", b"a")
SENTENCES = (
    b"the quick brown fox jumps over the lazy dog",
    b"This film was not good, and not bad either!",
    b"import numpy as np\nprint(np.zeros(3))",
)
DIGITS = (b"0", b"7", b"42", b"-3", b"3.5", b"1764000000")
EMPTY_EXAMPLE = b"\x0a\x00"
"""A serialized tf.Example with no features."""


@dataclass(frozen=True)
class Numbers:
    """One way to fill the inputs of a request, by the kind of type that they have."""

    label: str
    """If there are floats."""
    floats: Callable[[Random, Shape], _Values]
    integers_label: str
    integers: Callable[[Random, Shape], _Values]
    texts_label: str
    texts: Sequence[bytes]
    whole_bytes: bool = False
    """Fill integers of 8 bits, which are often pixels, from their whole range."""


def _uniform(least: float, most: float) -> Callable[[Random, Shape], _Values]:
    return lambda random, shape: random.uniform(least, most, shape)


def _integers(least: int, most: int) -> Callable[[Random, Shape], _Values]:
    return lambda random, shape: random.integers(least, most, shape, endpoint=True).astype(np.float64)


def _always(value: float) -> Callable[[Random, Shape], _Values]:
    return lambda random, shape: np.full(shape, value)


_IDS, _BITS = _integers(0, 9), _integers(0, 1)
NORMAL = Numbers(
    "normal numbers", lambda random, shape: random.standard_normal(shape), "ids from 0 to 9", _IDS,
    "words", WORDS, whole_bytes=True,
)  # fmt: skip
ORDINARY = (
    NORMAL,
    Numbers("numbers from 0 to 1", _uniform(0, 1), "0 and 1", _BITS, "sentences", SENTENCES),
    Numbers("numbers from 0 to 255", _uniform(0, 255), "ids from 0 to 9", _IDS, "digits", DIGITS, True),
    Numbers("numbers from -1 to 1", _uniform(-1, 1), "0 and 1", _BITS, "words", WORDS),
)


def _floats(label: str, floats: Callable[[Random, Shape], _Values]) -> Numbers:
    return replace(NORMAL, label=label, floats=floats)


def _up_to(largest: float) -> Numbers:
    return _floats(f"numbers up to {largest:g}", _uniform(-largest, largest))


LARGE = _up_to(1e6)
FLOATS = (
    _floats("infinity everywhere", _always(math.inf)),
    _up_to(1e3),
    _floats("NaN everywhere", _always(math.nan)),
    _up_to(1e9),
    _floats("zeros", _always(0.0)),
    _up_to(3e38),
    _floats("-infinity everywhere", _always(-math.inf)),
    _up_to(1e30),
    _up_to(1e-30),
    _up_to(1e-40),
    _floats("zeros with a sign", _always(-0.0)),
)
DOUBLES = (
    _floats("numbers near 1764000000.25", lambda random, shape: 1764000000.25 + random.uniform(0, 1, shape)),
    _up_to(1e300),
)
"""More than a float32 can hold, for inputs of float64."""


def kind_of(spec: TensorSpec) -> str:
    """f for floats and complex numbers, i for integers, s for strings, b for truth values."""
    dtype = spec.dtype.numpy
    assert dtype is not None, spec.dtype.name  # the proof refuses other inputs first
    if dtype == np.object_:
        return "s"
    if dtype == np.bool_:
        return "b"
    return "i" if np.issubdtype(dtype, np.integer) else "f"


def filled(random: Random, spec: TensorSpec, shape: Shape, numbers: Numbers) -> Array:
    """An array for an input."""
    dtype, kind = spec.dtype.numpy, kind_of(spec)
    assert dtype is not None
    if kind == "s":
        return texts([numbers.texts[index % len(numbers.texts)] for index in range(math.prod(shape))], shape)
    if kind == "b":
        return random.uniform(0, 1, shape) > 0.5
    if kind == "i":
        if numbers.whole_bytes and dtype.itemsize == 1:
            bounds = np.iinfo(dtype)
            return random.integers(bounds.min, bounds.max, shape, dtype=dtype, endpoint=True)
        return numbers.integers(random, shape).astype(dtype)
    values = numbers.floats(random, shape)
    if dtype.kind == "c":
        whole = np.empty(shape, np.complex128)
        whole.real, whole.imag = values, numbers.floats(random, shape)
        with np.errstate(over="ignore"):
            return whole.astype(dtype)
    return as_floats(values, dtype)


def texts(values: Sequence[bytes], shape: Shape) -> Array:
    """An array of strings."""
    array = np.empty(len(values), dtype=np.object_)
    array[:] = values
    return array.reshape(shape)


def as_floats(values: Any, dtype: np.dtype[Any]) -> Array:
    """Numbers as a float type; those that are too large for it become its largest."""
    if dtype.kind == "c":
        return np.asarray(values).astype(dtype)
    largest = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
    values = np.asarray(values, np.float64)
    limited: Array = np.where(np.isfinite(values), np.clip(values, -largest, largest), values)
    return limited.astype(dtype)
