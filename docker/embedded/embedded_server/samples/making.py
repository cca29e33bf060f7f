"""Puts values together to requests, and keeps those that TensorFlow answers."""

from __future__ import annotations

import base64
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from embedded_server.common.errors import ServingError
from embedded_server.execution.backend import Array, Backend
from embedded_server.execution.signature import Signature
from embedded_server.proving.templates import sizes_in, templates
from embedded_server.samples import sparse
from embedded_server.samples.uses import Use
from embedded_server.samples.values import Filler, Kind

WANTED = 12
"""Requests for each signature."""
_MOST_SEEDS = 3 * WANTED
_MOST_SHAPES = 4
_MOST_TRIES = 60
_COLUMNS = (4, 10)
"""Of a sparse matrix, as first guesses."""
_SECONDS = 60.0
"""For one signature, after which fewer requests have to do."""
_MOST_NUMBERS = 8_000_000
"""In all requests of a signature, after which fewer have to do: they are text, and kept."""
_RANDOM = 1e-2
"""In parts of the largest number: what two answers to one request differ by only if they are drawn."""

Shapes = Mapping[str, tuple[int | None, ...]]
"""Input -> its shape; None is the number of rows."""


@dataclass
class Made:
    """The requests of one signature.

    problem: why there are none, as a clause.
    is_random: whether TensorFlow has answered one of them differently twice.
    photo_size: height and width that photos must have; None for any.
    """

    kinds: Mapping[str, Kind]
    bodies: list[dict[str, Any]] = field(default_factory=list)
    problem: str | None = None
    is_random: bool = False
    photo_size: tuple[int, int] | None = None


def made(backend: Backend, signature: Signature, uses: Mapping[str, Use], filler: Filler) -> Made:
    """Up to WANTED distinct requests that `backend` answers."""
    return _Making(backend, signature, uses, filler).run()


