"""The operations that OpenVINO is proven to compute as TensorFlow does.

What is not here, TensorFlow executes. Each entry is compared with TensorFlow by
tests/embedded/test_operators.py, for the types that it names, over random and extreme numbers. Float
operations are equal within the limit of f32 for finite numbers; an operation that can make an infinity or NaN
from such numbers is only proven where its operands are known to be in range (`facts.Interval`). Whole numbers
are proven where they are made of shapes and constants alone: OpenVINO computes int64 in 32 bits, and divides
whole numbers as floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from embedded_server.converting.facts import FLOATS, Depends, Facts

Rule = Callable[[tf.Operation, Facts], "str | None"]
"""Gives None if the operation may go into the body, or why not, as a clause."""

_WHOLE = frozenset({tf.int32, tf.int64})
_SMALL_WHOLE = frozenset({tf.uint8, tf.int8, tf.int16, tf.uint16, tf.int32})
_LARGEST_EXPONENT = 80.0
"""exp(80) is 5.5e34: finite, with room to be summed up."""
_SMALLEST_DIVISOR = 1e-6
_SMALLEST_LOGARITHM = 1e-3
_SMALLEST_ROOT = 1e-13
"""Below these, what is lost to rounding before becomes large: log(x * x + 1e-10) for an x of about 0."""


@dataclass(frozen=True)
class Proven:
    """How far one operation is proven."""

    types: frozenset[tf.DType]
    """Of its outputs, where they are data."""
    rule: Rule
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
        if dtype in known.types or (known.shapes and of_shapes and dtype in _WHOLE | {tf.bool}):
            continue
        return f"it is not proven for {dtype.name}" + (
            " from data" if known.shapes and dtype in _WHOLE else ""
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
        operation.type == "Sub" and operation.outputs[0].dtype.base_dtype in _WHOLE
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


def _always(operation: tf.Operation, facts: Facts) -> str | None:
    return None


def _settled(*positions: int) -> Rule:
    """The inputs at these positions, which say how and not what, must not depend on data."""

    def rule(operation: tf.Operation, facts: Facts) -> str | None:
        for position in positions:
            if facts.depends(operation.inputs[position]) is Depends.DATA:
                return "how it works depends on data"
        return None

    return rule


def _constant(*positions: int) -> Rule:
    """The inputs at these positions must be constants."""

    def rule(operation: tf.Operation, facts: Facts) -> str | None:
        for position in positions:
            if facts.value(operation.inputs[position]) is None:
                return "how it works is not known before a request comes"
        return None

    return rule


def _all(*rules: Rule) -> Rule:
    def rule(operation: tf.Operation, facts: Facts) -> str | None:
        return next((reason for one in rules if (reason := one(operation, facts)) is not None), None)

    return rule


def _from_data(operation: tf.Operation, facts: Facts) -> str | None:
    """OpenVINO adds to the memory of a convolution whose input is a constant, once shapes are known."""
    if facts.depends(operation.inputs[0]) is not Depends.DATA:
        return "its input does not depend on data"
    return None


def _convolution(operation: tf.Operation, facts: Facts) -> str | None:
    image, kernel = operation.inputs[:2]
    if facts.depends(image) is not Depends.DATA:
        return "its input does not depend on data"
    if facts.value(kernel) is None:
        return "its kernel is no constant"
    if not operation.get_attr("data_format").decode().endswith("C"):
        return "its channels come first"
    if image.shape[-1] is None:
        return "the number of its channels is open"
    is_grouped = operation.type == "Conv2D" and image.shape[-1] != kernel.shape[-2]
    if is_grouped and any(step != 1 for step in operation.get_attr("dilations")):
        return "it has groups and dilations"
    return _large_enough(operation, image.shape[1:-1].as_list(), kernel.shape.as_list()[:-2])


def _pooling(operation: tf.Operation, facts: Facts) -> str | None:
    if facts.depends(operation.inputs[0]) is not Depends.DATA:
        return "its input does not depend on data"
    if not operation.get_attr("data_format").decode().endswith("C"):
        return "its channels come first"
    sizes = list(operation.get_attr("ksize"))
    strides = list(operation.get_attr("strides"))
    if sizes[0] != 1 or sizes[-1] != 1 or strides[0] != 1 or strides[-1] != 1:
        return "it goes over rows or channels"
    return _large_enough(operation, operation.inputs[0].shape[1:-1].as_list(), sizes[1:-1])


def _large_enough(
    operation: tf.Operation, sizes: Iterable[int | None], window: Iterable[int | None]
) -> str | None:
    """Without padding, TensorFlow refuses an image that is smaller than the window."""
    if operation.get_attr("padding") != b"VALID":
        return None
    dilations = list(operation.get_attr("dilations"))[1:-1] if "dilations" in operation.node_def.attr else []
    for position, (size, extent) in enumerate(zip(sizes, window, strict=True)):
        dilation = dilations[position] if dilations else 1
        if extent is None:
            return "its window is open"
        if size is not None and size < (extent - 1) * dilation + 1:
            return "its image is smaller than its window"
    return None


def _transposed_convolution(operation: tf.Operation, facts: Facts) -> str | None:
    sizes, kernel, image = operation.inputs
    if facts.depends(image) is not Depends.DATA:
        return "its input does not depend on data"
    if facts.depends(sizes) is Depends.DATA or facts.value(kernel) is None:
        return "how it works depends on data"
    if not operation.get_attr("data_format").decode().endswith("C"):
        return "its channels come first"
    return _fitting_sizes(sizes, image, facts)


def _fitting_sizes(sizes: tf.Tensor, image: tf.Tensor, facts: Facts) -> str | None:
    """TensorFlow refuses sizes that do not belong to the image, where OpenVINO answers."""
    open_at = [position for position, size in enumerate(image.shape.as_list()[:-1]) if size is None]
    if not open_at:
        return None
    if sizes.op.type != "Pack":
        return "its size is not known to fit its input"
    parts = list(sizes.op.inputs)
    if any(facts.value(parts[position]) is not None for position in open_at):
        return "its size is fixed, and that of its input is open"
    return None


def _product(operation: tf.Operation, facts: Facts) -> str | None:
    """The sizes that are summed over must be known to be the same: OpenVINO repeats a size of 1."""
    a, b = operation.inputs
    if all(facts.depends(tensor) is not Depends.DATA for tensor in (a, b)):
        return "its input does not depend on data"
    names = ("transpose_a", "transpose_b") if operation.type == "MatMul" else ("adj_x", "adj_y")
    first, second = (bool(operation.get_attr(name)) for name in names)
    over_a, over_b = a.shape[-2 if first else -1], b.shape[-1 if second else -2]
    if over_a is None or over_b is None:
        return None if _same_open_size(a, b, facts) else "the size that it sums over is open"
    if operation.type != "BatchMatMul":
        return None
    batches = a.shape[:-2].as_list(), b.shape[:-2].as_list()
    if batches[0] != batches[1]:
        return "the sizes of its batches are not known to be the same"
    return None


def _same_open_size(a: tf.Tensor, b: tf.Tensor, facts: Facts) -> bool:
    """Whether open sizes of both come from the same place, as in attention.

    Tensors that the body is given must have the same sizes if both are open
    (artefact.Program.same_sizes). So with one open size each, besides the number of rows and at the same
    place, theirs are the same.
    """
    if facts.sources(a) == facts.sources(b):
        return bool(facts.sources(a))
    places = set()
    for source in facts.sources(a) | facts.sources(b):
        shape = source.deref().shape
        if shape.rank is None:
            return False
        found = [position for position, size in enumerate(shape.as_list()) if size is None and position]
        if len(found) > 1:
            return False
        places.update(found)
    return len(places) == 1


def _einsum(operation: tf.Operation, facts: Facts) -> str | None:
    equation = operation.get_attr("equation").decode().replace(" ", "")
    given, _, result = equation.partition("->")
    terms = given.split(",")
    if len(terms) != 2 or "." in equation or any(len(set(term)) != len(term) for term in (*terms, result)):
        return f"the form {equation} is not proven"
    if all(facts.depends(tensor) is not Depends.DATA for tensor in operation.inputs):
        return "its input does not depend on data"
    sizes: dict[str, set[int | None]] = {}
    for term, tensor in zip(terms, operation.inputs, strict=True):
        for position, (label, size) in enumerate(zip(term, tensor.shape.as_list(), strict=True)):
            sizes.setdefault(label, set()).add(-1 if size is None and position == 0 else size)
    first, second = operation.inputs
    for label in set(terms[0]) & set(terms[1]):
        if len(sizes[label]) > 1:
            return f"the sizes of {label!r} in {equation} are not known to be the same"
        if sizes[label] == {None} and not _same_open_size(first, second, facts):
            return f"the size of {label!r} in {equation} is open"
    return None


def _normalization(operation: tf.Operation, facts: Facts) -> str | None:
    if operation.get_attr("is_training"):
        return "it computes statistics"
    if not operation.get_attr("data_format").decode().endswith("C"):
        return "its channels come first"
    values = [facts.value(tensor) for tensor in operation.inputs[1:5]]
    if any(value is None for value in values):
        return "its statistics are no constants"
    variance = values[3]
    assert variance is not None
    if not all(np.isfinite(np.asarray(value, np.float64)).all() for value in values):
        return "its statistics are not finite"
    if float(np.asarray(variance, np.float64).min()) + operation.get_attr("epsilon") <= 0:
        return "it divides by zero"
    return None


def _bias(operation: tf.Operation, facts: Facts) -> str | None:
    values, bias = operation.inputs
    if not operation.get_attr("data_format").decode().endswith("C"):
        return "its channels come first"
    if values.shape[-1] is None or values.shape[-1] != bias.shape[0]:
        return "its number of channels is open"
    return None


def _same_shapes(operation: tf.Operation, facts: Facts) -> str | None:
    """TensorFlow refuses other shapes, where OpenVINO repeats a size of 1."""
    shapes = [tensor.shape.as_list() for tensor in operation.inputs]
    if any(shape != shapes[0] for shape in shapes):
        return "the shapes of its inputs are not known to be the same"
    return None


def _least(limit: float) -> Rule:
    def rule(operation: tf.Operation, facts: Facts) -> str | None:
        low = facts.interval(operation.inputs[0]).low
        return None if low >= limit else f"its numbers are not known to be {limit:g} or more"

    return rule


def _most(limit: float) -> Rule:
    def rule(operation: tf.Operation, facts: Facts) -> str | None:
        high = facts.interval(operation.inputs[0]).high
        return None if high <= limit else f"its numbers are not known to be {limit:g} or less"

    return rule


def _division(operation: tf.Operation, facts: Facts) -> str | None:
    if operation.inputs[1].dtype.base_dtype not in FLOATS:
        return "it divides whole numbers"
    under = facts.interval(operation.inputs[1])
    if under.low >= _SMALLEST_DIVISOR or under.high <= -_SMALLEST_DIVISOR:
        return None
    return "it may divide by zero"


def _reciprocal(operation: tf.Operation, facts: Facts) -> str | None:
    under = facts.interval(operation.inputs[0])
    if under.low >= _SMALLEST_DIVISOR or under.high <= -_SMALLEST_DIVISOR:
        return None
    return "it may divide by zero"


def _added_to_a_constant(operation: tf.Operation, facts: Facts) -> str | None:
    """As in gelu, 1 + erf(x): OpenVINO's error is 4e-7, however small the result is."""
    for user in operation.outputs[0].consumers():
        others = [facts.value(tensor) for tensor in user.inputs if tensor is not operation.outputs[0]]
        constant = others[0] if user.type in ("Add", "AddV2") and others else None
        if constant is None or np.abs(constant).min() < 0.5:
            return "small results of it are not exact enough"
    return None


