"""Which requests have other shapes than their signature says, and can be executed all the same.

TensorFlow does not compare a request with the signature: its operations say what they cannot do. But with
oneDNN, which it uses on CPUs with AVX-512, it does other things with two kinds of requests (found with
TensorFlow 2.21). Too few dimensions for a convolution end the whole process ("Check failed: index >= 0 &&
index < num_total_dims"). Where an image is so small that nothing is left of it without padding, a max pool
ends the process (SIGFPE), and a convolution gives whatever is in memory. So the shapes of such a request are
followed through the graph first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import tensorflow as tf
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef

from embedded_server.common.errors import InvalidArgument
from embedded_server.execution.backend import Array
from embedded_server.execution.signature import Signature
from embedded_server.graph.saved_model import Loaded

_NEEDED_RANKS: Mapping[str, int] = {"Conv2D": 4, "DepthwiseConv2dNative": 4, "Conv3D": 5, "MaxPool3D": 5}
"""Operations that end the process if their first input has fewer dimensions."""
_WINDOWS = frozenset({
    "Conv2D", "DepthwiseConv2dNative", "Conv3D",
    "MaxPool", "MaxPoolV2", "MaxPool3D", "MaxPoolWithArgmax", "AvgPool", "AvgPool3D",
})  # fmt: skip
"""Operations that leave nothing of an image that is smaller than their window, if they do not pad it."""
_MOST_REMEMBERED = 256
_Shape = tuple[int | None, ...]
_Shapes = tuple[_Shape, ...]
"""Of each input, in the order of their names; None for a size that does not matter."""


def has_declared_shapes(signature: Signature, inputs: Mapping[str, Array]) -> bool:
    """Whether each input has the dimensions and the sizes that the signature says, where it says them."""
    for name, spec in signature.inputs.items():
        given = inputs[name].shape
        if spec.shape is None:
            continue
        if len(spec.shape) != len(given) or any(
            expected not in (None, size) for expected, size in zip(spec.shape, given, strict=True)
        ):
            return False
    return True


class ShapeCheck:
    """Refuses requests that would end the process. May be used from several threads at once."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._by_signature: dict[str, _Known] = {}

    def check(self, signature: Signature, inputs: Mapping[str, Array]) -> None:
        """Raises InvalidArgument for inputs of these shapes.

        For shapes that are not known to fit it takes as long as making a graph of the model.
        """
        known = self._by_signature.get(signature.name)
        if known is None:
            known = self._by_signature[signature.name] = _Known(self._loaded, signature)
        known.check(inputs)


class _Known:
    """What is known of one signature."""

    def __init__(self, loaded: Loaded, signature: Signature) -> None:
        self._loaded = loaded
        self._signature = signature
        self._names = sorted(signature.inputs)
        declared = [signature.inputs[name].shape for name in self._names]
        graphs = list(_graphs(loaded, signature.name))
        self._sizes_matter = any(_holds(graph, _may_leave_nothing) for graph in graphs)
        self._is_harmless = not (self._sizes_matter or any(_holds(graph, _needs_rank) for graph in graphs))
        self._problems: dict[_Shapes, str | None] = {}
        self._good: list[_Shapes] = []
        """Shapes that fit, as all larger ones of the same rank do."""
        if all(shape is not None and (not self._sizes_matter or None not in shape[1:]) for shape in declared):
            self._good.append(tuple(self._without_rows(shape or ()) for shape in declared))

    def check(self, inputs: Mapping[str, Array]) -> None:
        if self._is_harmless:
            return
        shapes = tuple(self._without_rows(inputs[name].shape) for name in self._names)
        if any(_is_at_least(shapes, good) for good in self._good):
            return
        if shapes not in self._problems:
            if len(self._problems) >= _MOST_REMEMBERED:
                self._problems.clear()
            self._problems[shapes] = self._problem(shapes)
            if self._problems[shapes] is None:
                smaller = [good for good in self._good if not _is_at_least(good, shapes)]
                self._good = [*smaller[-_MOST_REMEMBERED:], shapes]
        problem = self._problems[shapes]
        if problem is not None:
            raise InvalidArgument(problem)

    def _without_rows(self, shape: _Shape) -> _Shape:
        """The number of rows does not matter; no size does where only ranks do."""
        if not self._sizes_matter:
            return (None,) * len(shape)
        return (None, *shape[1:]) if shape else ()

    def _problem(self, shapes: _Shapes) -> str | None:
        # Imported here: such requests are rare, and the converter is large.
        from embedded_server.graph.errors import CannotConvert
        from embedded_server.graph.flat import inlined

        given = ", ".join(f"{name} {_shown(shape)}" for name, shape in zip(self._names, shapes, strict=True))
        unknown = f"{given}: the signature does not have this, and whether the model can take it is not known"
        fits = all(
            spec.shape is not None and len(spec.shape) == len(shape)
            for spec, shape in zip(map(self._signature.inputs.__getitem__, self._names), shapes, strict=True)
        )
        try:
            graph_def, placeholders = inlined(self._loaded, self._signature.name)
        except CannotConvert:
            return None if fits else unknown
        with tf.Graph().as_default() as graph:
            replaced = {}
            for name, shape in zip(self._names, shapes, strict=True):
                tensor = placeholders[name]
                (node,) = (node for node in graph_def.node if f"{node.name}:0" == tensor)
                replaced[tensor] = tf.compat.v1.placeholder(node.attr["dtype"].type, shape)
            try:
                tf.import_graph_def(graph_def, replaced, name="model")
            except ValueError as error:
                return f"{given}: {str(error).partition(chr(10))[0]}"
        if any(map(_leaves_nothing, graph.get_operations())):
            return f"{given}: nothing is left of it behind a convolution or a pool"
        return unknown if not fits and _has_unknown_rank(graph) else None


