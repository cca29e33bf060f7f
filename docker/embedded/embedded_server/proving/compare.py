"""Two answers to one request compared.

Names, types and shapes of outputs must be the same, and NaN and infinities in the same places. An error
must meet an error of the same class, never a number.

Floats may differ by `limit` in the unit of their output's scale. Of probabilities (all numbers that
TensorFlow answers to ordinary requests are within [0, 1]) the scale is 1. Of other numbers it is the largest
magnitude in the same row of TensorFlow's answer, or the usual one for requests with such numbers if that is
larger (for zeros and the like: the usual one for ordinary requests). A number that happens to be near zero is
a difference of larger ones, and as uncertain as they are. By row, so that one row of large numbers does not
hide what is wrong with the others. An output of float16 or bfloat16 may always differ by about two of its own
steps.

Integers, truth values and strings must be the same. So must shapes. There is one exception, where
TensorFlow itself is undecided: two classes with nearly the same score, or a number of boxes that depends
on a score near a threshold. Then `excused` asks TensorFlow again with float inputs that differ in the
last digits of the precision (a factor of 1 +- 1e-6 for f32, 1 +- 4e-3 for bf16), a few times. A difference is
accepted only where TensorFlow's own answer changes in all the places that differ, and what was answered there
lies between TensorFlow's values. Inputs with no floats, photos for example, cannot be changed by so
little: there a different class is a disagreement, unless it is a near tie (`is_near_tie`): the scores are
among the outputs, and those of the two classes differ in both answers by no more than what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from embedded_server.common import errors
from embedded_server.execution.backend import Array, Backend
from embedded_server.proving.breaking import Request

Outcome = Mapping[str, Array] | errors.ServingError
"""What a backend answers: an array for each output, or an error."""

_OWN_LIMITS: Mapping[np.dtype[Any], float] = {
    np.dtype(np.float16): 1e-3,
    np.dtype(ml_dtypes.bfloat16): 1e-2,
}
_TINY = 1e-30
"""Smaller numbers count as 0: arithmetic may flush them."""
_PROBABLE = 0.01
"""Numbers in [0, 1] that are all smaller and do not add up to 1 are no probabilities."""
_TRIES = 16
_NOT_COMPARABLE = (errors.ResourceExhausted, errors.DeadlineExceeded, errors.Unavailable)
"""TensorFlow ran out of memory or time: what it would have answered is unknown."""


def ask(backend: Backend, signature: str, inputs: Mapping[str, Array]) -> Outcome:
    """What a backend answers. What is no ServingError the server answers as Internal, so it is that here."""
    try:
        return backend.run(signature, inputs)
    except errors.ServingError as error:
        return error
    except Exception as error:
        return errors.Internal(f"{type(error).__name__}: {error}")


@dataclass(frozen=True)
class Disagreement:
    """What is wrong with an answer.

    text: a clause such as "'y' differs by 0.3, and 0.0005 is allowed".
    amount: by how much, in the unit of the limit; None if no limit allows it.
    output: the output, if TensorFlow itself may be undecided about it (see `excused`).
    """

    text: str
    amount: float | None = None
    output: str | None = None


@dataclass(frozen=True)
class Scales:
    """By what a difference is divided; learned from TensorFlow's answers to ordinary requests.

    probabilities: outputs whose numbers are probabilities.
    usual: (family, output) -> the usual largest magnitude of a row.
    """

    probabilities: frozenset[str]
    usual: Mapping[tuple[str, str], float]

    @classmethod
    def learned(cls, answers: Iterable[tuple[Request, Outcome]]) -> Scales:
        """From requests and TensorFlow's answers to them."""
        values: dict[str, list[Array]] = {}
        rows: dict[tuple[str, str], list[float]] = {}
        for request, outcome in answers:
            if isinstance(outcome, errors.ServingError):
                continue
            for name, array in outcome.items():
                if _is_float(array) and array.size:
                    values.setdefault(name, []).append(array)
                    largest = _largest_by_row(array, request.rows)
                    rows.setdefault((request.family, name), []).extend(largest.reshape(-1).tolist())
        return cls(
            frozenset(name for name, arrays in values.items() if _are_probabilities(arrays)),
            {key: float(np.median(largest)) for key, largest in rows.items()},
        )

    def of(self, request: Request, output: str, expected: Array) -> Array | float:
        """The scale of an output: one number, or one for each row that spreads over the array."""
        if not _is_float(expected):
            return 1.0
        if output in self.probabilities and _within_unit(expected):
            return 1.0
        usual = self.usual.get((request.family, output), 0.0)
        if not usual:
            # Zeros, or other numbers that ordinary requests do not hold.
            known = [scale for (_, name), scale in self.usual.items() if name == output and scale]
            usual = min(known, default=_TINY)
        return np.maximum(_largest_by_row(expected, request.rows), max(usual, _TINY))


