"""Which sizes of its inputs a body takes as TensorFlow takes them.

Some operations depend on sizes that a request decides: a slice may leave nothing, two parts may not fit each
other. TensorFlow says so, and OpenVINO computes something. So TensorFlow executes such a body once for each
new combination of shapes, on zeros and with zeros for weights, before OpenVINO is trusted with it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from embedded_server.execution.shapes import leaves_nothing

_MOST = 4096
"""Combinations that are remembered; with more, all are forgotten."""

Shape = tuple[int, ...]
_UNKNOWN: Mapping[str, Shape] = {}


class Sizes:
    """The combinations of shapes that one body takes. May be used from several threads at once."""

    def __init__(self, file: Path, outputs: Mapping[str, str]) -> None:
        """file: the body's graph, with zeros for weights. outputs: tensor -> the body's name for it."""
        self._outputs = outputs
        self._graph = tf.Graph()
        with self._graph.as_default():
            tf.import_graph_def(tf.compat.v1.GraphDef.FromString(file.read_bytes()), name="")
            made = [
                tensor
                for operation in self._graph.get_operations()
                if operation.type != "Placeholder"
                for tensor in operation.outputs[:1]
            ]
            # Fetched as well, or what has one shape for all requests would not be executed.
            self._executed_too = [tensor.op for tensor in made]
            floats = [tensor for tensor in made if tensor.dtype.is_floating]
            self._fewest = tf.reduce_min(tf.stack([tf.size(tensor) for tensor in floats]))
            whole = [tensor for tensor in made if tensor.dtype in (tf.int32, tf.int64) and _is_size(tensor)]
            least = [tf.reduce_min(tf.cast(tensor, tf.int64)) for tensor in whole]
            self._least = tf.reduce_min(tf.stack(least)) if least else tf.constant(0, tf.int64)
            self._shapes = {
                tensor: tf.shape(self._graph.get_tensor_by_name(own)) for tensor, own in outputs.items()
            }
        self._executing = threading.Lock()
        self._known: dict[tuple[Shape, ...], Mapping[str, Shape] | None] = {}

    def of_outputs(self, given: Mapping[str, Shape]) -> Mapping[str, Shape] | None:
        """The shapes of the outputs for inputs of these shapes; None if they are TensorFlow's to answer.

        given: by the body's names.
        """
        key = tuple(given.values())
        if key not in self._known:
            with self._executing:  # one at a time; requests of known sizes do not wait
                if key not in self._known:
                    sizes = self._executed(given)
                    if len(self._known) >= _MOST:
                        self._known = {}
                    self._known[key] = sizes
        known = self._known.get(key, _UNKNOWN)
        return self._executed(given) if known is _UNKNOWN else known

    def _executed(self, given: Mapping[str, Shape]) -> Mapping[str, Shape] | None:
        if leaves_nothing(self._graph.as_graph_def(), given):
            return None  # what would end this process
        config = tf.compat.v1.ConfigProto()
        config.graph_options.rewrite_options.disable_meta_optimizer = (
            True  # it takes longer than one execution
        )
        zeros = {}
        for own, shape in given.items():
            zeros[own] = np.zeros(shape, self._graph.get_tensor_by_name(own).dtype.as_numpy_dtype)
        # A session of its own each time: one that stays would keep the weights' memory.
        with tf.compat.v1.Session(graph=self._graph, config=config) as session:
            try:
                fewest, least, shapes, _ = session.run(
                    [self._fewest, self._least, self._shapes, self._executed_too], zeros
                )
            except tf.errors.OpError:
                return None
        if not fewest or least < 0:
            return None
        return {tensor: tuple(map(int, shape)) for tensor, shape in shapes.items()}


def _is_size(tensor: tf.Tensor) -> bool:
    """Whether it is made of sizes, and neither a place in a tensor nor a setting such as -1 in a shape."""
    seen: set[str] = set()
    waiting = [tensor.op]
    is_size = False
    while waiting:
        operation = waiting.pop()
        if operation.name in seen:
            continue
        seen.add(operation.name)
        if operation.type == "Shape":
            is_size = True
            continue
        if operation.type in ("ArgMax", "TopKV2", "Pack", "ConcatV2", "Placeholder"):
            return False
        waiting.extend(given.op for given in operation.inputs)
    return is_size
