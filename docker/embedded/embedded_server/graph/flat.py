"""A signature as one flat graph: functions inlined, variables and tables with their values.

The graph is the one that the server executes, pruned to what the signature needs. Variables become constants,
and each look-up table becomes one that is filled from constants, so the graph needs no session of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.framework import convert_to_constants, op_def_registry
from tensorflow.python.grappler import tf_optimizer

from embedded_server.graph.errors import CannotConvert
from embedded_server.graph.frames import control_flow, ordered
from embedded_server.graph.saved_model import Loaded
from embedded_server.graph.ways import reached

VARIABLES = frozenset({"VarHandleOp", "VariableV2", "Variable"})
TABLES = frozenset({
    "HashTable", "HashTableV2", "AnonymousHashTable",
    "MutableHashTable", "MutableHashTableV2", "AnonymousMutableHashTable",
})  # fmt: skip
_HANDED_ON = frozenset({
    "_SwitchN", "Identity", "IdentityN", "Enter", "Exit", "Switch", "Merge", "NextIteration",
    "RefIdentity", "RefEnter", "RefExit", "RefSwitch", "RefMerge", "RefNextIteration",
})  # fmt: skip
_READS = _HANDED_ON | {
    "ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape", "VarIsInitializedOp",
    "IsVariableInitialized", "LookupTableFind", "LookupTableFindV2", "LookupTableSize", "LookupTableSizeV2",
    "While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase",
    "PartitionedCall", "StatefulPartitionedCall",
}  # fmt: skip
"""Operations that take a variable or a table and leave it as it is, or whose functions are looked at."""
_OF_ONE_REQUEST = ("TensorArray", "Stack")
"""What operations are called whose state is made and used within one request."""
_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
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
    source = _Source.of(loaded, signature)
    graph_def = _inlined_for(source)
    changes.check(signature, _states(graph_def))
    _check_random(graph_def)
    initializers = _with_tables(graph_def, source)
    graph_def = _with_constants(graph_def, source)
    _check_resources(graph_def)
    if graph_def.ByteSize() > _MOST_BYTES:
        raise CannotConvert("its weights need more than the 2 GB that a graph can hold")
    _with_effects_alone(graph_def)
    return Flat(graph_def, source.inputs, source.outputs, initializers)


def inlined(loaded: Loaded, signature: str) -> tuple[GraphDef, Mapping[str, str]]:
    """The graph of a signature without calls of functions, and its placeholders' tensors by input.

    Variables and tables are in it by their handles alone. Raises CannotConvert.
    """
    source = _Source.of(loaded, signature)
    return _inlined_for(source), source.inputs


def _inlined_for(source: _Source) -> GraphDef:
    return _inlined(source.graph_def, [*source.inputs.values(), *source.outputs.values()])


@dataclass(frozen=True)
class _Source:
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
    def of(cls, loaded: Loaded, signature: str) -> _Source:
        function = loaded.functions.get(signature)
        return cls._of_session(loaded, signature) if function is None else cls._of_function(function)

    @classmethod
    def _of_session(cls, loaded: Loaded, signature: str) -> _Source:
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
        graph_def = _pruned(whole, outputs.values(), fed)
        outputs = _with_common_names(graph_def, outputs)
        inputs = _with_placeholders(graph_def, graph, proto.inputs)
        placeholders = {info.name: inputs[alias] for alias, info in proto.inputs.items()}
        # A call is inlined with all that it does only if something waits for it.
        calls = [node.name for node in graph_def.node if node.op in _CALLS]
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
    def _of_function(cls, function: Any) -> _Source:
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


def node_of(reference: str) -> str:
    """The node that an input such as "^a", "a:1" or "a" refers to."""
    return reference.lstrip("^").partition(":")[0]


def tensor_of(reference: str) -> str:
    """The tensor's full name, for a reference that leaves ":0" out."""
    return reference if ":" in reference else f"{reference}:0"


