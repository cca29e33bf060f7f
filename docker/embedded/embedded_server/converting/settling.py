"""Writes into a flat graph what is known of shapes, and TensorFlow's own inference does not find out.

Requests of other shapes are TensorFlow's: the body states what it is given (artefact.Condition).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef

from embedded_server.converting.facts import FLOATS
from embedded_server.graph import counting
from embedded_server.graph.flat import Flat
from embedded_server.graph.frames import control_flow, ordered
from embedded_server.graph.ways import reached, tensor_of


def settled(flat: Flat) -> tuple[Flat, tf.Graph]:
    """The same signature, and its graph with the shapes that follow."""
    graph = graph_of(flat.graph_def)
    for settle in (_shapes_of_lookups, _shapes_of_products):
        shapes = settle(graph)
        if shapes:
            flat = _with_shapes(flat, graph, shapes)
            graph = graph_of(flat.graph_def)
    measured = _measured_elsewhere(flat, graph)
    return (flat, graph) if measured is flat else (measured, graph_of(measured.graph_def))


def graph_of(graph_def: GraphDef) -> tf.Graph:
    """`graph_def` with the shapes that follow from its operations."""
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    return graph


_Shapes = Mapping[str, Sequence["int | None"]]


def _shapes_of_lookups(graph: tf.Graph) -> _Shapes:
    """A table gives one value for each key."""
    return {
        operation.outputs[0].name: operation.inputs[1].shape.as_list()
        for operation in graph.get_operations()
        if operation.type.startswith("LookupTableFind")
        and operation.outputs[0].shape.rank is None
        and operation.inputs[1].shape.rank is not None
    }


def _shapes_of_products(graph: tf.Graph) -> _Shapes:
    """Shapes that the graph leaves open where a product or convolution takes one size alone.

    TensorFlow refuses others, or answers them in another way, so such requests are TensorFlow's.
    """
    settled: dict[str, list[int | None]] = {}
    within = control_flow(list(ordered(graph)))
    for operation in graph.get_operations():
        sizes = _settles(operation)
        if sizes is None or operation.name in within:
            continue
        source = operation.inputs[0]
        while (before := _same_last_size(source)) is not None:
            source = before
        shape = source.shape
        if shape.rank not in (None, len(sizes)) or (shape.rank is not None and shape[-1] is not None):
            continue
        if source.op.type != "Placeholder" and _is_behind_heavy(source.op):
            continue  # what is put there would part the body
        if settled.setdefault(source.name, sizes)[-1] != sizes[-1]:
            settled[source.name] = [None] * len(sizes)
    return {tensor: sizes for tensor, sizes in settled.items() if sizes[-1] is not None}


def _same_last_size(tensor: tf.Tensor) -> tf.Tensor | None:
    """A tensor of the same rank and last size that this one is made from; None if none is known."""
    operation = tensor.op
    if operation.control_inputs:
        return None
    if operation.type in _SIZE_KEPT:
        return operation.inputs[0]
    if operation.type in _ELEMENTWISE:
        # A constant of one number, or of one for each of the last size, leaves the other's shape.
        for operand, other in (operation.inputs, reversed(operation.inputs)):
            if other.op.type == "Const" and other.shape.rank is not None and other.shape.rank <= 1:
                return operand
    return None


_SIZE_KEPT = frozenset({
    "Cast", "Identity", "Neg", "Abs", "Relu", "Relu6", "Square", "Tanh", "Sigmoid", "Sqrt", "Rsqrt",
    "BiasAdd", "MaxPool", "AvgPool", "ResizeBilinear", "ResizeNearestNeighbor",
})  # fmt: skip
_ELEMENTWISE = frozenset({"Add", "AddV2", "Sub", "Mul", "RealDiv", "Maximum", "Minimum"})


def _settles(operation: tf.Operation) -> list[int | None] | None:
    """The shape that the operation's input must have for its kernel."""
    if operation.type == "MatMul" and not operation.get_attr("transpose_a"):
        kernel = operation.inputs[1].shape
        if kernel.rank is None:
            return None
        return [None, kernel[1 if operation.get_attr("transpose_b") else 0]]
    if operation.type in ("Conv2D", "DepthwiseConv2dNative", "Conv3D"):
        kernel = operation.inputs[1].shape
        if kernel.rank is None or not operation.get_attr("data_format").endswith(b"C"):
            return None
        return [*[None] * (kernel.rank - 1), kernel[-2]]
    return None


def _with_shapes(flat: Flat, graph: tf.Graph, shapes: _Shapes) -> Flat:
    """The same with other shapes: those of inputs in their placeholders, others by what hands a tensor on
    as it is.
    """
    graph_def = GraphDef()
    graph_def.CopyFrom(flat.graph_def)
    replaced: dict[str, str] = {}
    for tensor, sizes in shapes.items():
        source = graph.get_tensor_by_name(tensor)
        shape = source.shape.merge_with(tf.TensorShape(list(sizes))).as_proto()
        if source.op.type == "Placeholder":
            for node in graph_def.node:
                if node.name == source.op.name:
                    node.attr["shape"].shape.CopyFrom(shape)
            continue
        node = graph_def.node.add(name=f"{source.op.name}/shaped", op="PlaceholderWithDefault")
        node.attr["dtype"].type = source.dtype.base_dtype.as_datatype_enum
        node.attr["shape"].shape.CopyFrom(shape)
        replaced[tensor] = node.name
    for node in graph_def.node:
        for index, reference in enumerate(node.input):
            if not reference.startswith("^"):
                node.input[index] = replaced.get(tensor_of(reference), reference)
    for tensor, name in replaced.items():
        node = next(node for node in graph_def.node if node.name == name)
        node.input.append(tensor)
    return Flat(graph_def, flat.inputs, flat.outputs, flat.initializers)


