"""What a case is, and what cases are made of."""

from __future__ import annotations

import enum
import itertools
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

FLOATS = (tf.float32, tf.half, tf.bfloat16)


# TensorFlow adds up in the type itself: a mean of 25 numbers in bfloat16 is off by 4 %.
TOLERANCES = {tf.float32: 1e-5, tf.half: 4e-3, tf.bfloat16: 6e-2}


class Kind(enum.Enum):
    """The numbers that an input takes."""

    ANY = "within +-1e9 (half: +-30); integers: all of the dtype"
    NORMAL = "as ANY, but for subnormal numbers, which TensorFlow takes for 0"
    SMALL = "within +-10; integers: +-100"
    EXACT_IN_FLOAT = "integers within +-2^24"


class Guard(enum.Enum):
    """What the graph itself does to its inputs, so that an operation is given numbers in its range."""

    NONE = "as they are"
    EXPONENT = "80 at most (half: 8)"
    NONNEGATIVE = "0 and up"
    POSITIVE = "0.002 and up"
    ANGLE = "-1 to 1, times 1000"


@dataclass(frozen=True)
class Tensor:
    """An input. None in the shape is the number of rows."""

    shape: tuple[int | None, ...] = (None, 7, 13)
    dtype: tf.DType = tf.float32
    kind: Kind = Kind.ANY


@dataclass(frozen=True)
class Case:
    """One operation with one set of attributes and dtypes."""

    op: str
    variant: str
    inputs: tuple[Tensor, ...]
    build: Callable[..., Any]
    tolerance: float | None = None
    """How much of the largest number an output may be off; None if it must be exact."""
    least: float = 0.0
    """What counts as the largest number if all are smaller: for operations with an absolute error."""
    of_inputs: bool = False
    """Whether the largest input counts as the largest number: outputs are weighted means of inputs."""
    differs: str | None = None
    """What OpenVINO was found to do otherwise; the rules must not let the graph into a body."""
    of_shapes: bool = False
    """Whether it computes with shapes."""

    @property
    def name(self) -> str:
        kinds = ",".join(dict.fromkeys(tensor.dtype.name for tensor in self.inputs))
        return f"{self.op}-{self.variant}-{kinds}" if self.variant else f"{self.op}-{kinds}"


def weights(shape: Sequence[int], dtype: tf.DType = tf.float32, scale: float = 1.0) -> Any:
    """A constant of random numbers that are the same each time."""
    return tf.constant(_numbers(shape) * scale, dtype)


def positive(shape: Sequence[int], dtype: tf.DType = tf.float32) -> Any:
    """A constant of random numbers of 0.1 and up."""
    return tf.constant(np.abs(_numbers(shape)) + 0.1, dtype)


def _numbers(shape: Sequence[int]) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(zlib.crc32(repr(tuple(shape)).encode()))
    return np.asarray(random.normal(size=shape), np.float32)


def guarded(x: Any, guard: Guard) -> Any:
    """The same numbers in the range of the guard, where the rules can see it."""
    match guard:
        case Guard.EXPONENT:
            return tf.minimum(x, tf.constant(8 if x.dtype == tf.half else 80, x.dtype))
        case Guard.NONNEGATIVE:
            return tf.nn.relu(x)
        case Guard.POSITIVE:
            return tf.maximum(tf.abs(x), tf.constant(2e-3, x.dtype))
        case Guard.ANGLE:
            return tf.tanh(x) * tf.constant(1000, x.dtype)
    return x


def same_for(
    op: str,
    build: Callable[..., Any],
    *shapes: tuple[int | None, ...],
    kind: Kind = Kind.ANY,
    variant: str = "",
    exact: bool = False,
    dtypes: Sequence[tf.DType] = FLOATS,
    least: float = 0.0,
    of_inputs: bool = False,
    differs: str | None = None,
) -> Iterator[Case]:
    """One case for each of the dtypes."""
    for dtype in dtypes:
        inputs = tuple(Tensor(shape, dtype, kind) for shape in shapes or ((None, 7, 13),))
        allowed = None if exact else TOLERANCES.get(dtype)
        yield Case(op, variant, inputs, build, allowed, least, of_inputs, differs)


def together(
    op: str,
    build: Callable[..., Any],
    *shapes: tuple[int | None, ...],
    variant: str = "",
    exact: bool = False,
) -> Iterator[Case]:
    """The operation on parts of one input, so that all have the same number of rows."""
    sizes = [math.prod(size or 1 for size in shape) for shape in shapes]
    ends = list(itertools.accumulate(sizes))

    def parts(x: Any) -> list[Any]:
        columns = [x[:, end - size : end] for size, end in zip(sizes, ends, strict=True)]
        return [tf.reshape(c, [-1, *shape[1:]]) for c, shape in zip(columns, shapes, strict=True)]

    yield from same_for(
        op, lambda x: build(*parts(x)), (None, sum(sizes)), variant=f"{variant}, of one input", exact=exact
    )
