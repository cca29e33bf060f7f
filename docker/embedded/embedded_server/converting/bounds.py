"""Up to which magnitude of its inputs a body is right.

Deep networks can leave the range of floats, or lose all digits to cancellation, for inputs that are large.
So both engines execute the body on inputs of growing magnitude, in several patterns. The bound is the last
magnitude before the first at which a tensor of the body comes near the end of its type, or results differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino
import tensorflow as tf

from embedded_server.converting import writing
from embedded_server.converting.division import Division
from embedded_server.converting.facts import FLOATS
from embedded_server.converting.settling import graph_of
from embedded_server.converting.writing import Parts
from embedded_server.execution import artefact
from embedded_server.execution.bodies import array_of
from embedded_server.graph import counting
from embedded_server.graph.errors import CannotConvert
from embedded_server.graph.ways import node_of, reached

Array = np.ndarray[Any, Any]

MAGNITUDES = (1.0, 2.0, 10.0, 100.0, 300.0, 1e3, 1e4, 1e5, 1e7, 1e9, 1e12)
ROOM = {"float32": 1e30, "bfloat16": 1e30, "float16": 8192.0}
"""How large a tensor of each type may get; the types end at 3.4e38 and 65504."""
MOST_STEEP = 4096.0
"""How large the inputs of softmax and its like may get: their digits behind the point decide, and float32
has 24 bits.
"""
LIMITS = {"float32": 3e-4, "bfloat16": 2e-2, "float16": 4e-3}
"""How far results may differ, in parts of the largest, by the narrowest type of the body."""
LIMITS_OF_PRECISIONS = {"f32": 3e-4, "bf16": 5e-2}
"""Less than f32 may differ by where it is served: the inputs that are tried are few."""
MARGIN = 0.3
"""The part of the limits that holds for magnitudes beyond ORDINARY, which the proof tries less often."""
EXACT = "f32"
ORDINARY = 300.0
"""Pixels and most features are below: what the model's own requests hold."""
PRECISIONS = {"FP32": "f32", "BF16": "bf16"}
"""OpenVINO's names of number formats, and this suite's."""
SIZES = ((1, 16), (1, 64), (2, 8), (1, 128), (1, 1), (3, 33), (1, 299))
"""What open dimensions get, the first and the others, until one is found that the body takes."""


def find(division: Division, parts: Parts, model: openvino.Model) -> dict[str, dict[str, float]]:
    """For each tensor that the body is given, its bound by precision; none for truth values.

    Raises CannotConvert if there is no magnitude at which f32 is right. Up to ORDINARY, the proof decides
    whether a narrower precision is.
    """
    search = _Search(division, parts) if any(map(_has_size, division.given)) else None
    bounds: dict[str, float] = {}
    try:
        _find(bounds, search, division, model)
    finally:
        if search is not None:
            search.close()
    return {tensor.name: bounds if _has_size(tensor) else {} for tensor in division.given}


def _find(
    bounds: dict[str, float], search: _Search | None, division: Division, model: openvino.Model
) -> None:
    """Fill `bounds`, by precision."""
    for precision in (EXACT, *(name for name in native_precisions() if name != EXACT)):
        compiled = writing.compiled(model, precision)
        if search is None:
            continue
        if precision == EXACT:
            bounds[precision] = search.bound(compiled, precision, MAGNITUDES[-1])
            continue
        try:
            bound = search.bound(compiled, precision, bounds[EXACT])
        except CannotConvert:
            bound = 0.0
        bounds[precision] = max(bound, min(ORDINARY, bounds[EXACT]))


def _has_size(tensor: tf.Tensor) -> bool:
    """Whether its values can be large."""
    return tensor.dtype.base_dtype in FLOATS or bool(tensor.dtype.is_integer)


def native_precisions() -> tuple[str, ...]:
    """What this CPU computes natively."""
    capabilities = openvino.Core().get_property(artefact.DEVICE, "OPTIMIZATION_CAPABILITIES")
    return tuple(PRECISIONS[name] for name in capabilities if name in PRECISIONS)