@dataclass(frozen=True)
class Comparison:
    """difference: the largest one of all floats, in the unit of the limit."""

    difference: float
    disagreements: tuple[Disagreement, ...]


def compare(request: Request, expected: Outcome, actual: Outcome, scales: Scales, limit: float) -> Comparison:
    """TensorFlow's answer to a request and the optimized model's."""
    if isinstance(expected, errors.ServingError):
        return Comparison(0.0, tuple(_compare_errors(expected, actual)))
    if isinstance(actual, errors.ServingError):
        text = f"it is refused ({actual.code}), and TensorFlow answers"
        return Comparison(0.0, (Disagreement(text),))
    if expected.keys() != actual.keys():
        names = [", ".join(map(repr, sorted(outcome))) for outcome in (actual, expected)]
        return Comparison(0.0, (Disagreement(f"it answers {names[0]}, and TensorFlow {names[1]}"),))
    largest, disagreements = 0.0, []
    for name, array in expected.items():
        difference, disagreement = _compare_arrays(
            name, array, actual[name], scales.of(request, name, array), limit, name in scales.probabilities
        )
        largest = max(largest, difference)
        if disagreement is not None:
            disagreements.append(disagreement)
    return Comparison(largest, tuple(disagreements))


def _compare_errors(expected: errors.ServingError, actual: Outcome) -> Iterator[Disagreement]:
    if isinstance(expected, _NOT_COMPARABLE):
        return
    if not isinstance(actual, errors.ServingError):
        yield Disagreement(f"it is answered, and TensorFlow refuses it ({expected.code})")
    elif type(actual) is not type(expected):
        yield Disagreement(
            f"it is refused with {actual.code}, and TensorFlow refuses it with {expected.code}"
        )


def _compare_arrays(
    name: str, expected: Array, actual: Array, scale: Array | float, limit: float, probability: bool
) -> tuple[float, Disagreement | None]:
    if actual.dtype != expected.dtype:
        return 0.0, Disagreement(f"{name!r} has the type {actual.dtype}, and {expected.dtype} is right")
    if actual.shape != expected.shape:
        shapes = [f"[{', '.join(map(str, array.shape))}]" for array in (actual, expected)]
        return 0.0, Disagreement(f"{name!r} has the shape {shapes[0]}, and {shapes[1]} is right", None, name)
    if not _is_float(expected):
        places = _places(expected, actual)
        if not places.any():
            return 0.0, None
        values = [_shown(array[places].reshape(-1)[0]) for array in (actual, expected)]
        return 0.0, Disagreement(f"{name!r} has {values[0]} where {values[1]} is right", None, name)
    return _compare_floats(name, expected, actual, scale, limit, probability)


def _compare_floats(
    name: str, expected: Array, actual: Array, scale: Array | float, limit: float, probability: bool
) -> tuple[float, Disagreement | None]:
    limit = max(limit, _OWN_LIMITS.get(expected.dtype, 0.0))
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    right, given = expected.astype(wide), actual.astype(wide)
    finite = np.isfinite(right)
    for test in (np.isnan, np.isinf):
        if (test(right) != test(given)).any():
            place = np.argwhere(test(right) != test(given))[0]
            values = [_shown(array[tuple(place)]) for array in (given, right)]
            return 0.0, Disagreement(f"{name!r} has {values[0]} where {values[1]} is right")
    if right.dtype.kind != "c" and (np.sign(right) != np.sign(given))[np.isinf(right)].any():
        return 0.0, Disagreement(f"{name!r} has an infinity of the other sign")
    with np.errstate(invalid="ignore"):
        differences = np.abs(right - given) / scale
    difference = float(differences[finite].max(initial=0.0))
    if difference <= limit:
        return difference, None
    if difference > 1:
        place = np.unravel_index(np.argmax(np.where(finite, differences, 0.0)), right.shape)
        values = [_shown(array[place]) for array in (given, right)]
        return difference, Disagreement(f"{name!r} has {values[0]} where {values[1]} is right")
    unit = "" if probability and np.ndim(scale) == 0 else " of its largest number"
    text = f"{name!r} differs by {difference:.2g}{unit}, and {limit:g} is allowed"
    return difference, Disagreement(text, difference)


def is_near_tie(
    request: Request,
    expected: Mapping[str, Array],
    actual: Mapping[str, Array],
    output: str,
    scales: Scales,
    limit: float,
) -> bool:
    """Whether `output` is the class with the largest score, and in both answers two classes nearly tie.

    Whether the scores themselves are near enough is compared by itself.
    """
    first, second = expected[output], actual[output]
    if first.dtype.kind not in "iu" or first.shape != second.shape:
        return False
    for name, scores in expected.items():
        others = actual[name]
        if not _is_float(scores) or scores.dtype.kind == "c" or scores.shape != others.shape:
            continue
        if scores.shape[:-1] != first.shape or not scores.size:
            continue
        if (scores.argmax(-1) != first).any() or (others.argmax(-1) != second).any():
            continue
        allowed = np.broadcast_to(limit * scales.of(request, name, scores), scores.shape)[..., 0]
        near = (_lead(scores, second) <= allowed) & (_lead(others, first) <= allowed)
        return bool(near.all())
    return False