def _in_mish(operation: tf.Operation, facts: Facts) -> str | None:
    """x * tanh(softplus(x)), which OpenVINO computes as a whole. Softplus alone is off by 1e-6, more than
    itself for numbers below -14."""
    for user in operation.outputs[0].consumers():
        products = user.outputs[0].consumers() if user.type == "Tanh" else ()
        if not any(p.type == "Mul" and operation.inputs[0] in p.inputs for p in products):
            return "small results of it are not exact enough"
    return None


def _power(operation: tf.Operation, facts: Facts) -> str | None:
    exponent = facts.value(operation.inputs[1])
    if exponent is None or exponent.ndim or exponent.dtype.kind == "i":
        return "its exponent is no constant"
    if float(exponent) in (1.0, 2.0, 3.0):
        return None
    if float(exponent) == 0.5 and facts.interval(operation.inputs[0]).low >= 0:
        return None
    return f"the exponent {float(exponent):g} is not proven"


def _gather(operation: tf.Operation, facts: Facts) -> str | None:
    """A constant place that is there: out of range OpenVINO gives zeros where TensorFlow fails."""
    indices, axis = facts.value(operation.inputs[1]), 0
    if indices is None:
        return "which elements it takes depends on the request"
    if operation.type == "GatherV2":
        given = facts.value(operation.inputs[2])
        if given is None or operation.get_attr("batch_dims"):
            return "its axis is not known"
        axis = int(given)
    size = operation.inputs[0].shape[axis]
    if size is None or not indices.size or indices.min() < 0 or indices.max() >= size:
        return "the elements that it takes may not be there"
    return None