class _Search:
    """Executes a body by TensorFlow and by OpenVINO on inputs that are made up."""

    def __init__(self, division: Division, parts: Parts) -> None:
        self._division, self._parts = division, parts
        self._graph = graph_of(parts.body)
        with self._graph.as_default():
            self._extremes = _extremes(self._graph)
        types = {t.dtype.base_dtype.name for o in self._graph.get_operations() for t in o.outputs}
        self._limit = max(LIMITS[name] for name in LIMITS if name in types)
        config = tf.compat.v1.ConfigProto()
        config.graph_options.rewrite_options.disable_meta_optimizer = True  # it takes longer than it gains
        self._session = tf.compat.v1.Session(graph=self._graph, config=config)
        self._shapes = next(filter(self._takes, map(self._shapes_of, SIZES)), None)
        self._expected: dict[float, list[_Case]] = {}
        self._tail = _Tail(division, parts)

    def bound(self, compiled: openvino.CompiledModel, precision: str, largest: float) -> float:
        """The magnitude up to `largest` up to which it is right. Raises CannotConvert if there is none."""
        if self._shapes is None:
            raise CannotConvert(
                "OpenVINO does not compute the same: it takes no inputs that could be made up"
            )
        reached = 0.0
        for magnitude in (m for m in MAGNITUDES if m <= largest):
            margin = 1.0 if magnitude <= ORDINARY else MARGIN
            limit = margin * max(self._limit, LIMITS_OF_PRECISIONS[precision])
            try:
                self._check(compiled, magnitude, limit)
            except _Wrong as error:
                if not reached:
                    raise CannotConvert(f"OpenVINO does not compute the same: {error}") from error
                break
            reached = magnitude
        return reached

    def close(self) -> None:
        """Free the sessions."""
        self._session.close()
        self._tail.close()

    def _shapes_of(self, sizes: tuple[int, int]) -> dict[str, list[int]]:
        return {tensor.name: _shape(tensor, sizes) for tensor in self._division.given}

    def _takes(self, shapes: Mapping[str, Sequence[int]]) -> bool:
        """Whether TensorFlow executes the body on inputs of these shapes."""
        given = zip(self._parts.body_inputs, self._division.given, strict=True)
        zeros = {own: np.zeros(shapes[t.name], t.dtype.as_numpy_dtype) for own, t in given}
        try:
            self._session.run(list(self._parts.body_outputs.values()), zeros)
        except tf.errors.OpError:
            return False
        return True

    def _check(self, compiled: openvino.CompiledModel, magnitude: float, limit: float) -> None:
        """Raises _Wrong."""
        if magnitude not in self._expected:
            self._expected[magnitude] = [self._executed(magnitude, number) for number in range(_PATTERNS)]
        usual = {name: _size(value) for name, value in self._expected[magnitude][_USUAL].expected.items()}
        request = compiled.create_infer_request()
        for case in self._expected[magnitude]:
            try:
                request.infer(case.fed, share_inputs=True)
            except RuntimeError as error:
                raise _Wrong("it fails for inputs that TensorFlow takes") from error
            actual = {name: array_of(request.get_tensor(name)) for name in case.body}
            actual |= self._tail.of(actual)
            for name, value in case.expected.items():
                if name not in actual:
                    raise _Wrong(f"the tail fails for inputs of {magnitude:g}")
                apart = _apart(value, actual[name])
                if not apart <= limit * max(_size(value), usual[name]):
                    raise _Wrong(f"results differ by {apart:.2g} for inputs of {magnitude:g}")

    def _executed(self, magnitude: float, number: int) -> _Case:
        """What TensorFlow makes of inputs of one pattern.

        Raises _Wrong where it leaves the range of its types.
        """
        assert self._shapes is not None
        random = np.random.default_rng(number)
        fed = {}
        for own, tensor in zip(self._parts.body_inputs, self._division.given, strict=True):
            shape, dtype = self._shapes[tensor.name], tensor.dtype.as_numpy_dtype
            if tensor.dtype.base_dtype in FLOATS:
                with np.errstate(over="ignore"):  # half ends at 65504; what becomes infinite is found below
                    fed[own] = (_pattern(random, number, shape, magnitude) * magnitude).astype(dtype)
            elif tensor.dtype.is_integer:
                largest = min(magnitude, float(tensor.dtype.max))
                pattern = np.clip(_pattern(random, number, shape, magnitude), -1, 1)
                pattern = np.abs(pattern) if tensor.dtype.is_unsigned else pattern
                # Below the end of the type, which floats round up.
                fed[own] = (pattern * largest * (1 - 1e-7)).astype(dtype)
            else:
                fed[own] = random.integers(0, 2, shape).astype(dtype)
        names = list(self._parts.body_outputs.values())
        values, largest = self._session.run([names, self._extremes], fed)
        for name, extremes in largest.items():
            if name == _STEEP_NAME and magnitude <= ORDINARY:
                continue  # such requests are made in the proof
            if not (extremes <= ROOM.get(name, MOST_STEEP)).all():  # NaN is not
                raise _Wrong(f"its {name} numbers grow to {extremes.max():.1g} for inputs of {magnitude:g}")
        body = dict(zip(names, values, strict=True))
        return _Case(fed, names, body | self._tail.of(body))


