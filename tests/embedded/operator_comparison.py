"""Compares what OpenVINO and TensorFlow answer for one tiny graph.

The graph is executed by a TensorFlow session, and by OpenVINO in the two forms in which the server compiles a
body: for any number of rows, and for one row. Every inference is repeated with others between, so that an
answer that drifts shows.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import openvino
import tensorflow as tf
from embedded_server.converting import division, writing
from embedded_server.converting.facts import Depends, Facts
from embedded_server.converting.operations import depends_on_sizes, why_not
from embedded_server.converting.settling import settled
from embedded_server.execution import bodies
from embedded_server.execution.sizes import Sizes
from embedded_server.graph.flat import Flat
from embedded_server.graph.frames import ordered
from operator_cases import Case, Kind, Tensor
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.protobuf import rewriter_config_pb2

Array = np.ndarray[Any, Any]

ROWS = (1, 2, 3, 7)
_SCALES = (1.0, 1e3, 1e-3, 1e9, 1e6, 1e-20)
_SPECIAL = (
    0.0, -0.0, 1e-40, -1e-40, 1.2e-38, 1e9, -1e9, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, 1e-7, 16777217.0
)  # fmt: skip
_LARGEST = {tf.float32: 1e9, tf.bfloat16: 1e9, tf.half: 30.0, tf.float64: 1e9}
_NORMAL = 1e-37
_TINY = 1e-30
_LOW = (2.0, 8.0, 15.0)
PROFILES = ("special", "ties", "zeros", "low", *_SCALES)
"""Ways to fill an input: random numbers of a scale, choices among few, or all near one negative number."""


@dataclass
class Result:
    """What was compared."""

    values: int = 0
    """How many numbers."""
    problems: list[str] = field(default_factory=list)

    @property
    def problem(self) -> str | None:
        return self.problems[0] if self.problems else None


@dataclass(frozen=True)
class _Known:
    """What the converter finds out about a graph."""

    flat: Flat
    graph: tf.Graph
    """With the shapes that follow from its operations."""
    facts: Facts
    reasons: list[tuple[str, str | None]]
    """For each operation its type, and why it may not go into a body."""


class Graph:
    """A case's graph, ready to be executed by both."""

    def __init__(self, case: Case, fuses: bool = True) -> None:
        """fuses: whether TensorFlow may fuse operations; with oneDNN it fuses some of float64 to ones that
        take none.
        """
        self.case = case
        self.graph = tf.Graph()
        with self.graph.as_default():
            fed = [
                tf.compat.v1.placeholder(tensor.dtype, tensor.shape, f"input_{index}")
                for index, tensor in enumerate(case.inputs)
            ]
            built = case.build(*fed)
            outputs = list(built) if isinstance(built, list | tuple) else [built]
            self.outputs = [tf.identity(output, f"output_{index}") for index, output in enumerate(outputs)]
        self._last = {tensor.op for tensor in self.outputs}
        self.names = [tensor.name for tensor in fed]
        config = tf.compat.v1.ConfigProto()
        if not fuses:
            config.graph_options.rewrite_options.remapping = rewriter_config_pb2.RewriterConfig.OFF
        session = tf.compat.v1.Session(graph=self.graph, config=config)
        self.session = session
        self.tensorflow = session.make_callable(self.outputs, feed_list=fed)
        self._forms: dict[str, openvino.InferRequest] = {}

    def close(self) -> None:
        self.session.close()

    def refused(self) -> str | None:
        """Why the rules keep an operation of it out of a body; None if they take all."""
        reasons = self._known.reasons
        return next((f"{operation}: {reason}" for operation, reason in reasons if reason is not None), None)

    def breaks_condition(self, values: Sequence[Array]) -> bool:
        """Whether the server gives a request of these shapes to TensorFlow without asking OpenVINO."""
        known = self._known
        given = {name: value.shape for name, value in zip(self.names, values, strict=True)}
        tensors = [known.graph.get_tensor_by_name(name) for name in self.names]
        if not all(tensor.shape.is_compatible_with(given[tensor.name]) for tensor in tensors):
            return True
        arithmetic = [known.graph.get_operation_by_name(o.name) for o in self._arithmetic()]
        divider = division._Divider(known.flat, known.graph, frozenset())
        together = divider._puts_together(frozenset(o.name for o in arithmetic), tensors)
        if not together and not any(depends_on_sizes(o, known.facts) for o in arithmetic):
            return False
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "sizes.pb"
            file.write_bytes(self.graph.as_graph_def().SerializeToString())
            return Sizes(file, {t.name: t.name for t in self.outputs}).of_outputs(given) is None

    def covered(self) -> set[tuple[str, tf.DType, bool]]:
        """Operation, type, and whether it is made of shapes alone, for all of its operations."""
        known = self._known
        operations = [known.graph.get_operation_by_name(operation.name) for operation in self._arithmetic()]
        return {
            (operation.type, tensor.dtype.base_dtype, known.facts.depends(tensor) is not Depends.DATA)
            for operation in operations
            for tensor in operation.outputs
        }

    @functools.cached_property
    def _known(self) -> _Known:
        inputs = {name: name for name in self.names}
        outputs = {tensor.name: tensor.name for tensor in self.outputs}
        flat, graph = settled(Flat(self.graph.as_graph_def(), inputs, outputs, ()))
        operations = list(ordered(graph))
        facts = Facts(operations)
        last = {tensor.op.name for tensor in self.outputs}
        reasons = []
        for operation in operations:
            reason = why_not(operation, facts)
            facts.note(operation, stays=reason is not None)
            if operation.type not in ("Placeholder", "Const") and operation.name not in last:
                reasons.append((operation.type, reason))
        return _Known(flat, graph, facts, reasons)

    def _arithmetic(self) -> Iterator[tf.Operation]:
        for operation in self.graph.get_operations():
            if operation.type not in ("Placeholder", "Const") and operation not in self._last:
                yield operation

    def compile(self) -> None:
        """Compile both forms as the server does. Raises what OpenVINO raises."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            outputs = [tensor.name for tensor in self.outputs]
            model = writing.openvino_model(self._body(), outputs, folder)
            openvino.save_model(model, folder / "body.xml", compress_to_fp16=False)
            model = _CORE.read_model(folder / "body.xml")
            self._taken = set().union(*(port.names for port in model.inputs))
            with_rows = bodies._with_rows(model)
            self._with_rows = [n for n in self.names if any(n in model.input(r).names for r in with_rows)]
            one_row = bodies._of_one_row(model, with_rows)
            self._forms = {"any": writing.compiled(model, "f32").create_infer_request()}
            if one_row is not None:
                self._forms["one"] = writing.compiled(one_row, "f32").create_infer_request()

    def forms(self, values: Sequence[Array]) -> list[str]:
        """The forms that take these values."""
        given = dict(zip(self.names, values, strict=True))
        one_row = "one" in self._forms and all(len(given[name]) == 1 for name in self._with_rows)
        return ["any", "one"] if one_row else ["any"]

    def openvino(self, form: str, values: Sequence[Array]) -> list[Array]:
        """What OpenVINO answers. Raises RuntimeError."""
        request = self._forms[form]
        given = {n: v for n, v in zip(self.names, values, strict=True) if n in self._taken}
        request.infer(given, share_inputs=True)
        return [bodies.array_of(request.get_output_tensor(index)) for index in range(len(self.outputs))]

    def _body(self) -> GraphDef:
        body = GraphDef()
        for node in self.graph.as_graph_def().node:
            copy = body.node.add()
            copy.CopyFrom(node)
            if node.op == "Const" and node.attr["dtype"].type == tf.bfloat16.as_datatype_enum:
                writing._widen(copy, body.node.add())
        return body


_CORE = openvino.Core()


def fill(tensor: Tensor, rows: int, profile: str | float, random: np.random.Generator) -> Array:
    """Values for an input, in its range."""
    shape = [rows if size is None else size for size in tensor.shape]
    dtype = tensor.dtype
    if dtype.is_bool:
        return np.asarray(random.integers(0, 2, shape)).astype(bool)
    if dtype.is_integer:
        return _integers(tensor, shape, profile, random)
    largest = _LARGEST[dtype]
    if profile == "special":
        numbers = random.choice(_SPECIAL, shape)
    elif profile == "ties":
        numbers = random.choice(random.normal(size=3), shape)
    elif profile == "zeros":
        numbers = np.zeros(shape)
    elif profile == "low":
        numbers = -random.choice(_LOW) * random.uniform(0.9, 1.1, shape)
    else:
        numbers = random.normal(size=shape) * float(profile)
    numbers = np.asarray(numbers)
    numbers = np.clip(numbers, -largest, largest)
    if tensor.kind is Kind.SMALL:
        numbers = np.clip(numbers, -10, 10)
    if tensor.kind is Kind.NORMAL:
        numbers = np.where(np.abs(numbers) < _NORMAL, 0, numbers)
    return numbers.astype(dtype.as_numpy_dtype)


def _integers(tensor: Tensor, shape: list[int], profile: str | float, random: np.random.Generator) -> Array:
    limits = np.iinfo(tensor.dtype.as_numpy_dtype)
    low, high = int(limits.min), int(limits.max)
    if tensor.kind is Kind.SMALL:
        low, high = max(low, -100), min(high, 100)
    if tensor.kind is Kind.EXACT_IN_FLOAT:
        low, high = max(low, -(2**24)), min(high, 2**24)
    if profile == "special":
        numbers = random.choice(np.array([low, high, high - 1, low + 1, 0, 1], dtype=limits.dtype), shape)
    elif profile == "ties":
        numbers = random.integers(0, 3, shape)
    elif profile == "zeros":
        numbers = np.zeros(shape)
    elif profile == "low":
        numbers = np.full(shape, low)
    else:
        numbers = random.integers(low, high, shape, dtype=limits.dtype, endpoint=True)
    return np.asarray(numbers).astype(limits.dtype)


def compare_graph(
    graph: Graph, profiles: Sequence[str | float], rows: Sequence[int], seed: int, result: Result
) -> None:
    """Compare TensorFlow's answers with those of all forms, each three times with other inputs between."""
    case = graph.case
    random = np.random.default_rng(seed)
    requests = [
        (profile, count, [fill(tensor, count, profile, random) for tensor in case.inputs])
        for profile in profiles
        for count in rows
    ]
    try:
        expected = [graph.tensorflow(*values) for _, _, values in requests]
    except tf.errors.OpError as error:
        result.problems.append(f"TensorFlow fails: {_brief(error)}")
        return
    for turn in range(3):
        for (profile, count, values), right in zip(requests, expected, strict=True):
            for form in graph.forms(values):
                where = f"{form}, {count} rows, {profile}, turn {turn + 1}"
                try:
                    answered = graph.openvino(form, values)
                except RuntimeError as error:
                    result.problems.append(f"{where}: {_brief(error)}")
                    continue
                largest = _largest(values) if case.of_inputs else case.least
                for output, (wanted, found) in enumerate(zip(right, answered, strict=True)):
                    problem = _difference(np.asarray(wanted), found, case.tolerance, largest)
                    result.values += found.size
                    if problem:
                        result.problems.append(f"{where}, output {output}: {problem}")