def _strided_slice(operation: tf.Operation, facts: Facts) -> str | None:
    """A single element must be there; ranges are cut to what is there by both."""
    if any(facts.depends(tensor) is Depends.DATA for tensor in operation.inputs[1:]):
        return "what it takes depends on data"
    shrunk = operation.get_attr("shrink_axis_mask")
    begin, strides = facts.value(operation.inputs[1]), facts.value(operation.inputs[3])
    if strides is None:
        return "its steps are not known before a request comes"
    if not shrunk:
        return None
    if begin is None or operation.get_attr("ellipsis_mask") or operation.get_attr("new_axis_mask"):
        return "the element that it takes may not be there"
    sizes = operation.inputs[0].shape.as_list()
    for axis in range(len(begin)):
        if not shrunk >> axis & 1:
            continue
        place, size = int(begin[axis]), sizes[axis]
        if size is None:
            if place not in (0, -1):
                return "the element that it takes may not be there"
        elif not -size <= place < size:
            return "the element that it takes is not there"
    return None


def _slice(operation: tf.Operation, facts: Facts) -> str | None:
    begin, sizes = (facts.value(tensor) for tensor in operation.inputs[1:])
    if begin is None or sizes is None:
        return "what it takes is not known before a request comes"
    for start, count, size in zip(begin, sizes, operation.inputs[0].shape.as_list(), strict=True):
        if start == 0 and count == -1 and size is not None:
            continue
        if size is None or start < 0 or start > size or (count != -1 and start + count > size):
            return "what it takes may not be there"
    return None