def _pruned(graph_def: GraphDef, outputs: Iterable[str], fed: set[str]) -> GraphDef:
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
        node = NodeDef(name=_fresh("input", taken), op="Placeholder")
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
    names = {node.name: _fresh("call", taken) for node in graph_def.node if node.op in _CALLS}

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
        node = NodeDef(name=_fresh("output", taken), op="Identity")
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
    wanted = set(tensors)
    needed = GraphDef(versions=graph_def.versions, library=graph_def.library)
    needed.node.extend(
        node for node in graph_def.node if not (node.op == "Identity" and "T" not in node.attr)
    )
    with graph.as_default():
        tf.import_graph_def(needed, name="")
    known = {node.name for node in needed.node}
    return {
        tensor: graph.get_tensor_by_name(tensor).dtype.base_dtype.as_datatype_enum
        for tensor in wanted
        if node_of(tensor) in known
    }


def _fresh(stem: str, taken: set[str]) -> str:
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
    return _without_unused_functions(_pruned(optimized, kept, set()))


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
        source = _Source.of(loaded, signature)
        graph_def = _inlined(source.graph_def, [*source.inputs.values(), *source.outputs.values()])
    except Exception:  # told when it is converted; until then it may change all that there is
        return sorted(set(_states(loaded.session.graph.as_graph_def())))
    if any(
        node.op not in _READS and _takes_state(node)
        for function in graph_def.library.function
        for node in function.node_def
    ):
        # What a function is given is not followed into it, so it may change all that the signature has.
        return sorted(set(_states(graph_def)))
    origins = _origins(graph_def)
    nodes = {node.name: node for node in graph_def.node}
    found: dict[str, None] = {}
    for node in graph_def.node:
        if node.op in _READS or node.op.startswith(_OF_ONE_REQUEST) or not _takes_state(node):
            continue
        changed = [origin for reference in node.input for origin in origins.get(node_of(reference), ())]
        if not changed:  # it came a way that is not followed
            return sorted(set(_states(graph_def)))
        found.update(dict.fromkeys(_described(nodes[origin]) for origin in changed))
    return list(found)


def _takes_state(node: NodeDef) -> bool:
    definition = op_def_registry.get(node.op)
    return definition is not None and any(
        argument.is_ref or argument.type == tf.resource.as_datatype_enum for argument in definition.input_arg
    )


def _gives_state(node: NodeDef) -> bool:
    """Whether it makes a table, a queue or the like, rather than handing one on."""
    definition = op_def_registry.get(node.op)
    if definition is None or not definition.is_stateful or node.op in _READS:
        return False
    if node.op.startswith(_OF_ONE_REQUEST):
        return False
    return any(
        argument.is_ref or argument.type == tf.resource.as_datatype_enum for argument in definition.output_arg
    )


def _states(graph_def: GraphDef) -> Iterator[str]:
    """All variables and tables of a graph, in words."""
    for node in graph_def.node:
        if node.op in VARIABLES or node.op in TABLES or _is_handle(node):
            yield _described(node)


def _is_handle(node: NodeDef) -> bool:
    return bool(node.op == "Placeholder" and node.attr["dtype"].type == tf.resource.as_datatype_enum)


def _described(node: NodeDef) -> str:
    kind = "variable" if node.op in VARIABLES or _is_handle(node) else "table"
    return f"{kind} {node.attr['shared_name'].s.decode(errors='replace') or node.name}"


def _origins(graph_def: GraphDef) -> dict[str, set[str]]:
    """Node -> the variables and tables whose handle it may give."""
    found: dict[str, set[str]] = {
        node.name: {node.name}
        for node in graph_def.node
        if node.op in VARIABLES or node.op in TABLES or _is_handle(node) or node.op.endswith("HandleOp")
    }
    again = True
    while again:
        again = False
        for node in graph_def.node:
            if node.op in _HANDED_ON:
                handed = {origin for r in node.input for origin in found.get(node_of(r), ())}
                if not handed <= found.get(node.name, set()):
                    found.setdefault(node.name, set()).update(handed)
                    again = True
    return found


def _check_random(graph_def: GraphDef) -> None:
    nodes = [*graph_def.node, *(node for f in graph_def.library.function for node in f.node_def)]
    for node in nodes:
        definition = op_def_registry.get(node.op)
        stateful = definition is not None and definition.is_stateful
        if stateful and (
            node.op.startswith(("Random", "Multinomial", "TruncatedNormal", "ParameterizedTruncatedNormal"))
            or "Sample" in node.op
            or (node.op.startswith("Stateful") and node.op not in _CALLS)
        ):
            raise CannotConvert(f"it draws random numbers ({node.name}, {node.op})")


