"""Which requests have more or fewer dimensions than their signature says, and can be executed all the same.

TensorFlow does not compare a request with the signature: its operations say what they cannot do. But with
oneDNN, which it uses on CPUs with AVX-512, convolutions of too few dimensions end the whole process ("Check
failed: index >= 0 && index < num_total_dims"; found with TensorFlow 2.21). So the shapes of such a request
are followed through the graph first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import tensorflow as tf
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.graph_pb2 import GraphDef

from embedded_server.backend import Array
from embedded_server.errors import InvalidArgument
from embedded_server.saved_model import Loaded
from embedded_server.signature import Signature

_NEEDED_RANKS: Mapping[str, int] = {"Conv2D": 4, "DepthwiseConv2dNative": 4, "Conv3D": 5, "MaxPool3D": 5}
"""Operations that end the process if their first input has fewer dimensions."""
_MOST_REMEMBERED = 256
_Ranks = tuple[tuple[str, int], ...]
"""Of each input, by name."""


def has_declared_ranks(signature: Signature, inputs: Mapping[str, Array]) -> bool:
    """Whether each input has as many dimensions as the signature says, if it says so."""
    return all(
        spec.shape is None or len(spec.shape) == inputs[name].ndim for name, spec in signature.inputs.items()
    )


class RankCheck:
    """Refuses requests that would end the process. May be used from several threads at once."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._known: dict[tuple[str, _Ranks], str | None] = {}

    def check(self, signature: Signature, inputs: Mapping[str, Array]) -> None:
        """Raises InvalidArgument for inputs of these numbers of dimensions.

        The first time for each combination it takes as long as making a graph of the model.
        """
        declared = all(spec.shape is not None for spec in signature.inputs.values())
        if declared and has_declared_ranks(signature, inputs):
            return
        ranks = tuple((name, inputs[name].ndim) for name in signature.inputs)
        key = signature.name, ranks
        if key not in self._known:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[key] = self._problem(signature.name, ranks)
        problem = self._known[key]
        if problem is not None:
            raise InvalidArgument(problem)

    def _problem(self, signature: str, ranks: _Ranks) -> str | None:
        # Imported here: requests of other ranks are rare, and the converter is large.
        from embedded_server.converting.errors import CannotConvert
        from embedded_server.converting.flat import inlined

        if not any(map(_has_operation_to_check, self._graphs())):
            return None
        given = ", ".join(f"{name} of {rank} dimensions" for name, rank in ranks)
        unknown = f"{given}: the signature does not have this, and whether the model can take it is not known"
        try:
            graph_def, placeholders = inlined(self._loaded, signature)
        except CannotConvert:
            return unknown
        with tf.Graph().as_default() as graph:
            replaced = {}
            for name, rank in ranks:
                tensor = placeholders[name]
                (node,) = (node for node in graph_def.node if f"{node.name}:0" == tensor)
                replaced[tensor] = tf.compat.v1.placeholder(node.attr["dtype"].type, [None] * rank)
            try:
                tf.import_graph_def(graph_def, replaced, name="model")
            except ValueError as error:
                return f"{given}: {_first_line(error)}"
        return unknown if _may_end_the_process(graph) else None

    def _graphs(self) -> Iterator[GraphDef]:
        yield self._loaded.session.graph.as_graph_def()
        for function in self._loaded.functions.values():
            yield function.graph.as_graph_def()


def _may_end_the_process(graph: tf.Graph) -> bool:
    """Whether an operation has an input of unknown rank; making the graph has refused wrong ones."""
    for operation in graph.get_operations():
        needed = _NEEDED_RANKS.get(operation.type)
        if needed is not None and (operation.inputs[0].shape.rank or 0) < needed:
            return True
    # The shapes that these functions are called with are not followed.
    return any(map(_has_operation_to_check, graph.as_graph_def().library.function))


def _has_operation_to_check(graph: GraphDef | FunctionDef) -> bool:
    if isinstance(graph, FunctionDef):
        return any(node.op in _NEEDED_RANKS for node in graph.node_def)
    nodes_have = any(node.op in _NEEDED_RANKS for node in graph.node)
    return nodes_have or any(map(_has_operation_to_check, graph.library.function))


def _first_line(error: ValueError) -> str:
    return str(error).partition("\n")[0]