def _reshape(operation: tf.Operation, facts: Facts) -> str | None:
    if facts.depends(operation.inputs[1]) is Depends.DATA:
        return "its shape depends on data"
    shape = facts.value(operation.inputs[1])
    if shape is not None and (shape == 0).any():
        return "its shape has a 0"
    return None


def _reduction(operation: tf.Operation, facts: Facts) -> str | None:
    axes = facts.value(operation.inputs[1])
    if axes is None or not axes.size:
        return "its axes are not known before a request comes"
    return None


def _one_axis(operation: tf.Operation, facts: Facts) -> str | None:
    axes = facts.value(operation.inputs[1])
    return None if axes is not None and axes.size == 1 else "it is proven for one axis only"


def _squeeze(operation: tf.Operation, facts: Facts) -> str | None:
    """Without axes, its rank follows from sizes."""
    if operation.get_attr("squeeze_dims") or operation.inputs[0].shape.is_fully_defined():
        return None
    return "its rank is not known before a request comes"


def _triangle(operation: tf.Operation, facts: Facts) -> str | None:
    """As in a causal mask; TensorFlow refuses more than there is."""
    kept = [facts.value(tensor) for tensor in operation.inputs[1:]]
    if any(value is None or int(value) not in (-1, 0) for value in kept):
        return "it is proven for triangles only"
    return None


def _top(operation: tf.Operation, facts: Facts) -> str | None:
    if operation.inputs[0].dtype.base_dtype not in FLOATS:
        return "it is proven for floats only"
    if not operation.get_attr("sorted"):
        return "it is proven for sorted results only"
    count, size = facts.value(operation.inputs[1]), operation.inputs[0].shape[-1]
    if count is None or size is None or not 1 <= int(count) <= size:
        return "it may take more than there is"
    return None