def leaves_nothing(graph_def: GraphDef, given: Mapping[str, _Shape]) -> bool:
    """Whether a window of the graph finds nothing; given: shapes of the placeholders, by their tensors."""
    if not _holds(graph_def, _may_leave_nothing):
        return False
    types = {f"{node.name}:0": node.attr["dtype"].type for node in graph_def.node if node.op == "Placeholder"}
    with tf.Graph().as_default() as graph:
        replaced = {name: tf.compat.v1.placeholder(types[name], shape) for name, shape in given.items()}
        try:
            tf.import_graph_def(graph_def, replaced, name="model")
        except ValueError:
            return True
    return any(map(_leaves_nothing, graph.get_operations()))


def _is_at_least(shapes: _Shapes, others: _Shapes) -> bool:
    """Whether shapes have the ranks of others, and no smaller size."""
    return all(
        len(shape) == len(other)
        and all(a is None or (b is not None and a >= b) for a, b in zip(shape, other, strict=True))
        for shape, other in zip(shapes, others, strict=True)
    )


def _shown(shape: _Shape) -> str:
    return f"of shape [{','.join('?' if size is None else str(size) for size in shape)}]"


def _leaves_nothing(operation: tf.Operation) -> bool:
    if not _may_leave_nothing(operation.node_def):
        return False
    given, left = operation.inputs[0].shape, operation.outputs[0].shape
    return left.rank is not None and 0 in left.as_list()[1:] and 0 not in given.as_list()[1:]


def _has_unknown_rank(graph: tf.Graph) -> bool:
    """Whether an operation may get too few dimensions; making the graph has refused those that are known."""
    for operation in graph.get_operations():
        needed = _NEEDED_RANKS.get(operation.type)
        if needed is not None and (operation.inputs[0].shape.rank or 0) < needed:
            return True
    # The shapes that these functions are called with are not followed.
    return any(_holds(function, _needs_rank) for function in graph.as_graph_def().library.function)


def _graphs(loaded: Loaded, signature: str) -> Iterator[GraphDef]:
    """The graphs that execute a signature, with all that belongs to others too."""
    function = loaded.functions.get(signature)
    yield (loaded.session.graph if function is None else function.graph).as_graph_def()


def _holds(graph: GraphDef | FunctionDef, condition: Callable[[NodeDef], bool]) -> bool:
    if isinstance(graph, FunctionDef):
        return any(map(condition, graph.node_def))
    return any(map(condition, graph.node)) or any(
        _holds(function, condition) for function in graph.library.function
    )


def _needs_rank(node: NodeDef) -> bool:
    return node.op in _NEEDED_RANKS


def _may_leave_nothing(node: NodeDef) -> bool:
    return node.op in _WINDOWS and node.attr["padding"].s != b"SAME"
