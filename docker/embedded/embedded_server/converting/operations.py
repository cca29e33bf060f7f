"""The operations that OpenVINO is proven to compute as TensorFlow does.

What is not here, TensorFlow executes. Each entry is compared with TensorFlow by
tests/embedded/test_operators.py, for the types that it names, over random and extreme numbers. Float
operations are equal within the limit of f32 for finite numbers; an operation that can make an infinity or NaN
from such numbers is only proven where its operands are known to be in range (`facts.Interval`). Whole numbers
are proven where they are made of shapes and constants alone: OpenVINO computes int64 in 32 bits, and divides
whole numbers as floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import tensorflow as tf

from embedded_server.converting import network_rules, rules
from embedded_server.converting.facts import FLOATS, Depends, Facts


@dataclass(frozen=True)
class Proven:
    """How far one operation is proven."""

    types: frozenset[tf.DType]
    """Of its outputs, where they are data."""
    rule: rules.Rule
    shapes: bool = False
    """Whether it is also proven for whole numbers that are made of shapes and constants."""


def why_not(operation: tf.Operation, facts: Facts) -> str | None:
    """Why TensorFlow has to execute the operation, as a clause; None if OpenVINO may."""
    known = PROVEN.get(operation.type)
    if known is None:
        return "it is not among the operations that are proven"
    used = [tensor for tensor in operation.outputs if tensor.consumers()] or operation.outputs[:1]
    if any(tensor.shape.rank is None for tensor in (*operation.inputs, *used)):
        return "the rank of its tensors is not known"
    of_shapes = all(facts.depends(tensor) <= Depends.SHAPES for tensor in used)
    for tensor in used:
        dtype = tensor.dtype.base_dtype
        if dtype in known.types or (known.shapes and of_shapes and dtype in rules.WHOLE | {tf.bool}):
            continue
        return f"it is not proven for {dtype.name}" + (
            " from data" if known.shapes and dtype in rules.WHOLE else ""
        )
    return known.rule(operation, facts)


_BY_SIZE = frozenset({
    "AddN", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "BatchToSpaceND", "BroadcastTo",
    "Conv2DBackpropInput", "Conv3DBackpropInputV2", "Einsum", "Fill", "MatMul", "Reshape", "ResizeBilinear",
    "ResizeNearestNeighbor", "Select", "SelectV2", "Slice", "SpaceToBatchND", "SpaceToDepth", "SplitV",
    "Split", "StridedSlice", "Tile", "ConcatV2", "Pack",
})  # fmt: skip
"""Operations that can fail, or leave nothing, by sizes that are open."""
_BY_ROWS = frozenset({"BatchToSpaceND", "ReverseV2", "Slice", "SpaceToBatchND", "Split", "SplitV", "Tile"})


def depends_on_sizes(operation: tf.Operation, facts: Facts) -> bool:
    """Whether what the operation does depends on sizes that a request decides, other than one row more or
    less."""
    if operation.type in ("FloorDiv", "FloorMod") or (
        operation.type == "Sub" and operation.outputs[0].dtype.base_dtype in rules.WHOLE
    ):
        return True
    shapes = [
        t.shape.as_list() for t in (*operation.inputs, operation.outputs[0]) if t.dtype.base_dtype in FLOATS
    ]
    if (operation.type in _BY_SIZE or _is_valid_window(operation)) and any(None in s[1:] for s in shapes):
        return True
    if not any(shape and shape[0] is None for shape in shapes):
        return False
    if operation.type == "StridedSlice":
        return not (operation.get_attr("begin_mask") & operation.get_attr("end_mask") & 1)
    if operation.type == "ConcatV2":
        axis = facts.value(operation.inputs[-1])
        return axis is None or int(axis) in (0, -len(shapes[0]))
    return operation.type in _BY_ROWS


def _is_valid_window(operation: tf.Operation) -> bool:
    """Whether a window goes over its input without padding, and may find less than it needs."""
    return "padding" in operation.node_def.attr and operation.get_attr("padding") == b"VALID"


_F = frozenset(FLOATS)
_F32 = frozenset({tf.float32})
_FB = _F | {tf.bool}
_NONE: frozenset[tf.DType] = frozenset()


def _each(
    types: frozenset[tf.DType], rule: rules.Rule, *names: str, shapes: bool = False
) -> dict[str, Proven]:
    return dict.fromkeys(names, Proven(types, rule, shapes))


PROVEN: Mapping[str, Proven] = {
    # Functions of one number that are finite for finite numbers.
    **_each(
        _F, rules.always,
        "Abs", "Elu", "Erfc", "LeakyRelu", "Neg", "Relu", "Relu6", "Selu", "Sigmoid", "Softsign",
        "Square", "Tanh", "Softmax",
    ),
    **_each(_F, rules.added_to_a_constant, "Erf"),
    **_each(_F, rules.in_mish, "Softplus"),
    **_each(_F, rules.least(0.0), "Sqrt"),
    **_each(_F, rules.least(rules.SMALLEST_ROOT), "Rsqrt"),
    **_each(_F, rules.least(rules.SMALLEST_LOGARITHM), "Log"),
    **_each(_F, rules.most(rules.LARGEST_EXPONENT), "Exp"),
    **_each(_F, rules.reciprocal, "Reciprocal", "Inv"),
    # Arithmetic.
    **_each(_F, rules.always, "Add", "AddV2", "Sub", "Mul", "Maximum", "Minimum", shapes=True),
    **_each(_F, rules.always, "SquaredDifference"),
    **_each(frozenset({tf.bool}), rules.always, "LogicalAnd", "LogicalNot", "LogicalOr"),
    **_each(_F, rules.always, "SelectV2"),
    **_each(_F, rules.same_shapes, "Select"),
    **_each(_F, rules.same_shapes, "AddN"),
    **_each(_F, network_rules.bias, "BiasAdd"),
    **_each(_F, rules.division, "RealDiv", "Div"),
    **_each(_F, rules.power, "Pow"),
    # Convolutions and matrix products.
    **_each(_F, network_rules.convolution, "Conv2D", "DepthwiseConv2dNative", "Conv3D"),
    **_each(_F, network_rules.transposed_convolution, "Conv2DBackpropInput", "Conv3DBackpropInputV2"),
    **_each(_F, network_rules.product, "MatMul", "BatchMatMul", "BatchMatMulV2"),
    **_each(_F32, network_rules.product, "BatchMatMulV3"),
    **_each(_F, network_rules.einsum, "Einsum"),
    **_each(_F, network_rules.normalization, "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"),
    # Pooling and reductions.
    **_each(_F, network_rules.pooling, "AvgPool", "MaxPool"),
    **_each(_F32, network_rules.pooling, "AvgPool3D", "MaxPool3D"),
    **_each(_F, rules.reduction, "Max", "Min"),
    # TensorFlow rounds each partial sum to half, and OpenVINO none.
    **_each(_F32, rules.reduction, "Mean", "Sum"),
    **_each(_NONE, rules.reduction, "Prod", shapes=True),
    **_each(frozenset({tf.bool}), rules.reduction, "All", "Any"),
    **_each(_F | {tf.int32, tf.int64}, rules.arg, "ArgMax"),
    **_each(_F | {tf.int32}, rules.top, "TopKV2"),
    # Moving numbers about.
    **_each(_FB, rules.always, "Identity", shapes=True),
    **_each(_FB, rules.reshape, "Reshape", shapes=True),
    **_each(_FB, rules.always, "Pack", shapes=True),
    **_each(_FB, rules.squeeze, "Squeeze", shapes=True),
    **_each(_FB, rules.constant(1), "ExpandDims", "Transpose", shapes=True),
    **_each(_FB, rules.constant(-1), "ConcatV2", shapes=True),
    **_each(_F, rules.constant(0), "Split"),
    **_each(_F, rules.constant(1, 2), "SplitV"),
    **_each(_F, rules.always, "Unpack"),
    # Of data, OpenVINO may take no rows where all of them are meant.
    **_each(_NONE, rules.whole_slice, "Slice", shapes=True),
    **_each(_FB, rules.strided_slice, "StridedSlice", shapes=True),
    **_each(_F, rules.constant(1), "Pad"),
    **_each(_F, rules.constant(1, 2), "PadV2"),
    **_each(_F, rules.mirror, "MirrorPad"),
    **_each(_F, rules.settled(1), "BroadcastTo"),
    **_each(_F, rules.gather, "Gather", "GatherV2", shapes=True),
    **_each(_F, rules.always, "DepthToSpace", "SpaceToDepth"),
    **_each(_F, rules.constant(1, 2), "BatchToSpaceND", "SpaceToBatchND"),
    **_each(_F, rules.one_axis, "ReverseV2"),
    **_each(_F32, rules.constant(1), "Cumsum"),
    **_each(_F, rules.resize, "ResizeBilinear"),
    **_each(_F, rules.resize_to_nearest, "ResizeNearestNeighbor"),
    **_each(_F, rules.cast, "Cast", shapes=True),
    **_each(_FB, rules.settled(0, 1), "Fill"),
    **_each(_F, rules.constant(1, 2), "Roll"),
    **_each(_F, rules.triangle, "MatrixBandPart"),
    **_each(_F, rules.always, "ZerosLike", "OnesLike"),
    # Shapes.
    **_each(_NONE, rules.shape_of, "Shape", "Size", "Rank", shapes=True),
    **_each(_NONE, rules.whole_division, "FloorDiv", "FloorMod", shapes=True),
}  # fmt: skip