def _arg(operation: tf.Operation, facts: Facts) -> str | None:
    if facts.value(operation.inputs[1]) is None:
        return "its axis is not known before a request comes"
    if operation.inputs[0].dtype.base_dtype not in FLOATS:
        return "it is proven for floats only"
    return None


def _cast(operation: tf.Operation, facts: Facts) -> str | None:
    """Between floats, to floats from small whole numbers and truth values, and of shapes."""
    source, target = operation.inputs[0].dtype.base_dtype, operation.outputs[0].dtype.base_dtype
    if target in FLOATS:
        if (
            source in FLOATS
            or source in (tf.bool, tf.uint8, tf.int8)
            or (source in _SMALL_WHOLE and target == tf.float32)
        ):
            return None
        if source in _WHOLE and facts.depends(operation.inputs[0]) <= Depends.SHAPES:
            return None
        return f"it is not proven from {source.name} to {target.name}"
    if source in _WHOLE and facts.depends(operation.inputs[0]) <= Depends.SHAPES:
        return None
    return f"it is not proven from {source.name} to {target.name}"


def _resize(operation: tf.Operation, facts: Facts) -> str | None:
    if facts.depends(operation.inputs[1]) is Depends.DATA:
        return "its size depends on data"
    return None


def _resize_to_nearest(operation: tf.Operation, facts: Facts) -> str | None:
    """Which pixel is nearest is rounded in another way, but for whole multiples."""
    sizes = operation.inputs[1]
    before, after = operation.inputs[0].shape.as_list()[1:3], facts.value(sizes)
    if after is not None and None not in before:
        factors = [int(size) / old for size, old in zip(after, before, strict=True)]
    elif sizes.op.type == "Mul" and any(facts.value(tensor) is not None for tensor in sizes.op.inputs):
        factors = next(v for t in sizes.op.inputs if (v := facts.value(t)) is not None).ravel().tolist()
    else:
        return "it is proven for whole multiples of the size only"
    exact = (1, 2, 4, 8, 16) if not operation.get_attr("half_pixel_centers") else range(1, 17)
    if operation.get_attr("align_corners") or any(factor not in exact for factor in factors):
        return "it is proven for whole multiples of the size only"
    return None


def _mirror(operation: tf.Operation, facts: Facts) -> str | None:
    pads = facts.value(operation.inputs[1])
    if pads is None:
        return "its padding is not known before a request comes"
    less = 1 if operation.get_attr("mode") == b"REFLECT" else 0
    for (before, after), size in zip(pads.tolist(), operation.inputs[0].shape.as_list(), strict=True):
        if (before or after) and (size is None or max(before, after) > size - less):
            return "its padding may be larger than its input"
    return None


def _whole_division(operation: tf.Operation, facts: Facts) -> str | None:
    divisor = facts.value(operation.inputs[1])
    if divisor is None or (divisor == 0).any():
        return "it may divide by zero"
    return None


def _shape_of(operation: tf.Operation, facts: Facts) -> str | None:
    """Others would have to be handed to OpenVINO for their shape alone."""
    if operation.inputs[0].dtype.base_dtype not in FLOATS:
        return "it is proven for the shapes of floats only"
    return None


_F = frozenset(FLOATS)
_F32 = frozenset({tf.float32})
_FB = _F | {tf.bool}
_NONE: frozenset[tf.DType] = frozenset()


def _each(types: frozenset[tf.DType], rule: Rule, *names: str, shapes: bool = False) -> dict[str, Proven]:
    return dict.fromkeys(names, Proven(types, rule, shapes))