def _with_tables(graph_def: GraphDef, source: _Source) -> list[str]:
    """Replace tables by ones that are filled from constants. Returns the operations that fill them."""
    initializers: list[str] = []
    taken = {node.name for node in graph_def.node}
    origins = _origins(graph_def)
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
            raise CannotConvert(f"what it looks up in the {_described(state)} is not of one type")
        ((key_type, value_type),) = types
        try:
            keys, values = source.table(node, key_type, value_type)
        except Exception as error:
            raise CannotConvert(
                f"the contents of the {_described(state)} cannot be read ({error})"
            ) from error
        if np.ndim(values) != 1:
            raise CannotConvert(f"the {_described(state)} holds more than one value for each key")
        is_reference = node.op in ("HashTable", "MutableHashTable")
        name = node.name
        node.Clear()
        node.name, node.op = name, "HashTable" if is_reference else "HashTableV2"
        node.attr["key_dtype"].type, node.attr["value_dtype"].type = key_type, value_type
        node.attr["shared_name"].s = name.encode()
        parts = []
        for stem, array in (("keys", keys), ("values", values)):
            constant = graph_def.node.add(name=_fresh(f"{name}_{stem}", taken))
            make_constant(constant, array)
            parts.append(constant.name)
        fill = graph_def.node.add(
            name=_fresh(f"{name}_fill", taken), op="InitializeTable" if is_reference else "InitializeTableV2"
        )
        fill.input.extend([name, *parts])
        fill.attr["Tkey"].type, fill.attr["Tval"].type = key_type, value_type
        initializers.append(fill.name)
    return initializers


def make_constant(node: NodeDef, value: Any) -> None:
    """Make `node` a constant, which keeps its name."""
    name = node.name
    node.Clear()
    proto = tf.make_tensor_proto(value)
    node.name, node.op = name, "Const"
    node.attr["dtype"].type = proto.dtype
    node.attr["value"].tensor.CopyFrom(proto)


class _Values(convert_to_constants._ConverterData):
    """What TensorFlow's own conversion asks for: the graph, and the value of each variable."""

    def __init__(self, graph_def: GraphDef, values: Mapping[str, np.ndarray[Any, Any]]) -> None:
        super().__init__(graph_def)
        types = {name: tf.dtypes.as_dtype(value.dtype).as_datatype_enum for name, value in values.items()}
        self._tensor_data = {
            name: convert_to_constants._TensorData(value, types[name], None) for name, value in values.items()
        }


def _with_constants(graph_def: GraphDef, source: _Source) -> GraphDef:
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
            raise CannotConvert(f"the {_described(node)} cannot be made a constant")
        if _is_handle(node) or (_gives_state(node) and node.op not in ("HashTable", "HashTableV2")):
            raise CannotConvert(f"it uses {node.name} ({node.op}), whose contents cannot be taken along")


_NO_EFFECTS = frozenset({
    "Placeholder", "HashTable", "HashTableV2", "LookupTableFind", "LookupTableFindV2", "LookupTableSize",
    "LookupTableSizeV2", "InitializeTable", "InitializeTableV2", "PartitionedCall", "StatefulPartitionedCall",
    "While", "If", "Case",
})  # fmt: skip
_WAYS_OUT = frozenset({"Exit", "RefExit", "Merge", "RefMerge"})


def _with_effects_alone(graph_def: GraphDef) -> None:
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
        found = (
            {f"^{effect}" for name in waits for effect in effects.of(name)} if node.op != "Const" else set()
        )
        del node.input[:]
        node.input.extend([*given, *sorted(found)])


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
            found = frozenset(effect for n in before for effect in self._known.get(n, ()))
            # What happens within a loop or a condition is waited for at its end.
            self._known[node.name] = frozenset({node.name}) if found and node.op in _WAYS_OUT else found
        return self._known[name]


def _has_effect(node: NodeDef) -> bool:
    definition = op_def_registry.get(node.op)
    return definition is not None and definition.is_stateful and node.op not in _NO_EFFECTS
