"""Sparse matrices in their three parts: places, values and shape, each an input of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from embedded_server.execution.backend import Array
from embedded_server.execution.signature import TensorSpec

_ROWS, _ENTRIES = 2, 4
_MOST_DIMENSIONS = 2


@dataclass(frozen=True)
class Parts:
    """The inputs that make one sparse matrix (or a vector)."""

    places: str
    values: str
    shape: str
    dimensions: int

    def filled(self, columns: int, values: Array, seed: int) -> dict[str, Array]:
        """The parts of a matrix of so many columns; `values` are made up for its entries."""
        random = np.random.default_rng(seed)
        sizes = [_ROWS, columns][-self.dimensions :]
        count = min(_ENTRIES, int(np.prod(sizes)), len(values))
        at = np.sort(random.choice(int(np.prod(sizes)), count, replace=False))
        places = np.stack(np.unravel_index(at, sizes), 1).astype(np.int64)
        return {
            self.places: places,
            self.values: values[:count],
            self.shape: np.array(sizes, np.int64),
        }


def find(specs: Mapping[str, TensorSpec]) -> Parts | None:
    """The parts among the inputs, if there is one way only to see some in them."""
    inputs = [
        Parts(places, values, shape, size)
        for places, spec in specs.items()
        for values, other in specs.items()
        for shape, last in specs.items()
        if len({places, values, shape}) == 3
        for size in range(1, _MOST_DIMENSIONS + 1)
        if _is_whole(spec) and _is_whole(last)
        and spec.shape == (None, size) and last.shape == (size,) and other.shape == (None,)
    ]  # fmt: skip
    return inputs[0] if len(inputs) == 1 else None


def _is_whole(spec: TensorSpec) -> bool:
    return spec.dtype.numpy == np.int64
