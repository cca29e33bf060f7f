"""Shapes for the requests of a proof: which sizes the inputs of a signature may have together."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, product

from embedded_server.execution.signature import Signature, TensorSpec

Template = Mapping[str, tuple[int | None, ...]]
"""A shape for each input; None only in front, where the number of rows goes."""
_ROWS = (1, 2, 3, 7)
_MOST_UNEVEN = 100


def rows_of(signature: Signature) -> bool:
    """Whether clients choose the number of rows."""
    return any(spec.shape is None or spec.shape[:1] == (None,) for spec in signature.inputs.values())


def templates(signature: Signature, told: Iterable[int] = ()) -> Iterator[Template]:
    """Shapes to try for the inputs of a signature, the likeliest first; one if all sizes are declared.

    told: further sizes, such as those that TensorFlow's error messages name.
    """
    specs = signature.inputs
    if all(is_declared(spec) for spec in specs.values()):
        yield {name: spec.shape or () for name, spec in specs.items()}
        return
    for size in dict.fromkeys((8, 33, 2, 1, *told, 3, 4, 5, 6, 7, 10, 16, 32, 64, 100, 128, 224, 256)):
        yield {name: _with_sizes(spec, size) for name, spec in specs.items()}
    if any(spec.shape is None for spec in specs.values()):
        for shape in ((None,), (), (None, 8, 8), (None, 32, 32, 3)):
            yield {
                name: shape if spec.shape is None else _with_sizes(spec, 8) for name, spec in specs.items()
            }


def uneven_templates(signature: Signature, told: Sequence[int]) -> Iterator[Template]:
    """More of them, with sizes that differ between the inputs; those of `told` and a few others."""
    specs = {name: spec for name, spec in signature.inputs.items() if not is_declared(spec)}
    if len(specs) < 2:
        return
    sizes = list(dict.fromkeys((*told, 8, 4, 3, 2, 1)))[:8]
    for chosen in islice(product(sizes, repeat=len(specs)), _MOST_UNEVEN):
        by_input = dict(zip(specs, chosen, strict=True))
        yield {name: _with_sizes(spec, by_input.get(name, 8)) for name, spec in signature.inputs.items()}


def elements_of(template: Template) -> int:
    """How many numbers a request with one row has."""
    return sum(math.prod(size for size in shape if size is not None) for shape in template.values())


def sizes_in(message: str) -> list[int]:
    """The numbers in an error message that may be sizes which the model takes."""
    return list(dict.fromkeys(int(digits) for digits in re.findall(r"\b\d{1,4}\b", message) if int(digits)))


def is_declared(spec: TensorSpec) -> bool:
    return spec.shape is not None and None not in spec.shape[1:]


def _with_sizes(spec: TensorSpec, size: int) -> tuple[int | None, ...]:
    if spec.shape is None:
        return (None, size)
    if is_declared(spec):
        return spec.shape
    if len(spec.shape) == 4 and spec.shape[3] in (1, 3):
        # Images: few models take them smaller than this. Height and width differ.
        height = {1: 32, 2: 48, 8: 64, 33: 96}.get(size, size)
        width = {8: 96, 33: 64}.get(size, height)
        first, *sides, channels = spec.shape
        return (
            first,
            *(known or side for known, side in zip(sides, (height, width), strict=True)),
            channels,
        )
    return (*spec.shape[:1], *(size if known is None else known for known in spec.shape[1:]))
