"""What is known of the tensors of a flat graph before any request comes.

For each tensor: whether its values depend on data, on shapes alone, or on nothing; and for floats an interval
that holds its values for finite inputs. An infinite end of an interval says "finite, but of any size".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import tensorflow as tf

FLOATS = frozenset({tf.float32, tf.float16, tf.bfloat16})
"""The float types that OpenVINO computes as TensorFlow does; float64 is none of them."""


class Depends(IntEnum):
    """What the values of a tensor depend on."""

    NOTHING = 0
    SHAPES = 1
    DATA = 2


@dataclass(frozen=True)
class Interval:
    """Values between two numbers, both included."""

    low: float = -math.inf
    high: float = math.inf

    def joined(self, other: Interval) -> Interval:
        return Interval(min(self.low, other.low), max(self.high, other.high))


ANY = Interval()


class Facts:
    """What is known of the tensors of a graph."""

    def __init__(self, ordered: Sequence[tf.Operation]) -> None:
        """ordered: all operations, each after what it is given (loops aside)."""
        self._depends: dict[str, Depends] = {}
        self._intervals: dict[str, Interval] = {}
        self._values: dict[str, np.ndarray[Any, Any]] = {}
        self._sources: dict[str, frozenset[Any]] = {}
        for operation in ordered:
            depends = self._depends_of(operation)
            for tensor in operation.outputs:
                self._depends[tensor.name] = depends
            if operation.outputs and operation.outputs[0].dtype.base_dtype in FLOATS:
                interval = self._interval_of(operation)
                for tensor in operation.outputs:
                    self._intervals[tensor.name] = interval

    def depends(self, tensor: tf.Tensor) -> Depends:
        """What its values depend on; DATA within loops."""
        return self._depends.get(tensor.name, Depends.DATA)

    def interval(self, tensor: tf.Tensor) -> Interval:
        """Where its values are for finite inputs."""
        return self._intervals.get(tensor.name, ANY)

    def value(self, tensor: tf.Tensor) -> np.ndarray[Any, Any] | None:
        """The value of a constant; None for anything else."""
        if tensor.op.type != "Const":
            return None
        if tensor.name not in self._values:
            self._values[tensor.name] = tf.make_ndarray(tensor.op.get_attr("value"))
        return self._values[tensor.name]

    def sources(self, tensor: tf.Tensor) -> frozenset[Any]:
        """References to the tensors of inputs, or of operations that stay with TensorFlow, that it is made
        from."""
        return self._sources.get(tensor.name, frozenset())

    def note(self, operation: tf.Operation, stays: bool) -> None:
        """Note whether an operation stays with TensorFlow, after all that it is given was noted."""
        given = frozenset(source for tensor in operation.inputs for source in self.sources(tensor))
        for tensor in operation.outputs:
            if operation.type != "Const":
                self._sources[tensor.name] = frozenset({tensor.ref()}) if stays else given

    def _depends_of(self, operation: tf.Operation) -> Depends:
        if operation.type == "Const":
            return Depends.NOTHING
        if not operation.inputs:
            return Depends.DATA
        known = max(self.depends(tensor) for tensor in operation.inputs)
        if operation.type in ("Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"):
            return min(known, Depends.SHAPES)
        return known

    def _interval_of(self, operation: tf.Operation) -> Interval:
        if operation.type == "Const":
            value = self.value(operation.outputs[0])
            assert value is not None
            numbers = value.astype(np.float64)
            if not numbers.size or not np.isfinite(numbers).all():
                return ANY
            return Interval(float(numbers.min()), float(numbers.max()))
        given = [
            self.interval(tensor) if tensor.dtype.base_dtype in FLOATS else ANY for tensor in operation.inputs
        ]
        rule = _RULES.get(operation.type)
        interval: Interval = ANY if rule is None else rule(operation, given)
        return ANY if math.isnan(interval.low) or math.isnan(interval.high) else interval


def _first(operation: tf.Operation, given: Sequence[Interval]) -> Interval:
    return given[0]


def _fixed(low: float, high: float) -> Any:
    return lambda operation, given: Interval(low, high)


def _union(operation: tf.Operation, given: Sequence[Interval]) -> Interval:
    floats = [
        interval
        for tensor, interval in zip(operation.inputs, given, strict=True)
        if tensor.dtype.base_dtype in FLOATS
    ]
    return _joined(floats)


def _joined(intervals: Iterable[Interval]) -> Interval:
    bounds = list(intervals)
    return Interval(min(i.low for i in bounds), max(i.high for i in bounds)) if bounds else ANY


def _add(operation: tf.Operation, given: Sequence[Interval]) -> Interval:
    return Interval(sum(i.low for i in given), sum(i.high for i in given))


def _subtract(operation: tf.Operation, given: Sequence[Interval]) -> Interval:
    return Interval(given[0].low - given[1].high, given[0].high - given[1].low)


def _multiply(operation: tf.Operation, given: Sequence[Interval]) -> Interval:
    if operation.inputs[0].name == operation.inputs[1].name:
        return _square(operation, given)
    ends = [_times(a, b) for a in (given[0].low, given[0].high) for b in (given[1].low, given[1].high)]
    return Interval(min(ends), max(ends))


def _times(a: float, b: float) -> float:
    return 0.0 if a == 0 or b == 0 else a * b


def _divide(operation: tf.Operation, given: Sequence[Interval]) -> Interval:
    under = given[1]
    if under.low <= 0 <= under.high:
        return ANY
    inverse = Interval(1 / under.high, 1 / under.low)
    ends = [_times(a, b) for a in (given[0].low, given[0].high) for b in (inverse.low, inverse.high)]
    return Interval(min(ends), max(ends))


def _square(operation: tf.Operation, given: Sequence[Interval]) -> Interval:
    low, high = given[0].low, given[0].high
    smallest = 0.0 if low <= 0 <= high else min(low * low, high * high)
    return Interval(smallest, max(_times(low, low), _times(high, high)))


def _squared_difference(operation: tf.Operation, given: Sequence[Interval]) -> Interval:
    return _square(operation, [_subtract(operation, given)])


def _absolute(operation: tf.Operation, given: Sequence[Interval]) -> Interval:
    low, high = given[0].low, given[0].high
    smallest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    return Interval(smallest, max(abs(low), abs(high)))


def _negative(operation: tf.Operation, given: Sequence[Interval]) -> Interval:
    return Interval(-given[0].high, -given[0].low)


def _maximum(operation: tf.Operation, given: Sequence[Interval]) -> Interval:
    return Interval(max(i.low for i in given), max(i.high for i in given))


def _minimum(operation: tf.Operation, given: Sequence[Interval]) -> Interval:
    return Interval(min(i.low for i in given), min(i.high for i in given))


def _monotone(function: Any) -> Any:
    def rule(operation: tf.Operation, given: Sequence[Interval]) -> Interval:
        return Interval(_safe(function, given[0].low), _safe(function, given[0].high))

    return rule


def _safe(function: Any, value: float) -> float:
    try:
        return float(function(value))
    except (ValueError, OverflowError, ZeroDivisionError):
        return math.inf if value > 0 else -math.inf


def _exponential(operation: tf.Operation, given: Sequence[Interval]) -> Interval:
    return Interval(0.0, _safe(math.exp, given[0].high) if given[0].high < 700 else math.inf)


def _inverse_root(operation: tf.Operation, given: Sequence[Interval]) -> Interval:
    low, high = given[0].low, given[0].high
    if low <= 0:
        return Interval(0.0, math.inf)
    return Interval(0.0 if math.isinf(high) else 1 / math.sqrt(high), 1 / math.sqrt(low))


def _sum(operation: tf.Operation, given: Sequence[Interval]) -> Interval:
    # At least one number is added: requests without any are TensorFlow's.
    low, high = given[0].low, given[0].high
    return Interval(low if low >= 0 else -math.inf, high if high <= 0 else math.inf)


def _relu(operation: tf.Operation, given: Sequence[Interval]) -> Interval:
    return Interval(max(0.0, given[0].low), max(0.0, given[0].high))


def _select(operation: tf.Operation, given: Sequence[Interval]) -> Interval:
    return given[1].joined(given[2])


def _padded(operation: tf.Operation, given: Sequence[Interval]) -> Interval:
    return given[0].joined(given[2] if operation.type == "PadV2" else Interval(0.0, 0.0))


def _cast(operation: tf.Operation, given: Sequence[Interval]) -> Interval:
    source = operation.inputs[0].dtype.base_dtype
    if source in FLOATS:
        return given[0]
    if source == tf.bool:
        return Interval(0.0, 1.0)
    if source.is_integer:
        return Interval(float(source.min), float(source.max))
    return ANY


_Rule = Any
_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(
        (
            "Identity", "StopGradient", "Reshape", "Squeeze", "ExpandDims", "Transpose", "Slice",
            "StridedSlice",
            "Tile", "BroadcastTo", "Gather", "GatherV2", "GatherNd", "Split", "Unpack", "ReverseV2",
            "SpaceToDepth", "DepthToSpace", "BatchToSpaceND", "Max", "Min", "Mean", "MaxPool",
            "MaxPool3D", "AvgPool", "AvgPool3D", "ResizeBilinear", "ResizeNearestNeighbor", "MirrorPad",
            "EnsureShape",
            "TopKV2", "Roll",
        ),
        _first,
    ),
    **dict.fromkeys(("SplitV",), _first),
    **dict.fromkeys(("ConcatV2", "Pack"), _union),
    "Fill": lambda operation, given: given[1],
    "ZerosLike": _fixed(0, 0), "OnesLike": _fixed(1, 1),
    "Sigmoid": _fixed(0, 1), "Softmax": _fixed(0, 1), "Tanh": _fixed(-1, 1),
    "Erf": _fixed(-1, 1), "Erfc": _fixed(0, 2),
    "Relu6": _fixed(0, 6), "Relu": _relu, "Softplus": _fixed(0, math.inf),
    "Softsign": _fixed(-1, 1),
    "LogSoftmax": _fixed(-math.inf, 0),
    "Elu": _monotone(lambda x: x if x > 0 else math.expm1(x)),
    "Add": _add, "AddV2": _add, "AddN": _add, "BiasAdd": _add, "Sub": _subtract, "Mul": _multiply,
    "RealDiv": _divide, "Div": _divide, "Square": _square, "SquaredDifference": _squared_difference,
    "Abs": _absolute, "Neg": _negative, "Maximum": _maximum, "Minimum": _minimum,
    "Sqrt": _monotone(lambda x: math.sqrt(x) if math.isfinite(x) else x),
    "Rsqrt": _inverse_root, "Exp": _exponential,
    "Log": _monotone(lambda x: math.log(x) if math.isfinite(x) else x),
    "Log1p": _monotone(lambda x: math.log1p(x) if math.isfinite(x) else x),
    "Sum": _sum, "Select": _select, "SelectV2": _select, "Pad": _padded, "PadV2": _padded,
    "SpaceToBatchND": lambda operation, given: given[0].joined(Interval(0.0, 0.0)), "Cast": _cast,
    "ClipByValue": lambda o, g: Interval(g[1].low, g[2].high),
}  # fmt: skip
