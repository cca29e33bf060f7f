"""Requests for a proof, made from what a signature says about its inputs.

Ordinary requests hold numbers of several magnitudes, small ids and words, with 1, 2, 3 and 7 rows. Those
made to break hold what optimized arithmetic often gets wrong: NaN, infinities, numbers near the limits of
their type, ids that are out of range, no rows at all, shapes that the signature does not have.

All are drawn from fixed seeds: the same signature gives the same requests in every proof.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, zip_longest

import numpy as np

from embedded_server.execution.backend import Array
from embedded_server.execution.signature import Signature, TensorSpec
from embedded_server.proving.numbers import (
    DOUBLES,
    EMPTY_EXAMPLE,
    FLOATS,
    LARGE,
    MOST_ELEMENTS,
    NORMAL,
    ORDINARY,
    Numbers,
    Random,
    Shape,
    as_floats,
    filled,
    kind_of,
    texts,
)
from embedded_server.proving.templates import Template, elements_of, is_declared, rows_of

_SEPARATELY = 4
"""Inputs of a signature that are broken one at a time."""

_BREAKING_TEXTS: Mapping[str, bytes] = {
    "empty text": b"",
    "text that is not UTF-8": b"\xff\xfe\x80abc\xc3",
    "a text of 20000 bytes": b"long text " * 2000,
    "text with a zero byte": b"a\x00b",
    "an empty tf.Example": EMPTY_EXAMPLE,
    "the beginning of a JPEG": b"\xff\xd8\xff\xe0\x00\x10JFIF",
}


@dataclass(frozen=True)
class Request:
    """What both are asked.

    label: says in a message what it holds ("3 rows, numbers up to 1e+06").
    family: requests of one family hold numbers of one kind, so their answers have one scale.
    ordinary: it is like what clients send, so its difference counts in the table.
    rows: of the batch; None if the signature has no open first dimension.
    """

    label: str
    inputs: Mapping[str, Array]
    family: str
    ordinary: bool
    rows: int | None


_ONE_FLOAT = (math.inf, 1e6, -math.inf, -1e9, 3e38, 1e30, 1e-40)
_ONE_INTEGER = (
    -1, 10, 2**31 + 5, 100, 5_000_000_123, -(2**31) - 7, 100_000_001, 2**24 + 1, 1_764_000_000_000,
    4_000_000_000, 1000, 200,
)  # fmt: skip
_ALL_INTEGERS = (5_000_000_123, 4_000_000_000, 100_000_001, 200, -1, 0)


class Maker:
    """Makes the requests of one signature."""

    def __init__(self, signature: Signature) -> None:
        self._specs = signature.inputs
        self._has_rows = rows_of(signature)
        self._made = 0

    def request(self, template: Template, numbers: Numbers, rows: int, ordinary: bool = False) -> Request:
        """One with `rows` rows, or with as many as MOST_ELEMENTS allows."""
        rows = min(rows, max(1, MOST_ELEMENTS // max(1, elements_of(template))))
        random = self._random()
        inputs = {
            name: filled(random, spec, _concrete(template[name], rows), numbers)
            for name, spec in self._specs.items()
        }
        label = self._label(numbers)
        sizes = "" if all(map(is_declared, self._specs.values())) else _shapes(inputs)
        return Request(
            ", ".join(part for part in (self._rows(rows), sizes, label) if part),
            inputs,
            f"{label} {sorted(template.items())}",
            ordinary,
            rows if self._has_rows else None,
        )  # fmt: skip

    def spoiled(
        self, template: Template, value: float | int | bytes, label: str, names: Sequence[str]
    ) -> Request:
        """Three rows of normal numbers with `value` in one element of the first row of the inputs `names`."""
        request = self.request(template, NORMAL, 3)
        random = self._random()
        inputs = dict(request.inputs)
        for name in names:
            inputs[name] = _with_one(random, inputs[name], value)
        where = f" in {names[0]!r}" if len(names) == 1 and len(inputs) > 1 else ""
        label = ", ".join(part for part in (self._rows(3), f"{label}{where}") if part)
        return replace(request, label=label, inputs=inputs)

    def reshaped(self, template: Template, shapes: Mapping[str, Shape], label: str) -> Request:
        """Normal numbers in inputs of other shapes."""
        random = self._random()
        request = self.request(template, NORMAL, 2)
        made = {name: filled(random, self._specs[name], shape, NORMAL) for name, shape in shapes.items()}
        return replace(request, label=label, inputs={**request.inputs, **made}, family=label, rows=None)

    def _random(self) -> Random:
        self._made += 1
        return np.random.default_rng(self._made)

    def _label(self, numbers: Numbers) -> str:
        kinds = {kind_of(spec) for spec in self._specs.values()}
        if "f" in kinds:
            return numbers.label
        if "i" in kinds:
            return numbers.integers_label
        if "s" in kinds:
            return numbers.texts_label
        return "truth values" if kinds else "no inputs"

    def _rows(self, rows: int) -> str:
        if not self._has_rows:
            return ""
        return "1 row" if rows == 1 else f"{rows} rows"


def ordinary(
    maker: Maker, fitting: Sequence[Template], samples: Mapping[str, Sequence[bytes]], text_input: str | None
) -> Iterator[Request]:
    """Requests like those of clients, the most telling first.

    fitting: shapes that the model takes. samples: what texts are ("photo") -> some of them. text_input: the
    one input, if it is of strings.
    """
    plan: list[tuple[int, int]] = [(0, 1), (1, 3), (2, 2), (3, 7), (1, 1), (0, 3), (2, 7), (3, 1), (0, 2)]
    made = [
        maker.request(template, ORDINARY[kind], rows, True)
        for (kind, rows), template in zip(plan, cycle(fitting), strict=False)
    ]
    if len(fitting) > 1:
        made += [maker.request(shape, NORMAL, rows, True) for shape in fitting for rows in (1, 3)]
    made = list({_key(request): request for request in made}.values())
    if text_input is None:
        yield from made
        return
    groups = [_sample_requests(*pair, text_input, fitting[0]) for pair in samples.items() if pair[1]]
    empty = replace(NORMAL, texts=(EMPTY_EXAMPLE,), texts_label="empty tf.Examples")
    made.append(maker.request(fitting[0], empty, 2, True))
    yield from alternating(*groups, made)


def _key(request: Request) -> object:
    # Seeds differ, so equal labels do not mean equal numbers; without rows the seeds alone are enough.
    return request.label if request.rows is not None else id(request)


def _sample_requests(what: str, samples: Sequence[bytes], name: str, template: Template) -> Iterator[Request]:
    shape = template[name]
    open_rows = shape[:1] == (None,)
    groups = [(0, 1), (1, 3), *((n, 1) for n in range(1, len(samples))), (2, 2), (0, 7)]
    for first, rows in groups if open_rows else [(n, 1) for n in range(len(samples))]:
        concrete = _concrete(shape, rows)
        values = [samples[(first + n) % len(samples)] for n in range(math.prod(concrete))]
        label = f"1 {what}" if len(values) == 1 else f"{len(values)} {what}s"
        yield Request(label, {name: texts(values, concrete)}, what, True, rows if open_rows else None)


def breaking(
    maker: Maker, signature: Signature, fitting: Sequence[Template], bases: Sequence[Request] = ()
) -> Iterator[Request]:
    """Requests made to break the optimized model, the most telling first, all kinds in turn.

    NaN and a large magnitude are the first two if the signature takes floats. bases: requests of clients,
    which TensorFlow answers even if it refuses all that is made from the signature alone.
    """
    specs, template = signature.inputs, fitting[0]
    by_kind = {
        kind: [name for name, spec in specs.items() if kind_of(spec) == kind] for kind in ("f", "i", "s", "b")
    }
    floats = by_kind["f"]
    if floats:
        yield maker.spoiled(template, math.nan, "one NaN", floats)
        yield maker.request(template, LARGE, 2)
    yield from alternating(
        _breaking_floats(maker, specs, fitting, floats) if floats else (),
        _breaking_integers(maker, specs, template, by_kind["i"]) if by_kind["i"] else (),
        _breaking_texts(maker, specs, template, by_kind["s"]) if by_kind["s"] else (),
        _all_bits(maker, template, by_kind["b"]) if by_kind["b"] else (),
        _breaking_shapes(maker, specs, template),
        *(_spoiled_forms(base, specs) for base in bases),
    )


def _spoiled_forms(base: Request, specs: Mapping[str, TensorSpec]) -> Iterator[Request]:
    """A request of a client with one value changed, and with three times its rows."""
    random = np.random.default_rng(0)
    kinds = {name: kind_of(spec) for name, spec in specs.items()}
    values: list[tuple[str, str, float | int | bytes]] = [
        ("f", "one NaN", math.nan),
        *(("f", f"one {value:g}", value) for value in _ONE_FLOAT),
        *(("i", f"one {value}", value) for value in _ONE_INTEGER),
        *(("s", label, text) for label, text in _BREAKING_TEXTS.items()),
    ]
    for kind, label, value in values:
        names = [name for name in specs if kinds[name] == kind]
        if kind == "i":
            names = [name for name in names if _holds(specs[name], int(value))]
        changed = {name: _with_one(random, base.inputs[name], value) for name in names}
        if changed:
            yield replace(
                base,
                label=f"{base.label}, with {label}",
                inputs={**base.inputs, **changed},
                ordinary=False,
            )
    if base.rows:
        thrice = {
            name: np.concatenate([array] * 3) if len(array.shape) and len(array) == base.rows else array
            for name, array in base.inputs.items()
        }
        label = f"{base.label}, three times its rows"
        yield replace(base, label=label, inputs=thrice, ordinary=False, rows=3 * base.rows)


def _breaking_floats(
    maker: Maker, specs: Mapping[str, TensorSpec], fitting: Sequence[Template], names: Sequence[str]
) -> Iterator[Request]:
    template = fitting[0]
    spoiled = [maker.spoiled(template, value, f"one {value:g}", names) for value in _ONE_FLOAT]
    if len(names) > 1:
        for name in names[:_SEPARATELY]:
            spoiled.append(maker.spoiled(template, math.nan, "one NaN", [name]))
    doubles = DOUBLES if any(specs[name].dtype.numpy == np.float64 for name in names) else ()
    whole = (maker.request(template, numbers, 3) for numbers in (*doubles, *FLOATS))
    yield from alternating(whole, spoiled)
    for template in fitting[1:]:
        yield maker.spoiled(template, math.nan, "one NaN", names)
        yield maker.request(template, LARGE, 3)
    yield maker.request(fitting[0], LARGE, 1)


def _breaking_integers(
    maker: Maker, specs: Mapping[str, TensorSpec], template: Template, names: Sequence[str]
) -> Iterator[Request]:
    def taking(value: int) -> list[str]:
        return [name for name in names if _holds(specs[name], value)]

    limits = [bound for name in names for bound in _limits(specs[name])]
    for value in dict.fromkeys((*_ONE_INTEGER[:2], *limits, *_ONE_INTEGER[2:])):
        if taking(value):
            yield maker.spoiled(template, value, f"one {value}", taking(value))
    for value in dict.fromkeys((*_ALL_INTEGERS, *limits)):
        if taking(value):
            request = maker.request(template, NORMAL, 3)
            made = {
                name: np.full_like(request.inputs[name], value) for name in taking(value)
            }  # fmt: skip
            label = f"{maker._rows(3)}, {value} everywhere".removeprefix(", ")
            yield replace(request, label=label, inputs={**request.inputs, **made}, family=label)
    if len(names) > 1:
        for name in names[:_SEPARATELY]:
            for value in (-1, 10, 100_000_001):
                if _holds(specs[name], value):
                    yield maker.spoiled(template, value, f"one {value}", [name])


def _limits(spec: TensorSpec) -> tuple[int, int]:
    assert spec.dtype.numpy is not None
    bounds = np.iinfo(spec.dtype.numpy)
    return int(bounds.max), int(bounds.min)


def _holds(spec: TensorSpec, value: int) -> bool:
    most, least = _limits(spec)
    return least <= value <= most


def _breaking_texts(
    maker: Maker, specs: Mapping[str, TensorSpec], template: Template, names: Sequence[str]
) -> Iterator[Request]:
    for label, text in _BREAKING_TEXTS.items():
        yield maker.spoiled(template, text, label, names)
        everywhere = replace(NORMAL, texts=(text,))
        random = np.random.default_rng(0)
        request = maker.request(template, NORMAL, 1)
        made = {name: filled(random, specs[name], request.inputs[name].shape, everywhere) for name in names}
        label = f"{maker._rows(1)}, {label} everywhere".removeprefix(", ")
        yield replace(request, label=label, inputs={**request.inputs, **made})


def _all_bits(maker: Maker, template: Template, names: Sequence[str]) -> Iterator[Request]:
    for value in (True, False):
        request = maker.request(template, NORMAL, 3)
        made = {name: np.full_like(request.inputs[name], value) for name in names}
        label = f"{maker._rows(3)}, {str(value).lower()} everywhere".removeprefix(", ")
        yield replace(request, label=label, inputs={**request.inputs, **made})


def _breaking_shapes(maker: Maker, specs: Mapping[str, TensorSpec], template: Template) -> Iterator[Request]:
    batched = [name for name, shape in template.items() if shape[:1] == (None,)]
    if batched:
        yield replace(maker.request(template, NORMAL, 0), label="no rows")
    if len(batched) > 1:
        for name in batched[:_SEPARATELY]:
            for rows, others in ((1, 3), (3, 2)):
                shapes = {other: _concrete(template[other], others) for other in batched}
                shapes[name] = _concrete(template[name], rows)
                text = f"{maker._rows(rows)} in {name!r} and {others} in the others"
                yield maker.reshaped(template, shapes, text)
    for name in list(template)[:_SEPARATELY]:
        for shape in _other_shapes(template[name], specs[name]):
            text = f"{name!r} of shape [{', '.join(map(str, shape))}]"
            yield maker.reshaped(template, {name: shape}, text)


def _other_shapes(shape: tuple[int | None, ...], spec: TensorSpec) -> list[Shape]:
    """Shapes that the signature does not have, and ones with an open size of 0."""
    whole = _concrete(shape, 2)
    first = 1 if shape[:1] == (None,) else 0
    shapes: list[Shape] = [(1, *whole), whole[:-1], whole[1:], (*whole, 1)]
    for position in range(first, len(whole)):
        size = whole[position]
        open_size = spec.shape is None or spec.shape[position] is None
        others = (0,) if open_size else (size + 1, 1 if size > 1 else 3, 0)
        shapes += [(*whole[:position], other, *whole[position + 1 :]) for other in others]
    return [
        other
        for other in dict.fromkeys(shapes)
        if other != whole and math.prod(other) <= MOST_ELEMENTS and not _fits(other, spec)
    ]


def _fits(shape: Shape, spec: TensorSpec) -> bool:
    """Whether it is nothing new; sizes of 0 are."""
    if 0 in shape:
        return False
    return (
        spec.shape is not None
        and len(shape) == len(spec.shape)
        and all(known in (None, size) for known, size in zip(spec.shape, shape, strict=True))
    )


def _with_one(random: Random, array: Array, value: float | int | bytes) -> Array:
    """A copy with `value` in one element of the first row."""
    changed: Array = array.copy()
    if changed.size:
        row = changed.reshape(-1) if changed.ndim < 2 or not len(changed) else changed[0].reshape(-1)
        position = 0 if changed.ndim < 2 else int(random.integers(row.size))
        if isinstance(value, float):
            row[position] = as_floats(value, changed.dtype)
        else:
            row[position] = value
    return changed


def _concrete(shape: tuple[int | None, ...], rows: int) -> Shape:
    return tuple(rows if size is None else size for size in shape)


def _shapes(inputs: Mapping[str, Array]) -> str:
    shapes = dict.fromkeys("x".join(map(str, array.shape[1:])) for array in inputs.values())
    return "sizes " + " and ".join(shape for shape in shapes if shape) if any(shapes) else ""


def alternating(*groups: Iterable[Request]) -> Iterator[Request]:
    """One request of each group in turn, until all are used up."""
    for together in zip_longest(*groups):
        yield from (request for request in together if request is not None)
