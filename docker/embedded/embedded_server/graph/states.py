"""Variables, tables and random numbers of a graph: which operations make, read and change them."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.python.framework import op_def_registry

from embedded_server.graph.errors import CannotConvert
from embedded_server.graph.ways import node_of

VARIABLES = frozenset({"VarHandleOp", "VariableV2", "Variable"})
TABLES = frozenset({
    "HashTable", "HashTableV2", "AnonymousHashTable",
    "MutableHashTable", "MutableHashTableV2", "AnonymousMutableHashTable",
})  # fmt: skip
HANDED_ON = frozenset({
    "_SwitchN", "Identity", "IdentityN", "Enter", "Exit", "Switch", "Merge", "NextIteration",
    "RefIdentity", "RefEnter", "RefExit", "RefSwitch", "RefMerge", "RefNextIteration",
})  # fmt: skip
READS = HANDED_ON | {
    "ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape", "VarIsInitializedOp",
    "IsVariableInitialized", "LookupTableFind", "LookupTableFindV2", "LookupTableSize", "LookupTableSizeV2",
    "While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase",
    "PartitionedCall", "StatefulPartitionedCall",
}  # fmt: skip
"""Operations that take a variable or a table and leave it as it is, or whose functions are looked at."""
OF_ONE_REQUEST = ("TensorArray", "Stack")
"""What operations are called whose state is made and used within one request."""
CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})


def takes_state(node: NodeDef) -> bool:
    definition = op_def_registry.get(node.op)
    return definition is not None and any(
        argument.is_ref or argument.type == tf.resource.as_datatype_enum for argument in definition.input_arg
    )


def gives_state(node: NodeDef) -> bool:
    """Whether it makes a table, a queue or the like, rather than handing one on."""
    definition = op_def_registry.get(node.op)
    if definition is None or not definition.is_stateful or node.op in READS:
        return False
    if node.op.startswith(OF_ONE_REQUEST):
        return False
    return any(
        argument.is_ref or argument.type == tf.resource.as_datatype_enum for argument in definition.output_arg
    )


def states_of(graph_def: GraphDef) -> Iterator[str]:
    """All variables and tables of a graph, in words."""
    for node in graph_def.node:
        if node.op in VARIABLES or node.op in TABLES or is_handle(node):
            yield described(node)


def is_handle(node: NodeDef) -> bool:
    return bool(node.op == "Placeholder" and node.attr["dtype"].type == tf.resource.as_datatype_enum)


def described(node: NodeDef) -> str:
    kind = "variable" if node.op in VARIABLES or is_handle(node) else "table"
    return f"{kind} {node.attr['shared_name'].s.decode(errors='replace') or node.name}"


def origins_of(graph_def: GraphDef) -> dict[str, set[str]]:
    """Node -> the variables and tables whose handle it may give."""
    origins: dict[str, set[str]] = {
        node.name: {node.name}
        for node in graph_def.node
        if node.op in VARIABLES or node.op in TABLES or is_handle(node) or node.op.endswith("HandleOp")
    }
    again = True
    while again:
        again = False
        for node in graph_def.node:
            if node.op in HANDED_ON:
                handed = {origin for r in node.input for origin in origins.get(node_of(r), ())}
                if not handed <= origins.get(node.name, set()):
                    origins.setdefault(node.name, set()).update(handed)
                    again = True
    return origins


def check_random(graph_def: GraphDef) -> None:
    nodes = [*graph_def.node, *(node for f in graph_def.library.function for node in f.node_def)]
    for node in nodes:
        definition = op_def_registry.get(node.op)
        stateful = definition is not None and definition.is_stateful
        if stateful and (
            node.op.startswith(("Random", "Multinomial", "TruncatedNormal", "ParameterizedTruncatedNormal"))
            or "Sample" in node.op
            or (node.op.startswith("Stateful") and node.op not in CALLS)
        ):
            raise CannotConvert(f"it draws random numbers ({node.name}, {node.op})")