PROVEN: Mapping[str, Proven] = {
    # Functions of one number that are finite for finite numbers.
    **_each(
        _F, _always,
        "Abs", "Elu", "Erfc", "LeakyRelu", "Neg", "Relu", "Relu6", "Selu", "Sigmoid", "Softsign",
        "Square", "Tanh", "Softmax",
    ),
    **_each(_F, _added_to_a_constant, "Erf"),
    **_each(_F, _in_mish, "Softplus"),
    **_each(_F, _least(0.0), "Sqrt"),
    **_each(_F, _least(_SMALLEST_ROOT), "Rsqrt"),
    **_each(_F, _least(_SMALLEST_LOGARITHM), "Log"),
    **_each(_F, _most(_LARGEST_EXPONENT), "Exp"),
    **_each(_F, _reciprocal, "Reciprocal", "Inv"),
    # Arithmetic.
    **_each(_F, _always, "Add", "AddV2", "Sub", "Mul", "Maximum", "Minimum", shapes=True),
    **_each(_F, _always, "SquaredDifference"),
    **_each(frozenset({tf.bool}), _always, "LogicalAnd", "LogicalNot", "LogicalOr"),
    **_each(_F, _always, "SelectV2"),
    **_each(_F, _same_shapes, "Select"),
    **_each(_F, _same_shapes, "AddN"),
    **_each(_F, _bias, "BiasAdd"),
    **_each(_F, _division, "RealDiv", "Div"),
    **_each(_F, _power, "Pow"),
    # Convolutions and matrix products.
    **_each(_F, _convolution, "Conv2D", "DepthwiseConv2dNative", "Conv3D"),
    **_each(_F, _transposed_convolution, "Conv2DBackpropInput", "Conv3DBackpropInputV2"),
    **_each(_F, _product, "MatMul", "BatchMatMul", "BatchMatMulV2"),
    **_each(_F32, _product, "BatchMatMulV3"),
    **_each(_F, _einsum, "Einsum"),
    **_each(_F, _normalization, "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"),
    # Pooling and reductions.
    **_each(_F, _pooling, "AvgPool", "MaxPool"),
    **_each(_F32, _pooling, "AvgPool3D", "MaxPool3D"),
    **_each(_F, _reduction, "Max", "Min"),
    # TensorFlow rounds each partial sum to half, and OpenVINO none.
    **_each(_F32, _reduction, "Mean", "Sum"),
    **_each(_NONE, _reduction, "Prod", shapes=True),
    **_each(frozenset({tf.bool}), _reduction, "All", "Any"),
    **_each(_F | {tf.int32, tf.int64}, _arg, "ArgMax"),
    **_each(_F | {tf.int32}, _top, "TopKV2"),
    # Moving numbers about.
    **_each(_FB, _always, "Identity", shapes=True),
    **_each(_FB, _reshape, "Reshape", shapes=True),
    **_each(_FB, _always, "Pack", shapes=True),
    **_each(_FB, _squeeze, "Squeeze", shapes=True),
    **_each(_FB, _constant(1), "ExpandDims", "Transpose", shapes=True),
    **_each(_FB, _constant(-1), "ConcatV2", shapes=True),
    **_each(_F, _constant(0), "Split"),
    **_each(_F, _constant(1, 2), "SplitV"),
    **_each(_F, _always, "Unpack"),
    # Of data, OpenVINO may take no rows where all of them are meant.
    **_each(_NONE, _slice, "Slice", shapes=True),
    **_each(_FB, _strided_slice, "StridedSlice", shapes=True),
    **_each(_F, _constant(1), "Pad"),
    **_each(_F, _constant(1, 2), "PadV2"),
    **_each(_F, _mirror, "MirrorPad"),
    **_each(_F, _settled(1), "BroadcastTo"),
    **_each(_F, _gather, "Gather", "GatherV2", shapes=True),
    **_each(_F, _always, "DepthToSpace", "SpaceToDepth"),
    **_each(_F, _constant(1, 2), "BatchToSpaceND", "SpaceToBatchND"),
    **_each(_F, _one_axis, "ReverseV2"),
    **_each(_F32, _constant(1), "Cumsum"),
    **_each(_F, _resize, "ResizeBilinear"),
    **_each(_F, _resize_to_nearest, "ResizeNearestNeighbor"),
    **_each(_F, _cast, "Cast", shapes=True),
    **_each(_FB, _settled(0, 1), "Fill"),
    **_each(_F, _constant(1, 2), "Roll"),
    **_each(_F, _triangle, "MatrixBandPart"),
    **_each(_F, _always, "ZerosLike", "OnesLike"),
    # Shapes.
    **_each(_NONE, _shape_of, "Shape", "Size", "Rank", shapes=True),
    **_each(_NONE, _whole_division, "FloorDiv", "FloorMod", shapes=True),
}  # fmt: skip
