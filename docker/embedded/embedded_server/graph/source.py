"""A signature as the SavedModel has it: the graph that the server executes, with its inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef

from embedded_server.graph.errors import CannotConvert
from embedded_server.graph.saved_model import Loaded
from embedded_server.graph.states import (
    CALLS,
)
from embedded_server.graph.ways import node_of, reached, tensor_of


@dataclass(frozen=True)
class Source:
    """The graph of a signature before anything is done to it."""

    graph_def: GraphDef
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    values: Callable[[Sequence[NodeDef]], Sequence[np.ndarray[Any, Any]]]
    """The values of variables, given their nodes."""
    table: Callable[[NodeDef, int, int], tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]
    """Keys and values of a table, given its node and the numbers of their types."""
    states: Mapping[str, NodeDef]
    """Placeholders that a function captures variables and tables by -> what they are."""

    @classmethod
    def of(cls, loaded: Loaded, signature: str) -> Source:
        function = loaded.functions.get(signature)
        return cls._of_session(loaded, signature) if function is None else cls._of_function(function)

    @classmethod
    def _of_session(cls, loaded: Loaded, signature: str) -> Source:
        proto = loaded.signature_defs[signature]
        for kind in (proto.inputs, proto.outputs):
            for alias, info in kind.items():
                if not info.name:
                    raise CannotConvert(f"{alias!r} is no plain tensor")
        if len({info.name for info in proto.inputs.values()}) < len(proto.inputs):
            raise CannotConvert("two of its inputs are the same tensor")
        graph = loaded.session.graph
        outputs = {alias: info.name for alias, info in proto.outputs.items()}
        fed = {info.name for info in proto.inputs.values()}
        whole = graph.as_graph_def()
        graph_def = pruned(whole, outputs.values(), fed)
        outputs = _with_common_names(graph_def, outputs)
        inputs = _with_placeholders(graph_def, graph, proto.inputs)
        placeholders = {info.name: inputs[alias] for alias, info in proto.inputs.items()}
        # A call is inlined with all that it does only if something waits for it.
        calls = [node.name for node in graph_def.node if node.op in CALLS]
        outputs = _with_identities(graph_def, outputs, placeholders, calls)

        def values(nodes: Sequence[NodeDef]) -> Sequence[np.ndarray[Any, Any]]:
            tensors = [graph.get_operation_by_name(node.name).outputs[0] for node in nodes]
            with graph.as_default():
                tensors = [
                    tf.raw_ops.ReadVariableOp(resource=tensor, dtype=node.attr["dtype"].type)
                    if node.op == "VarHandleOp"
                    else tensor
                    for node, tensor in zip(nodes, tensors, strict=True)
                ]
            return [np.asarray(value) for value in loaded.session.run(tensors)]

        def table(node: NodeDef, keys: int, values: int) -> Any:
            handle = graph.get_operation_by_name(node.name).outputs[0]
            with graph.as_default():
                export = (
                    tf.raw_ops.LookupTableExportV2
                    if handle.dtype == tf.resource
                    else tf.raw_ops.LookupTableExport
                )
                return loaded.session.run(export(table_handle=handle, Tkeys=keys, Tvalues=values))

        return cls(graph_def, inputs, outputs, values, table, {})

    @classmethod
    def _of_function(cls, function: Any) -> Source:
        graph_def = function.graph.as_graph_def()
        variables = {variable.handle.ref(): variable for variable in function.graph.variables}
        captured: dict[str, Any] = {}
        states: dict[str, NodeDef] = {}
        for outer, inner in function.graph.captures:
            name = inner.op.name
            captured[name] = variables.get(outer.ref(), outer)
            if outer.dtype != tf.resource:
                continue
            node = NodeDef(name=name, op="VarHandleOp" if outer.ref() in variables else "HashTableV2")
            node.attr["shared_name"].s = getattr(captured[name], "name", name).encode()
            states[name] = node
        for node in graph_def.node:
            if node.name in captured and node.name not in states:
                make_constant(node, captured[node.name].numpy())
        inputs = {
            alias: tensor.name for alias, tensor in zip(function._arg_keywords, function.inputs, strict=False)
        }
        outputs = _with_identities(
            graph_def,
            dict(_named_outputs(function)),
            {name: name for name in inputs.values()},
            [operation.name for operation in function.graph.control_outputs],
        )

        def values(nodes: Sequence[NodeDef]) -> Sequence[np.ndarray[Any, Any]]:
            return [np.asarray(captured[node.name].numpy()) for node in nodes]

        def table(node: NodeDef, keys: int, values: int) -> Any:
            exported = tf.raw_ops.LookupTableExportV2(
                table_handle=captured[node.name], Tkeys=keys, Tvalues=values
            )
            return [part.numpy() for part in exported]

        return cls(graph_def, inputs, outputs, values, table, states)


def _named_outputs(function: Any) -> Iterator[tuple[str, str]]:
    """A dict of outputs is flattened in the order of its sorted names."""
    for name, tensor in zip(sorted(function.structured_outputs), function.outputs, strict=True):
        yield name, tensor.name


def pruned(graph_def: GraphDef, outputs: Iterable[str], fed: set[str]) -> GraphDef:
    """What is needed for the outputs, up to the tensors that are fed."""
    nodes = {node.name: node for node in graph_def.node}

    def before(name: str) -> list[str]:
        return [node_of(r) for r in nodes[name].input if r.startswith("^") or tensor_of(r) not in fed]

    # The node of a fed tensor is wanted too if something else of it is.
    needed = reached([node_of(tensor) for tensor in outputs if tensor not in fed], before)
    pruned = GraphDef(versions=graph_def.versions, library=graph_def.library)
    pruned.node.extend(node for node in graph_def.node if node.name in needed)
    for node in pruned.node:
        if "_class" in node.attr:  # placed with another one, which may be gone
            del node.attr["_class"]
        node.ClearField("experimental_debug_info")  # names functions, in which equal signatures differ
    return pruned


def _with_placeholders(graph_def: GraphDef, graph: tf.Graph, infos: Mapping[str, Any]) -> dict[str, str]:
    """Give each input a placeholder of its own in `graph_def`. Returns their tensors, by input."""
    taken = {node.name for node in graph_def.node}
    made: dict[str, str] = {}
    for _, info in sorted(infos.items()):
        if info.name in made:
            continue
        node = NodeDef(name=fresh_name("input", taken), op="Placeholder")
        tensor = graph.get_tensor_by_name(info.name)
        node.attr["dtype"].type = tensor.dtype.base_dtype.as_datatype_enum
        node.attr["shape"].shape.CopyFrom(_common_shape(tensor.shape, tf.TensorShape(info.tensor_shape)))
        graph_def.node.append(node)
        made[info.name] = f"{node.name}:0"
    _redirect(graph_def.node, made)
    return {alias: made[info.name] for alias, info in infos.items()}


def _with_common_names(graph_def: GraphDef, outputs: Mapping[str, str]) -> dict[str, str]:
    """Name calls by their order, so that two signatures with one computation have one graph."""
    taken = {node.name for node in graph_def.node}
    names = {node.name: fresh_name("call", taken) for node in graph_def.node if node.op in CALLS}

    def renamed(reference: str) -> str:
        mark = "^" if reference.startswith("^") else ""
        name, colon, index = reference.removeprefix("^").partition(":")
        return f"{mark}{names.get(name, name)}{colon}{index}"

    for node in graph_def.node:
        node.name = names.get(node.name, node.name)
        references = [renamed(reference) for reference in node.input]
        del node.input[:]
        node.input.extend(references)
    return {alias: renamed(tensor) for alias, tensor in outputs.items()}


def _common_shape(graph: tf.TensorShape, signature: tf.TensorShape) -> Any:
    try:
        return graph.merge_with(signature).as_proto()
    except ValueError:  # the definition of the signature contradicts its graph, which decides
        return graph.as_proto()


def _with_identities(
    graph_def: GraphDef, outputs: Mapping[str, str], placeholders: Mapping[str, str], first: Sequence[str]
) -> dict[str, str]:
    """Give each output a node of its own, which waits for the operations `first`."""
    taken = {node.name for node in graph_def.node}
    made: dict[str, str] = {}
    for tensor in sorted(set(outputs.values())):
        if tensor in placeholders:
            made[tensor] = placeholders[tensor]
            continue
        node = NodeDef(name=fresh_name("output", taken), op="Identity")
        node.input.extend([tensor, *(f"^{name}" for name in first)])
        graph_def.node.append(node)
        made[tensor] = f"{node.name}:0"
    types = _types(graph_def, outputs.values())
    for node in graph_def.node:
        if node.op == "Identity" and f"{node.name}:0" in made.values() and "T" not in node.attr:
            node.attr["T"].type = types[node.input[0]]
    return {alias: made[tensor] for alias, tensor in outputs.items()}


def _types(graph_def: GraphDef, tensors: Iterable[str]) -> dict[str, int]:
    """The types of tensors; those of variables are taken without their being references."""
    graph = tf.Graph()
    names = set(tensors)
    needed = GraphDef(versions=graph_def.versions, library=graph_def.library)
    needed.node.extend(
        node for node in graph_def.node if not (node.op == "Identity" and "T" not in node.attr)
    )
    with graph.as_default():
        tf.import_graph_def(needed, name="")
    known = {node.name for node in needed.node}
    return {
        tensor: graph.get_tensor_by_name(tensor).dtype.base_dtype.as_datatype_enum
        for tensor in names
        if node_of(tensor) in known
    }


def fresh_name(stem: str, taken: set[str]) -> str:
    """A name that no node has."""
    number = 0
    while f"{stem}_{number}" in taken:
        number += 1
    taken.add(f"{stem}_{number}")
    return f"{stem}_{number}"


def _redirect(nodes: Iterable[NodeDef], tensors: Mapping[str, str]) -> None:
    """Replace references to some tensors by references to others."""
    for node in nodes:
        for index, reference in enumerate(node.input):
            if not reference.startswith("^") and tensor_of(reference) in tensors:
                node.input[index] = tensors[tensor_of(reference)].removesuffix(":0")


def make_constant(node: NodeDef, value: Any) -> None:
    """Make `node` a constant, which keeps its name."""
    name = node.name
    node.Clear()
    proto = tf.make_tensor_proto(value)
    node.name, node.op = name, "Const"
    node.attr["dtype"].type = proto.dtype
    node.attr["value"].tensor.CopyFrom(proto)