def _lead(scores: Array, over: Array) -> Array:
    """By how much the largest score of each row exceeds that of a class."""
    return np.asarray(scores.max(-1) - np.take_along_axis(scores, over[..., None], -1)[..., 0], np.float64)


def excused(
    stock: Backend, signature: str, request: Request, expected: Array, actual: Array, output: str,
    rounding: float,
) -> bool:  # fmt: skip
    """Whether TensorFlow itself is undecided in all the places in which two answers differ.

    rounding: how much the precision changes a number, as a part of it.
    """
    others: list[Array] = []
    for inputs in _changed_a_little(request.inputs, rounding):
        outcome = ask(stock, signature, inputs)
        if not isinstance(outcome, errors.ServingError):
            others.append(outcome[output])
            if _is_undecided(expected, actual, others):
                return True
    return False


def _is_undecided(expected: Array, actual: Array, others: Sequence[Array]) -> bool:
    """Whether `others`, TensorFlow's answers to nearly the same, excuse that `actual` is not `expected`."""
    if actual.shape != expected.shape:
        shapes = [array.shape for array in (expected, *others) if array.ndim == actual.ndim]
        return actual.ndim == expected.ndim and _are_between(np.array(actual.shape), np.array(shapes))
    others = [array for array in others if array.shape == expected.shape]
    places = _places(expected, actual)
    changed = [_places(expected, other)[places] for other in others]
    if not others or not np.any(changed, axis=0).all():
        return False
    if expected.dtype == np.object_:
        known = {text for array in others for text in array.reshape(-1)}
        return all(text in known for text in actual[places])
    return _are_between(actual[places], np.array([array[places] for array in (expected, *others)]))


def _are_between(values: Array, samples: Array) -> bool:
    return bool(((values >= samples.min(0)) & (values <= samples.max(0))).all())


def _changed_a_little(inputs: Mapping[str, Array], rounding: float) -> Iterator[Mapping[str, Array]]:
    """`inputs` a few times with other last digits; nothing if none are floats."""
    if not any(_is_float(array) for array in inputs.values()):
        return
    for seed in range(_TRIES):
        random = np.random.default_rng(seed)
        yield {
            name: _factored(random, array, rounding) if _is_float(array) else array
            for name, array in inputs.items()
        }


def _factored(random: np.random.Generator, array: Array, rounding: float) -> Array:
    if array.dtype.kind != "c":
        # Less than a step of the type would change nothing.
        rounding = max(rounding, 2 * float(ml_dtypes.finfo(array.dtype).eps))  # type: ignore[no-untyped-call]
    signs = random.choice((-1.0, 1.0), array.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(array * (1 + rounding * signs), array.dtype)


def _is_float(array: Array) -> bool:
    return array.dtype.kind in "fc" or array.dtype == ml_dtypes.bfloat16


def _places(expected: Array, actual: Array) -> Array:
    return np.asarray(expected != actual, np.bool_)


def _largest_by_row(array: Array, rows: int | None) -> Array:
    """The largest finite magnitude of each row, in a shape that spreads over the array.

    Of the whole array if its first dimension is not that of the rows.
    """
    magnitudes = np.abs(array.astype(np.complex128 if array.dtype.kind == "c" else np.float64))
    magnitudes = np.where(np.isfinite(magnitudes), magnitudes, 0.0)
    if rows is None or array.ndim == 0 or len(array) != rows:
        return np.asarray(magnitudes.max(initial=0.0))
    axes = tuple(range(1, array.ndim))
    return np.asarray(magnitudes.max(axes, keepdims=True, initial=0.0))


def _within_unit(array: Array) -> bool:
    if array.dtype.kind == "c":
        return False
    numbers = array[~np.isnan(array)]
    return bool(((numbers >= 0) & (numbers <= 1)).all())


def _are_probabilities(arrays: Sequence[Array]) -> bool:
    if not all(map(_within_unit, arrays)):
        return False
    if max(float(np.nanmax(array, initial=0.0)) for array in arrays) >= _PROBABLE:
        return True
    return all(map(_add_up_to_1, arrays))


def _add_up_to_1(array: Array) -> bool:
    return bool(array.ndim and np.allclose(array.astype(np.float64).sum(-1), 1, atol=1e-2))


_SHOWN = 40
"""Characters of a text in a message."""


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        text = value.decode(errors="backslashreplace")
        return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
    return f"{value:.4g}" if isinstance(value, float | complex | np.inexact) else str(value)