def _is_behind_heavy(operation: tf.Operation) -> bool:
    """Whether a convolution or matrix product leads to it that could be OpenVINO's."""
    graph = operation.graph

    def before(name: str) -> list[str]:
        return [tensor.op.name for tensor in graph.get_operation_by_name(name).inputs]

    operations = [graph.get_operation_by_name(name) for name in reached([operation.name], before)]
    return any(o.type in counting.HEAVY and o.outputs[0].dtype.base_dtype in FLOATS for o in operations)


_WORD_BY_WORD = frozenset({
    "Add", "AddV2", "Sub", "Mul", "Maximum", "Minimum", "Less", "LessEqual", "Greater", "GreaterEqual",
    "Equal", "NotEqual", "SelectV2", "Cast", "Identity", "LogicalNot", "LogicalAnd", "LogicalOr", "FloorMod",
    "LookupTableFindV2", "PlaceholderWithDefault", "StringToHashBucketFast", "AsString",
})  # fmt: skip
"""Operations whose result has the shape of what they are given, where all but one of that are single
values."""


def _measured_elsewhere(flat: Flat, graph: tf.Graph) -> Flat:
    """Let the shape of whole numbers or texts be taken of the vectors that are looked up with them.

    Networks of words often reshape by the shape of their word numbers. Those are TensorFlow's, and the
    vectors are what the body is given; the first sizes of both are the same.
    """
    sources = {}
    for operation in graph.get_operations():
        if operation.type == "Shape" and not operation.control_inputs:
            measured = operation.inputs[0]
            if measured.dtype.base_dtype not in FLOATS and measured.shape.rank:
                vectors = _looked_up_with(measured)
                if vectors is not None and not _waits_for(vectors.op, operation):
                    sources[operation.name] = (vectors, measured.shape.rank)
    if not sources:
        return flat
    graph_def = GraphDef()
    graph_def.CopyFrom(flat.graph_def)
    for node in list(graph_def.node):
        if node.name not in sources:
            continue
        vectors, rank = sources[node.name]
        dtype = node.attr["out_type"].type or tf.int32.as_datatype_enum
        whole = graph_def.node.add(name=f"{node.name}/whole", op="Shape")
        whole.input.append(vectors.name)
        whole.attr["T"].type = vectors.dtype.base_dtype.as_datatype_enum
        whole.attr["out_type"].type = dtype
        parts = []
        for stem, value in (("begin", 0), ("size", rank)):
            constant = graph_def.node.add(name=f"{node.name}/{stem}", op="Const")
            constant.attr["dtype"].type = tf.int32.as_datatype_enum
            constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto([value], tf.int32))
            parts.append(constant.name)
        node.op = "Slice"
        del node.input[:]
        node.input.extend([whole.name, *parts])
        node.attr.clear()
        node.attr["T"].type, node.attr["Index"].type = dtype, tf.int32.as_datatype_enum
    return Flat(graph_def, flat.inputs, flat.outputs, flat.initializers)


def _looked_up_with(tensor: tf.Tensor) -> tf.Tensor | None:
    """A float tensor whose first sizes are those of `tensor`, made by looking up with it; None if there is
    none.
    """
    waiting, seen = [tensor], {tensor.name}
    while waiting:
        current = waiting.pop(0)
        for user in current.consumers():
            if user.type == "GatherV2" and user.inputs[1].name == current.name and _is_plain_look_up(user):
                return user.outputs[0]
            if user.type not in _WORD_BY_WORD or user.outputs[0].name in seen:
                continue
            same = all(t.name in seen or t.shape.rank == 0 for t in user.inputs if t.dtype != tf.resource)
            if same:
                seen.add(user.outputs[0].name)
                waiting.append(user.outputs[0])
                if user.outputs[0].dtype.base_dtype in FLOATS:
                    return user.outputs[0]
    return None


def _waits_for(operation: tf.Operation, other: tf.Operation) -> bool:
    """Whether `other` is executed first, as an assertion may need it."""
    graph = operation.graph

    def before(name: str) -> list[str]:
        current = graph.get_operation_by_name(name)
        return [o.name for o in (*(t.op for t in current.inputs), *current.control_inputs)]

    return other.name in reached([operation.name], before)


def _is_plain_look_up(gather: tf.Operation) -> bool:
    axis = gather.inputs[2].op
    return (
        gather.outputs[0].dtype.base_dtype in FLOATS
        and not gather.get_attr("batch_dims")
        and axis.type == "Const"
        and int(tf.make_ndarray(axis.get_attr("value"))) == 0
    )
