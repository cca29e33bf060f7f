"""A signature as one flat graph: functions inlined, variables and tables with their values.

The graph is the one that the server executes, pruned to what the signature needs. Variables become constants,
and each look-up table becomes one that is filled from constants, so the graph needs no session of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.framework import convert_to_constants
from tensorflow.python.grappler import tf_optimizer

from embedded_server.graph.effects import wait_for_effects_alone
from embedded_server.graph.errors import CannotConvert
from embedded_server.graph.saved_model import Loaded
from embedded_server.graph.source import Source, fresh_name, make_constant, pruned
from embedded_server.graph.states import (
    OF_ONE_REQUEST,
    READS,
    TABLES,
    VARIABLES,
    check_random,
    described,
    gives_state,
    is_handle,
    origins_of,
    states_of,
    takes_state,
)
from embedded_server.graph.ways import node_of, reached

_MOST_BYTES = 2**31 - 1  # of a message; the limit of protobuf


@dataclass(frozen=True)
class Flat:
    """A signature's graph. Tensors are named as in it."""

    graph_def: GraphDef
    inputs: Mapping[str, str]
    """Signature input -> its placeholder's tensor."""
    outputs: Mapping[str, str]
    """Signature output -> its tensor."""
    initializers: Sequence[str]
    """Operations that fill the tables."""


class Changes:
    """Which variables and tables the signatures of a model change."""

    def __init__(self, loaded: Loaded) -> None:
        self._by_signature = {
            name: _changed(loaded, name)
            for name, proto in loaded.signature_defs.items()
            # Not what loading itself executes, whose output is an operation.
            if all(":" in info.name for info in proto.outputs.values())
        }

    def check(self, signature: str, states: Iterable[str]) -> None:
        """Raises CannotConvert if the signature changes one, or reads one of `states` that any of them
        changes."""
        for what in self._by_signature[signature]:
            raise CannotConvert(f"it changes the {what}")
        read = set(states)
        for other, changed in self._by_signature.items():
            for what in changed:
                if what in read:
                    raise CannotConvert(f"it reads the {what}, which the signature {other!r} changes")


def flatten(loaded: Loaded, signature: str, changes: Changes) -> Flat:
    """The flat graph of a signature. Raises CannotConvert if it would compute something else."""
    source = Source.of(loaded, signature)
    graph_def = _inlined_for(source)
    changes.check(signature, states_of(graph_def))
    check_random(graph_def)
    initializers = _with_tables(graph_def, source)
    graph_def = _with_constants(graph_def, source)
    _check_resources(graph_def)
    if graph_def.ByteSize() > _MOST_BYTES:
        raise CannotConvert("its weights need more than the 2 GB that a graph can hold")
    wait_for_effects_alone(graph_def)
    return Flat(graph_def, source.inputs, source.outputs, initializers)


def inlined(loaded: Loaded, signature: str) -> tuple[GraphDef, Mapping[str, str]]:
    """The graph of a signature without calls of functions, and its placeholders' tensors by input.

    Variables and tables are in it by their handles alone. Raises CannotConvert.
    """
    source = Source.of(loaded, signature)
    return _inlined_for(source), source.inputs


def _inlined_for(source: Source) -> GraphDef:
    return _inlined(source.graph_def, [*source.inputs.values(), *source.outputs.values()])


def _inlined(graph_def: GraphDef, kept: Sequence[str]) -> GraphDef:
    """The graph without calls of functions, and with control flow as plain nodes (Grappler does it)."""
    prepared = GraphDef()
    prepared.CopyFrom(graph_def)
    for nodes in (prepared.node, *(function.node_def for function in prepared.library.function)):
        for node in nodes:
            # Marks for other machines, or against inlining, keep functions as they are. Shapes may be wrong
            # after it.
            for mark in ("_XlaMustCompile", "_noinline", "_xla_compile_id", "_output_shapes", "_class"):
                if mark in node.attr:
                    del node.attr[mark]
            node.device = ""
    for function in prepared.library.function:
        for mark in ("api_implements", "_noinline", "_XlaMustCompile"):
            if mark in function.attr:
                del function.attr[mark]
    if not prepared.library.function:
        return prepared
    meta_graph = meta_graph_pb2.MetaGraphDef(graph_def=prepared)
    meta_graph.collection_def["train_op"].node_list.value.extend(kept)
    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.min_graph_nodes = -1
    config.graph_options.rewrite_options.optimizers.append("function")
    optimized: GraphDef = tf_optimizer.OptimizeGraph(config, meta_graph)
    return _without_unused_functions(pruned(optimized, kept, set()))


def _without_unused_functions(graph_def: GraphDef) -> GraphDef:
    functions = {function.signature.name: function for function in graph_def.library.function}

    def called(nodes: Iterable[NodeDef]) -> list[str]:
        attributes = [attr for node in nodes for attr in node.attr.values()]
        names = [func.name for attr in attributes for func in (attr.func, *attr.list.func) if func.name]
        return [name for name in names if name in functions]

    used = reached(called(graph_def.node), lambda name: called(functions[name].node_def))
    del graph_def.library.function[:]
    graph_def.library.function.extend(functions[name] for name in sorted(used))
    return graph_def