def _largest(values: Sequence[Array]) -> float:
    return max(float(np.abs(value.astype(np.float64)).max()) for value in values)


def _difference(wanted: Array, found: Array, tolerance: float | None, least: float) -> str | None:
    """What is wrong with `found`. tolerance, least: see Case."""
    if wanted.shape != found.shape:
        return f"shape {found.shape} for {wanted.shape}"
    if wanted.dtype != found.dtype:
        # OpenVINO has fewer types; the server converts to the signature's own.
        if not np.array_equal(found.astype(wanted.dtype).astype(found.dtype), found):
            return f"dtype {found.dtype} for {wanted.dtype}"
        found = found.astype(wanted.dtype)
    if not wanted.size:
        return None
    if wanted.dtype.kind != "f" and wanted.dtype != ml_dtypes.bfloat16:
        return _first(wanted, found, wanted == found)
    smallest = float(ml_dtypes.finfo(wanted.dtype).tiny)
    a, b = (_without_tiny(values.astype(np.float64)) for values in (wanted, found))
    with np.errstate(invalid="ignore"):
        off = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, np.abs(a - b))
    finite = np.abs(a[np.isfinite(a)])
    scale = max(float(finite.max()) if finite.size else 0.0, least, smallest)
    return _first(wanted, found, off <= (tolerance or 0.0) * scale)


def _first(wanted: Array, found: Array, right: Array) -> str | None:
    """Describes the first number that is not right."""
    if right.all():
        return None
    at = tuple(np.argwhere(~right)[0])
    return f"{found[at]!r} for {wanted[at]!r} at {[int(place) for place in at]}"


def _without_tiny(values: Array) -> Array:
    """TensorFlow takes subnormal numbers for 0 in some operations and not in others, so products of them with
    large ones may be 0 too; the proof of a signature takes such results for 0 as well."""
    return np.where(np.abs(values) < _TINY, 0.0, values)


def _brief(error: Exception) -> str:
    if isinstance(error, tf.errors.OpError):
        lines = [line for line in error.message.splitlines() if line and not line.startswith(" ")]
        told = [
            line
            for line in lines
            if not line.startswith(("Graph execution", "Detected at", "Node:", "Original"))
        ]
        return (told or lines)[0][:300]
    return " ".join(str(error).split())[:300]