class _Making:
    """The work on one signature."""

    def __init__(
        self, backend: Backend, signature: Signature, uses: Mapping[str, Use], filler: Filler
    ) -> None:
        self._backend = backend
        self._signature = signature
        self._uses = uses
        self._filler = filler
        self._end = time.monotonic() + _SECONDS
        self._parts: tuple[sparse.Parts, int] | None = None
        """Of a sparse matrix, if there is one, and how many columns it has."""
        self._refusal = ""
        self._first_refusal = ""
        """Of the likeliest request, which says more than those of guesses."""

    def run(self) -> Made:
        specs = self._signature.inputs
        if any(spec.dtype.numpy is None for spec in specs.values()):
            return Made({}, problem="an input has a type that no request can carry")
        kinds, shapes = self._sparse() or self._working()
        resized = None if shapes else self._filler.resized(self._first_refusal)
        if resized is not None:
            self._filler = resized
            kinds, shapes = self._working()
        if not shapes:
            first = {name: self._filler.kinds(name, specs[name], self._uses[name])[0] for name in specs}
            reason = self._first_refusal.rstrip(". ") or "its shapes are not known"
            return Made(first, problem=f"TensorFlow refuses every request that was made up ({reason})")
        result = Made(kinds, photo_size=self._filler.photo_size)
        answered = list(self._answered(kinds, shapes))
        in_rows = self._is_in_rows(answered)
        seen = set()
        for inputs, _ in answered:
            body = self._body(inputs, in_rows)
            if repr(body) not in seen:
                seen.add(repr(body))
                result.bodies.append(body)
        again = self._answer(answered[0][0])
        result.is_random = again is None or not _are_alike(answered[0][1], again)
        return result

    def _sparse(self) -> tuple[Mapping[str, Kind], list[Shapes]] | None:
        """The same for inputs among which are the parts of a sparse matrix; None if there are none."""
        parts = sparse.find(self._signature.inputs)
        if parts is None:
            return None
        specs = self._signature.inputs
        kinds = {name: self._filler.kinds(name, spec, self._uses[name])[0] for name, spec in specs.items()}
        kinds |= dict.fromkeys((parts.places, parts.shape), Kind("sparse matrix"))
        shapes: Shapes = {
            name: tuple(size or None for size in spec.shape or ()) for name, spec in specs.items()
        }
        tried: list[int] = []
        candidates = [*_COLUMNS]
        while candidates and len(tried) < _MOST_SHAPES * len(_COLUMNS):
            tried.append(candidates.pop(0))
            self._parts = parts, tried[-1]
            if self._answer(self._inputs(kinds, shapes, 0)) is not None:
                return kinds, [shapes]
            # What its columns are multiplied with, TensorFlow tells.
            candidates = [
                *(n for n in sizes_in(self._refusal) if n not in tried and n not in candidates),
                *candidates,
            ]
        self._parts = None
        return None

    def _working(self) -> tuple[Mapping[str, Kind], list[Shapes]]:
        """How to fill the inputs, and shapes, of which TensorFlow answers a request."""
        specs = self._signature.inputs
        choices = [self._filler.kinds(name, spec, self._uses[name]) for name, spec in specs.items()]
        # The likeliest of all first; then one other at a time is enough for nearly every model.
        for chosen in sorted(itertools.product(*map(enumerate, choices)), key=_unlikeliness)[:_MOST_TRIES]:
            kinds = {name: kind for name, (_, kind) in zip(specs, chosen, strict=True)}
            shapes = self._shapes(kinds)
            if shapes or time.monotonic() > self._end:
                return kinds, shapes
        return {}, []

    def _shapes(self, kinds: Mapping[str, Kind]) -> list[Shapes]:
        """Up to _MOST_SHAPES that TensorFlow answers."""
        fitting: list[Shapes] = []
        told: dict[int, None] = {}
        for attempt in range(2):
            for shapes in itertools.islice(templates(self._signature, told), _MOST_TRIES):
                if shapes in fitting:
                    continue
                if self._answer(self._inputs(kinds, shapes, 0)) is not None:
                    fitting.append(shapes)
                told.update(dict.fromkeys(sizes_in(self._refusal)))
                if len(fitting) == _MOST_SHAPES or time.monotonic() > self._end:
                    return fitting
                if not fitting and attempt == 0 and len(told) > 3 * _MOST_SHAPES:
                    break
            if fitting or not told:
                break
        return fitting

    def _answered(
        self, kinds: Mapping[str, Kind], shapes: Sequence[Shapes]
    ) -> Iterator[tuple[dict[str, Array], Mapping[str, Array]]]:
        count = numbers = 0
        for seed in range(_MOST_SEEDS):
            inputs = self._inputs(kinds, shapes[seed % len(shapes)], seed)
            outputs = self._answer(inputs)
            if outputs is not None:
                count += 1
                yield inputs, outputs
                numbers += sum(array.size for array in inputs.values())
            if count == WANTED or (count and (time.monotonic() > self._end or numbers > _MOST_NUMBERS)):
                return

    def _inputs(self, kinds: Mapping[str, Kind], shapes: Shapes, seed: int) -> dict[str, Array]:
        # Models that compare two photos would say the same of a photo and itself each time.
        photos = [name for name in self._signature.inputs if kinds[name].name in ("photo", "pixels")]
        filled = {
            name: self._filler.filled(
                name,
                spec,
                self._uses[name],
                kinds[name],
                _with_one_row(shapes[name]),
                seed + (photos.index(name) if name in photos else 0),
            )
            for name, spec in self._signature.inputs.items()
        }
        if self._parts is None:
            return filled
        parts, columns = self._parts
        spec, use, kind = (
            self._signature.inputs[parts.values], self._uses[parts.values], kinds[parts.values]
        )  # fmt: skip
        values = self._filler.filled(parts.values, spec, use, kind, (columns,), seed)
        return filled | parts.filled(columns, values, seed)

    def _answer(self, inputs: Mapping[str, Array]) -> Mapping[str, Array] | None:
        try:
            return self._backend.run(self._signature.name, inputs)
        except ServingError as error:
            self._refusal = str(error).partition("\n")[0]
            self._first_refusal = self._first_refusal or self._refusal
            return None

    # Form

    def _is_in_rows(self, answered: Sequence[tuple[Mapping[str, Array], Mapping[str, Array]]]) -> bool:
        """Whether every output has a row for each row of the inputs, as the row form requires."""
        rows = {array.shape[:1] for inputs, _ in answered for array in inputs.values()}
        if len(rows) != 1 or rows == {()}:
            return False
        if not all(self._has_rows(outputs, rows) for _, outputs in answered):
            return False
        specs = self._signature.inputs.values()
        if all(spec.shape is not None and spec.shape[:1] == (None,) for spec in specs):
            inputs = {name: np.repeat(array, 2, 0) for name, array in answered[0][0].items()}
            outputs = self._answer(inputs)
            return outputs is None or self._has_rows(outputs, {(2 * n,) for (n,) in rows})
        (count,) = rows
        # A batch of one that is fixed, and an output of any length: that of a photo was 1 by chance.
        return all(
            spec.shape is None or spec.shape[:1] == count or count != (1,)
            for spec in self._signature.outputs.values()
        )

    @staticmethod
    def _has_rows(outputs: Mapping[str, Array], rows: set[tuple[int, ...]]) -> bool:
        return all({array.shape[:1]} == rows for array in outputs.values())

    def _body(self, inputs: Mapping[str, Array], in_rows: bool) -> dict[str, Any]:
        columns = {name: _as_json(array) for name, array in inputs.items()}
        body: dict[str, Any] = {"signature_name": self._signature.name}
        if not in_rows:
            body["inputs"] = next(iter(columns.values())) if len(columns) == 1 else columns
        elif len(columns) == 1:
            body["instances"] = next(iter(columns.values()))
        else:
            rows = range(len(next(iter(inputs.values()))))
            body["instances"] = [{name: column[row] for name, column in columns.items()} for row in rows]
        return body