def _changed(loaded: Loaded, signature: str) -> list[str]:
    """The variables and tables that a signature changes, in words."""
    try:
        source = Source.of(loaded, signature)
        graph_def = _inlined(source.graph_def, [*source.inputs.values(), *source.outputs.values()])
    except Exception:  # told when it is converted; until then it may change all that there is
        return sorted(set(states_of(loaded.session.graph.as_graph_def())))
    if any(
        node.op not in READS and takes_state(node)
        for function in graph_def.library.function
        for node in function.node_def
    ):
        # What a function is given is not followed into it, so it may change all that the signature has.
        return sorted(set(states_of(graph_def)))
    origins = origins_of(graph_def)
    nodes = {node.name: node for node in graph_def.node}
    variables: dict[str, None] = {}
    for node in graph_def.node:
        if node.op in READS or node.op.startswith(OF_ONE_REQUEST) or not takes_state(node):
            continue
        changed = [origin for reference in node.input for origin in origins.get(node_of(reference), ())]
        if not changed:  # it came a way that is not followed
            return sorted(set(states_of(graph_def)))
        variables.update(dict.fromkeys(described(nodes[origin]) for origin in changed))
    return list(variables)


def _with_tables(graph_def: GraphDef, source: Source) -> list[str]:
    """Replace tables by ones that are filled from constants. Returns the operations that fill them."""
    initializers: list[str] = []
    taken = {node.name for node in graph_def.node}
    origins = origins_of(graph_def)
    nodes = {node.name: node for node in graph_def.node}
    for node in list(graph_def.node):
        state = source.states.get(node.name, node)
        if state.op not in TABLES:
            continue
        types = {
            (user.attr["Tin"].type, user.attr["Tout"].type)
            for user in nodes.values()
            if user.op.startswith("LookupTableFind") and node.name in origins.get(node_of(user.input[0]), ())
        }
        if len(types) != 1:
            raise CannotConvert(f"what it looks up in the {described(state)} is not of one type")
        ((key_type, value_type),) = types
        try:
            keys, values = source.table(node, key_type, value_type)
        except Exception as error:
            raise CannotConvert(f"the contents of the {described(state)} cannot be read ({error})") from error
        if np.ndim(values) != 1:
            raise CannotConvert(f"the {described(state)} holds more than one value for each key")
        is_reference = node.op in ("HashTable", "MutableHashTable")
        name = node.name
        node.Clear()
        node.name, node.op = name, "HashTable" if is_reference else "HashTableV2"
        node.attr["key_dtype"].type, node.attr["value_dtype"].type = key_type, value_type
        node.attr["shared_name"].s = name.encode()
        parts = []
        for stem, array in (("keys", keys), ("values", values)):
            constant = graph_def.node.add(name=fresh_name(f"{name}_{stem}", taken))
            make_constant(constant, array)
            parts.append(constant.name)
        fill = graph_def.node.add(
            name=fresh_name(f"{name}_fill", taken),
            op="InitializeTable" if is_reference else "InitializeTableV2",
        )
        fill.input.extend([name, *parts])
        fill.attr["Tkey"].type, fill.attr["Tval"].type = key_type, value_type
        initializers.append(fill.name)
    return initializers


class _Values(convert_to_constants._ConverterData):  # type: ignore[misc]
    """What TensorFlow's own conversion asks for: the graph, and the value of each variable."""

    def __init__(self, graph_def: GraphDef, values: Mapping[str, np.ndarray[Any, Any]]) -> None:
        super().__init__(graph_def)
        types = {name: tf.dtypes.as_dtype(value.dtype).as_datatype_enum for name, value in values.items()}
        self._tensor_data = {
            name: convert_to_constants._TensorData(value, types[name], None) for name, value in values.items()
        }


def _with_constants(graph_def: GraphDef, source: Source) -> GraphDef:
    """Replace variables by constants."""
    variables = [
        node
        for node in graph_def.node
        if node.op in VARIABLES or source.states.get(node.name, node).op in VARIABLES
    ]
    if not variables:
        return graph_def
    names = [node.name for node in variables]
    values = dict(zip(names, source.values(variables), strict=True))
    try:
        frozen, _ = convert_to_constants._replace_variables_by_constants(_Values(graph_def, values))
    except (ValueError, KeyError, NotImplementedError) as error:
        raise CannotConvert("its variables cannot be made constants") from error
    return frozen


def _check_resources(graph_def: GraphDef) -> None:
    """Raises CannotConvert for state that would stay behind."""
    for node in graph_def.node:
        if node.op in VARIABLES:
            raise CannotConvert(f"the {described(node)} cannot be made a constant")
        if is_handle(node) or (gives_state(node) and node.op not in ("HashTable", "HashTableV2")):
            raise CannotConvert(f"it uses {node.name} ({node.op}), whose contents cannot be taken along")
