"""Makes constants of what does not depend on the input, and leaves out what hands a tensor on as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.python.framework import op_def_registry

from embedded_server.graph.flat import Flat
from embedded_server.graph.frames import ordered
from embedded_server.graph.source import make_constant
from embedded_server.graph.ways import node_of, reached, tensor_of

Array = np.ndarray[Any, Any]

_HANDS_ON = frozenset({"Identity", "IdentityN", "StopGradient", "PreventGradient", "Snapshot"})
_SHAPES = frozenset({"Shape", "Size", "Rank"})
_CONTROL_FLOW = frozenset({
    "Enter", "Exit", "Merge", "Switch", "NextIteration", "LoopCond",
    "RefEnter", "RefExit", "RefMerge", "RefSwitch", "RefNextIteration",
    "While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase",
    "PartitionedCall", "StatefulPartitionedCall",
})  # fmt: skip
_GROWTH = 1 << 20  # bytes that a constant may have even if what it is made from has fewer


def folded(flat: Flat) -> Flat:
    """The same signature with its constants worked out. Outputs may then be constants or inputs."""
    graph_def, outputs = _without_identities(flat.graph_def, flat.outputs)
    graph_def = _pruned(_with_constants(graph_def, set(outputs.values())), outputs, flat)
    return Flat(graph_def, flat.inputs, outputs, flat.initializers)


def _without_identities(graph_def: GraphDef, outputs: Mapping[str, str]) -> tuple[GraphDef, dict[str, str]]:
    """Let users of an identity use what it is given. One that waits for another operation stays."""
    given = {
        f"{node.name}:{index}": reference
        for node in graph_def.node
        if node.op in _HANDS_ON and not any(r.startswith("^") for r in node.input)
        for index, reference in enumerate(node.input)
    }
    references = {node.name for node in graph_def.node if node.op in ("VariableV2", "RefSwitch", "RefEnter")}

    def source(reference: str) -> str:
        while not reference.startswith("^"):
            handed = given.get(tensor_of(reference))
            if handed is None or node_of(handed) in references:
                break
            reference = handed
        return reference

    changed = GraphDef()
    changed.CopyFrom(graph_def)
    for node in changed.node:
        for index, reference in enumerate(node.input):
            node.input[index] = source(reference)
    return changed, {alias: tensor_of(source(tensor)) for alias, tensor in outputs.items()}


def _with_constants(graph_def: GraphDef, outputs: set[str]) -> GraphDef:
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    constant: set[str] = set()
    made: set[str] = set()
    settled: dict[str, Array] = {}
    for operation in ordered(graph):
        if operation.type == "Const":
            if not operation.control_inputs:
                constant.add(operation.name)
            continue
        if operation.control_inputs:
            continue
        sizes = _settled_sizes(operation, constant)
        if sizes is not None:
            settled[operation.outputs[0].name] = sizes
        if sizes is not None or _can_be_made(operation, constant):
            constant.add(operation.name)
            made.add(operation.name)
    tensors = sorted({
        tensor.name
        for operation in graph.get_operations()
        if operation.name not in constant
        for tensor in operation.inputs
        if tensor.op.name in made
    } | {tensor for tensor in outputs if node_of(tensor) in made})  # fmt: skip
    values = _evaluated(graph, tensors, settled)
    return _replaced(graph_def, values)


def _settled_sizes(operation: tf.Operation, constant: set[str]) -> Array | None:
    """The value of an operation that takes sizes of a shape, where the graph settles them; None elsewhere."""
    if operation.type in _SHAPES:
        return _sizes(operation.inputs[0].shape.as_list(), operation) if _is_settled(operation) else None
    if operation.type not in ("GatherV2", "StridedSlice") or operation.inputs[0].op.type != "Shape":
        return None
    if any(tensor.op.type != "Const" or tensor.op.name not in constant for tensor in operation.inputs[1:]):
        return None
    measured = operation.inputs[0].op.inputs[0].shape
    if measured.rank is None:
        return None
    # Places instead of sizes are taken, to see which ones are.
    places = np.arange(measured.rank, dtype=operation.outputs[0].dtype.as_numpy_dtype)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        others = [tf.make_ndarray(tensor.op.get_attr("value")) for tensor in operation.inputs[1:]]
        attributes = {
            name: operation.get_attr(name)
            for name in (
                "batch_dims",
                "begin_mask",
                "end_mask",
                "ellipsis_mask",
                "new_axis_mask",
                "shrink_axis_mask",
            )
            if name in operation.node_def.attr
        }
        names = ("indices", "axis") if operation.type == "GatherV2" else ("begin", "end", "strides")
        first = "params" if operation.type == "GatherV2" else "input"
        take = getattr(tf.raw_ops, operation.type)
        try:
            taken = session.run(
                take(**{first: places}, **dict(zip(names, others, strict=True)), **attributes)
            )
        except (tf.errors.OpError, ValueError):
            return None
    sizes = [measured.as_list()[place] for place in np.ravel(taken)]
    if any(size is None for size in sizes):
        return None
    gathered: Array = np.array(sizes, places.dtype).reshape(np.shape(taken))
    return gathered


def _is_settled(operation: tf.Operation) -> bool:
    shape = operation.inputs[0].shape
    return shape.rank is not None if operation.type == "Rank" else bool(shape.is_fully_defined())


def _sizes(shape: list[int], operation: tf.Operation) -> Array:
    dtype = operation.outputs[0].dtype.as_numpy_dtype
    if operation.type == "Size":
        return np.array(np.prod(shape, dtype=np.int64), dtype)
    return np.array(len(shape) if operation.type == "Rank" else shape, dtype)


def _can_be_made(operation: tf.Operation, constant: set[str]) -> bool:
    if operation.type in _CONTROL_FLOW or not operation.outputs:
        return False
    definition = op_def_registry.get(operation.type)
    if definition is None or definition.is_stateful or operation.type.startswith("Placeholder"):
        return False
    if any(
        tensor.dtype in (tf.resource, tf.variant) or tensor.dtype._is_ref_dtype
        for tensor in operation.outputs
    ):
        return False
    return bool(operation.inputs) and all(tensor.op.name in constant for tensor in operation.inputs)


def _evaluated(graph: tf.Graph, tensors: list[str], settled: Mapping[str, Array]) -> dict[str, Array]:
    """The values of constant tensors, without those that are an error or grow too large."""
    values = {tensor: settled[tensor] for tensor in tensors if tensor in settled}
    rest = [tensor for tensor in tensors if tensor not in settled]
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    with tf.compat.v1.Session(graph=graph, config=config) as session:
        try:
            values.update(zip(rest, session.run(rest, dict(settled)), strict=True))
        except (tf.errors.OpError, UnicodeDecodeError):
            for tensor in rest:
                try:
                    values[tensor] = session.run(tensor, dict(settled))
                except (tf.errors.OpError, UnicodeDecodeError):
                    continue  # TensorFlow raises the error for each request
    small = {
        tensor: np.asarray(value)
        for tensor, value in values.items()
        if np.asarray(value).nbytes <= max(_GROWTH, 2 * _weight(graph, tensor))
    }
    # A node with several outputs is replaced as a whole or not at all.
    left = {node_of(tensor) for tensor in tensors if tensor not in small}
    return {tensor: value for tensor, value in small.items() if node_of(tensor) not in left}


def _weight(graph: tf.Graph, tensor: str) -> int:
    """Bytes of the constants that a constant tensor is made from."""
    names = reached(
        [node_of(tensor)], lambda name: [t.op.name for t in graph.get_operation_by_name(name).inputs]
    )
    total = 0
    for name in names:
        operation = graph.get_operation_by_name(name)
        if operation.type == "Const":
            shape, dtype = operation.outputs[0].shape, operation.outputs[0].dtype
            total += (shape.num_elements() or 0) * (dtype.size or 8)
    return total


def _replaced(graph_def: GraphDef, values: Mapping[str, Array]) -> GraphDef:
    changed = GraphDef(versions=graph_def.versions, library=graph_def.library)
    names = {}
    for number, tensor in enumerate(sorted(values)):
        node, index = node_of(tensor), tensor.rpartition(":")[2]
        # A node with one output keeps its name, so that outputs do too.
        names[tensor] = node if index == "0" else f"{node}/constant_{number}"
    for node in graph_def.node:
        if names.get(f"{node.name}:0") == node.name:
            continue
        copy = changed.node.add()
        copy.CopyFrom(node)
        for place, reference in enumerate(copy.input):
            if not reference.startswith("^") and tensor_of(reference) in names:
                copy.input[place] = names[tensor_of(reference)]
    for tensor, name in names.items():
        make_constant(changed.node.add(name=name), values[tensor])
    present = {node.name for node in changed.node}
    for node in changed.node:
        kept = [r for r in node.input if not r.startswith("^") or node_of(r) in present]
        del node.input[:]
        node.input.extend(kept)
    return changed


def _pruned(graph_def: GraphDef, outputs: Mapping[str, str], flat: Flat) -> GraphDef:
    """What outputs and tables need; inputs stay, used or not."""
    nodes = {node.name: node for node in graph_def.node}
    roots = [node_of(tensor) for tensor in (*outputs.values(), *flat.inputs.values())]
    needed = reached(
        [*roots, *flat.initializers],
        lambda name: [node_of(r) for r in nodes[name].input if node_of(r) in nodes],
    )
    pruned = GraphDef(versions=graph_def.versions, library=graph_def.library)
    pruned.node.extend(node for node in graph_def.node if node.name in needed)
    return pruned