_SMOOTH = frozenset({
    "Add", "AddV2", "Atan", "BiasAdd", "ConcatV2", "Cos", "Cosh", "Div", "Exp", "ExpandDims", "Expm1",
    "Identity", "Log", "Log1p", "Maximum", "Mean", "Minimum", "Mul", "Neg", "Pack", "Pow", "RealDiv",
    "Reciprocal", "Reshape",
    "Rsqrt", "Sigmoid", "Sin", "Sinh", "Softmax", "Sqrt", "Square", "Squeeze", "Sub", "Sum", "Tan", "Tanh",
    "Transpose",
})  # fmt: skip


@dataclass(frozen=True)
class _Case:
    """Inputs of a body, and what TensorFlow answers."""

    fed: Mapping[str, Array]
    body: Sequence[str]
    """Names of the body's own results."""
    expected: Mapping[str, Array]
    """Those, and what the tail makes of them."""


class _Tail:
    """What TensorFlow makes of the body's results: it may amplify their differences, as a sine does."""

    def __init__(self, division: Division, parts: Parts) -> None:
        given = {tensor: own for own, tensor in parts.tail.items()}
        outputs = dict.fromkeys(division.flat.outputs.values())
        done = {*division.front, *parts.body_outputs, *division.flat.inputs.values()}
        # Other parts of a request, such as texts, cannot be made up here to fit the body's.
        alone = given.keys() <= parts.body_outputs.keys()
        self._outputs: list[str] = []
        self._session: tf.compat.v1.Session | None = None
        if parts.around is None or not alone:
            return
        self._graph = graph_of(parts.around)
        self._outputs = [
            tensor
            for tensor in outputs
            if tensor not in done and self._graph.get_tensor_by_name(tensor).dtype.base_dtype in FLOATS
        ]
        self._given = {own: parts.body_outputs[tensor] for tensor, own in given.items()}
        if not self._is_smooth():
            self._outputs = []
            return
        self._session = tf.compat.v1.Session(graph=self._graph)
        if division.flat.initializers:
            self._session.run(list(division.flat.initializers))

    def of(self, body: Mapping[str, Array]) -> dict[str, Array]:
        """Float outputs of the signature, for the body's results; none where they need more than these."""
        # Without outputs to compute, TensorFlow would still check the shapes of what is fed.
        if self._session is None or not self._outputs:
            return {}
        try:
            fed = {own: body[name] for own, name in self._given.items()}
            return dict(zip(self._outputs, self._session.run(self._outputs, fed), strict=True))
        except (tf.errors.OpError, UnicodeDecodeError):
            return {}

    def close(self) -> None:
        """Free the session."""
        if self._session is not None:
            self._session.close()

    def _is_smooth(self) -> bool:
        """Whether small differences stay small but for their being amplified: no choice is made by them."""

        def after(name: str) -> list[str]:
            operation = self._graph.get_operation_by_name(name)
            return [user.name for tensor in operation.outputs for user in tensor.consumers()]

        names = reached([node_of(own) for own in self._given], after)
        types = {self._graph.get_operation_by_name(name).type for name in names}
        return types <= {"Placeholder", *_SMOOTH}


