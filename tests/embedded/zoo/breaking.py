"""Requests made from ordinary ones to break an optimization."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
from embedded_server.execution.backend import Array

from zoo.kind import Kind, Request

MAGNITUDES = (np.nan, np.inf, -np.inf, 1e30, -1e38, 1e5, 1e-40)
ROWS = (7, 0)
GARBAGE = (b"", b"\xff\x00", b"no such word")


def made_to_break(kind: Kind) -> list[Request]:
    """For each signature, from its first ordinary request; and what the kind itself has."""
    first: dict[str, Request] = {}
    for request in kind.requests:
        first.setdefault(request[0], request)
    made = [
        (signature, inputs)
        for request in first.values()
        for signature, inputs in _broken(request, kind.fragile, kind.resized)
    ]
    return [*made, *kind.breaking]


def _broken(request: Request, fragile: Collection[str], resized: bool) -> Iterator[Request]:
    signature, inputs = request
    for name, array in inputs.items():
        for changed in () if name in fragile else _values(array):
            yield signature, {**inputs, name: changed}
        yield signature, {**inputs, name: array[None]}  # a dimension more
        for shape in _sizes(array) if resized else ():
            yield signature, {**inputs, name: np.resize(array, shape)}
    for rows in ROWS:
        if all(array.ndim for array in inputs.values()):
            yield signature, {name: np.resize(a, (rows, *a.shape[1:])) for name, a in inputs.items()}


def _values(array: Array) -> Iterator[Array]:
    """The array with its last element replaced, and as a whole at a limit."""
    if array.dtype == object:
        yield from (_last(array, value) for value in GARBAGE)
    elif array.dtype.kind in "iu":
        limits = np.iinfo(array.dtype)
        yield from (_last(array, value) for value in (limits.max, limits.min, limits.max // 2))
        if limits.min < 0:
            yield _last(array, -1)
        yield np.zeros_like(array)
    elif array.dtype.kind in "fV":
        yield from (_last(array, _fitting(array, value)) for value in MAGNITUDES)
        yield np.zeros_like(array)
        yield np.full_like(array, _fitting(array, -1e37))


def _fitting(array: Array, value: float) -> float:
    """The value, or where the type cannot hold it the nearest that it can."""
    if array.dtype.itemsize > 2 or not np.isfinite(value):
        return value
    return float(np.clip(value, -6e4, 6e4))


def _last(array: Array, value: object) -> Array:
    changed = array.copy()
    if changed.size:
        changed.reshape(-1)[-1] = value
    return changed


def _sizes(array: Array) -> Iterator[tuple[int, ...]]:
    """Shapes with one size changed: one more, one less, only 1, none, and a dimension less."""
    for axis, size in enumerate(array.shape):
        for changed in {size + 1, size - 1, 1, 0} - {size, -1}:
            if axis or changed in (1, size + 1):  # rows alone are no fault, but may not fit those of others
                yield (*array.shape[:axis], changed, *array.shape[axis + 1 :])
    if array.ndim:
        yield array.shape[1:]


def drawn(kind: Kind, count: int, seed: int) -> Iterator[Request]:
    """`count` requests for each ordinary one: other numbers of any magnitude, other rows, ids at hand."""
    random = np.random.default_rng(seed)
    for signature, inputs in kind.requests:
        for _ in range(count):
            rows = int(random.integers(1, 9))
            scale = (
                10.0 ** random.uniform(*((-0.5, 0.2) if kind.chooses else (-4, 4)))
                if random.random() < 0.5
                else 1.0
            )
            yield (
                signature,
                {
                    name: array if name in kind.fragile else _drawn(random, array, rows, scale)
                    for name, array in inputs.items()
                },
            )


def _drawn(random: np.random.Generator, array: Array, rows: int, scale: float) -> Array:
    if array.ndim:
        array = array[random.integers(0, len(array), rows)]
    if array.dtype.kind in "iu":
        shuffled = random.permutation(array.reshape(-1)).reshape(array.shape)
        return shuffled + random.integers(-1, 2, array.shape).astype(array.dtype) * (random.random() < 0.3)
    if array.dtype.kind in "fV":
        largest = np.abs(array).max() or 1.0
        return (random.normal(size=array.shape) * scale * largest / 2.0).astype(array.dtype)
    return array