def _unlikeliness(chosen: Sequence[tuple[int, Kind]]) -> tuple[int, int]:
    ranks = [rank for rank, _ in chosen]
    return sum(rank > 0 for rank in ranks), sum(ranks)


def _with_one_row(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    return tuple(1 if size is None else size for size in shape)


def _as_json(array: Array) -> Any:
    """Nested lists; bytes that are no text become {"b64": ...}."""
    if array.dtype == np.object_:
        texts = np.empty(array.size, np.object_)
        texts[:] = [_text(value) for value in array.ravel().tolist()]
        return texts.reshape(array.shape).tolist()
    if array.dtype.kind in "fV":
        # As short as the type allows: 0.1, and not 0.10000000149; 37, and not 37.0.
        numbers = np.empty(array.size, np.object_)
        numbers[:] = [_short(value) for value in array.ravel()]
        return numbers.reshape(array.shape).tolist()
    return array.tolist()


def _short(value: Any) -> float | int:
    number = float(str(value))
    return int(number) if number == int(number) and abs(number) < 1 << 24 else number


def _text(value: bytes) -> str | dict[str, str]:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = ""
    if text and text.isprintable():
        return text
    return {"b64": base64.b64encode(value).decode()}


def _are_alike(first: Mapping[str, Array], second: Mapping[str, Array]) -> bool:
    """Whether two answers to one request are the same, but for the order of sums."""
    for name, array in first.items():
        other = second[name]
        if array.shape != other.shape:
            return False
        if array.dtype.kind not in "fcV":
            if not np.array_equal(array, other):
                return False
            continue
        a, b = (
            values.astype(np.complex128 if values.dtype.kind == "c" else np.float64)
            for values in (array, other)
        )
        finite = np.isfinite(a)
        if not np.array_equal(finite, np.isfinite(b)):
            return False
        scale = np.abs(a[finite]).max(initial=0.0)
        if np.abs(a[finite] - b[finite]).max(initial=0.0) > _RANDOM * scale:
            return False
    return True