class _Wrong(Exception):
    """At this magnitude the two are not the same; the message says in what."""


def _shape(tensor: tf.Tensor, sizes: tuple[int, int]) -> list[int]:
    return [
        (sizes[1] if position else sizes[0]) if size is None else size
        for position, size in enumerate(tensor.shape.as_list())
    ]


_GROW = frozenset({
    "Add", "AddN", "AddV2", "BiasAdd", "Div", "Exp", "FusedBatchNorm", "FusedBatchNormV2",
    "FusedBatchNormV3", "Inv", "Mul", "Pow", "RealDiv", "Reciprocal", "Rsqrt", "Square",
    "SquaredDifference", "Sub", "Sum",
}) | counting.HEAVY  # fmt: skip
"""Operations whose results may be larger than what they are given."""


_STEEP = frozenset({"LogSoftmax", "Sigmoid", "Softmax"})
_MASKED = -1e6
_STEEP_NAME = "exponential's"


def _extremes(graph: tf.Graph) -> dict[str, tf.Tensor]:
    """For each type, the largest magnitude that any tensor of it has; the same of what exponentials are
    taken of.
    """
    limited: dict[str, list[tf.Tensor]] = {}
    for operation in list(graph.get_operations()):
        if not operation.outputs or operation.outputs[0].dtype.base_dtype not in FLOATS:
            continue
        name = operation.outputs[0].dtype.base_dtype.name
        if operation.type in _GROW:
            limited.setdefault(name, []).append(_largest(operation.outputs[0]))
        if operation.type in counting.HEAVY and name == "float16":
            # Whatever their signs are, no sum of these products is larger.
            given = [tf.abs(t) if t.dtype.base_dtype in FLOATS else t for t in operation.inputs]
            attributes = dict(operation.node_def.attr)
            absolute = graph.create_op(operation.type, given, [operation.outputs[0].dtype], attrs=attributes)
            limited[name].append(_largest(absolute.outputs[0]))
        if operation.type in _STEEP:
            limited.setdefault(_STEEP_NAME, []).append(_largest_that_count(operation.inputs[0]))
    return {name: tf.stack(tensors) for name, tensors in limited.items()}


def _largest_that_count(tensor: tf.Tensor) -> tf.Tensor:
    """The largest of each row; what is as low as a mask makes it takes no part."""
    rows = tf.cast(tf.reduce_max(tensor, -1) if tensor.shape.rank else tensor, tf.float32)
    return tf.reduce_max(tf.where(rows < _MASKED, tf.zeros_like(rows), tf.abs(rows)))


def _largest(tensor: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.reduce_max(tf.abs(tensor)), tf.float32)


_PATTERNS, _USUAL = 8, 2
"""How many patterns there are, and which one's results say how large results usually are."""


def _pattern(random: np.random.Generator, number: int, shape: Sequence[int], magnitude: float) -> Array:
    """Inputs of magnitude 1: all at one end, at random, at a few places only."""
    if number == 0:
        return np.ones(shape)
    if number == 1:
        return np.sign(random.standard_normal(shape))
    if number == 2:
        return random.uniform(-1, 1, shape)
    if number == 3:
        return -np.ones(shape)
    if number == 4:
        few = np.zeros(shape)
        few.reshape(-1)[:: max(1, few.size // 5)] = 1
        return few
    # Nearly the same everywhere: what a normalization takes the difference of.
    if number == 5:
        return np.full(shape, 1 / 3)
    return 1 + random.standard_normal(shape) * (1e-5 if number == 6 else min(1.0, 1 / magnitude))


def _size(array: Array) -> float:
    """The largest magnitude of floats; 1 for other types."""
    if array.dtype.kind not in "fV" or not array.size:
        return 1.0
    return max(float(np.abs(array.astype(np.float64)).max()), 1e-30)


def _apart(expected: Array, actual: Array) -> float:
    """The largest difference of floats; 0 for other types, which follow from what is compared elsewhere."""
    if expected.shape != actual.shape:
        return np.inf
    if expected.dtype.kind not in "fV" or not expected.size:
        return 0.0
    return float(np.abs(expected.astype(np.float64) - actual.astype(np.float64)).max())
