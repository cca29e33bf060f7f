"""Which operations of a graph do something, so that others have to wait for them."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.python.framework import op_def_registry

from embedded_server.graph.frames import control_flow, ordered
from embedded_server.graph.ways import node_of

_NO_EFFECTS = frozenset({
    "Placeholder", "HashTable", "HashTableV2", "LookupTableFind", "LookupTableFindV2", "LookupTableSize",
    "LookupTableSizeV2", "InitializeTable", "InitializeTableV2", "PartitionedCall", "StatefulPartitionedCall",
    "While", "If", "Case",
})  # fmt: skip
_WAYS_OUT = frozenset({"Exit", "RefExit", "Merge", "RefMerge"})


def wait_for_effects_alone(graph_def: GraphDef) -> None:
    """Let operations wait for those alone that do something, such as assertions, and not for what leads
    there."""
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    within = control_flow(list(ordered(graph)))
    nodes = {node.name: node for node in graph_def.node}
    effects = _Effects(nodes)
    for node in graph_def.node:
        # What a constant waits for, its users wait for: constants are given to all parts of the graph.
        waiting = {
            f"^{node_of(r)}"
            for given in node.input
            if nodes[node_of(given)].op == "Const" and node_of(given) not in within
            for r in nodes[node_of(given)].input
        }
        if waiting and node.name not in within:
            node.input.extend(sorted(waiting - set(node.input)))
    for node in graph_def.node:
        waits = [node_of(r) for r in node.input if r.startswith("^")]
        # Within loops and conditions, waiting also says whose turn it is.
        if not waits or node.name in within or node.op in _WAYS_OUT:
            continue
        given = [r for r in node.input if not r.startswith("^")]
        controls = (
            {f"^{effect}" for name in waits for effect in effects.of(name)} if node.op != "Const" else set()
        )
        del node.input[:]
        node.input.extend([*given, *sorted(controls)])


class _Effects:
    """Which operations that do something are executed when an operation is."""

    def __init__(self, nodes: Mapping[str, NodeDef]) -> None:
        self._nodes = nodes
        self._known: dict[str, frozenset[str]] = {}

    def of(self, name: str) -> frozenset[str]:
        """The operation itself, or those before it."""
        waiting, begun = [name], set()
        while waiting:
            node = self._nodes[waiting[-1]]
            if node.name in self._known:
                waiting.pop()
                continue
            if _has_effect(node):
                self._known[node.name] = frozenset({node.name})
                continue
            before = [node_of(r) for r in node.input]
            if node.name not in begun:
                begun.add(node.name)
                unknown = [n for n in before if n not in self._known and n not in begun]
                if unknown:
                    waiting.extend(unknown)
                    continue
            effects = frozenset(effect for n in before for effect in self._known.get(n, ()))
            # What happens within a loop or a condition is waited for at its end.
            self._known[node.name] = frozenset({node.name}) if effects and node.op in _WAYS_OUT else effects
        return self._known[name]


def _has_effect(node: NodeDef) -> bool:
    definition = op_def_registry.get(node.op)
    return definition is not None and definition.is_stateful and node.op not in _NO_EFFECTS
