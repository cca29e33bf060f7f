"""Under which conditions a proven operation may go into the body, by its attributes and operands.

A rule returns None, or a clause that says why not. `operations.PROVEN` names the rule of each operation.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from embedded_server.converting.facts import FLOATS, Depends, Facts

Rule = Callable[[tf.Operation, Facts], "str | None"]
"""Gives None if the operation may go into the body, or why not, as a clause."""

WHOLE = frozenset({tf.int32, tf.int64})
SMALL_WHOLE = frozenset({tf.uint8, tf.int8, tf.int16, tf.uint16, tf.int32})
LARGEST_EXPONENT = 80.0
"""exp(80) is 5.5e34: finite, with room to be summed up."""
SMALLEST_DIVISOR = 1e-6
SMALLEST_LOGARITHM = 1e-3
SMALLEST_ROOT = 1e-13
"""Below these, what is lost to rounding before becomes large: log(x * x + 1e-10) for an x of about 0."""


def always(operation: tf.Operation, facts: Facts) -> str | None:
    return None


def settled(*positions: int) -> Rule:
    """The inputs at these positions, which say how and not what, must not depend on data."""

    def rule(operation: tf.Operation, facts: Facts) -> str | None:
        for position in positions:
            if facts.depends(operation.inputs[position]) is Depends.DATA:
                return "how it works depends on data"
        return None

    return rule


def constant(*positions: int) -> Rule:
    """The inputs at these positions must be constants."""

    def rule(operation: tf.Operation, facts: Facts) -> str | None:
        for position in positions:
            if facts.value(operation.inputs[position]) is None:
                return "how it works is not known before a request comes"
        return None

    return rule


def all_of(*rules: Rule) -> Rule:
    def rule(operation: tf.Operation, facts: Facts) -> str | None:
        return next((reason for check in rules if (reason := check(operation, facts)) is not None), None)

    return rule


def from_data(operation: tf.Operation, facts: Facts) -> str | None:
    """OpenVINO adds to the memory of a convolution whose input is a constant, once shapes are known."""
    if facts.depends(operation.inputs[0]) is not Depends.DATA:
        return "its input does not depend on data"
    return None


def same_shapes(operation: tf.Operation, facts: Facts) -> str | None:
    """TensorFlow refuses other shapes, where OpenVINO repeats a size of 1."""
    shapes = [tensor.shape.as_list() for tensor in operation.inputs]
    if any(shape != shapes[0] for shape in shapes):
        return "the shapes of its inputs are not known to be the same"
    return None


def least(limit: float) -> Rule:
    def rule(operation: tf.Operation, facts: Facts) -> str | None:
        low = facts.interval(operation.inputs[0]).low
        return None if low >= limit else f"its numbers are not known to be {limit:g} or more"

    return rule


def most(limit: float) -> Rule:
    def rule(operation: tf.Operation, facts: Facts) -> str | None:
        high = facts.interval(operation.inputs[0]).high
        return None if high <= limit else f"its numbers are not known to be {limit:g} or less"

    return rule


def division(operation: tf.Operation, facts: Facts) -> str | None:
    if operation.inputs[1].dtype.base_dtype not in FLOATS:
        return "it divides whole numbers"
    under = facts.interval(operation.inputs[1])
    if under.low >= SMALLEST_DIVISOR or under.high <= -SMALLEST_DIVISOR:
        return None
    return "it may divide by zero"


def reciprocal(operation: tf.Operation, facts: Facts) -> str | None:
    under = facts.interval(operation.inputs[0])
    if under.low >= SMALLEST_DIVISOR or under.high <= -SMALLEST_DIVISOR:
        return None
    return "it may divide by zero"


def added_to_a_constant(operation: tf.Operation, facts: Facts) -> str | None:
    """As in gelu, 1 + erf(x): OpenVINO's error is 4e-7, however small the result is."""
    for user in operation.outputs[0].consumers():
        others = [facts.value(tensor) for tensor in user.inputs if tensor is not operation.outputs[0]]
        constant = others[0] if user.type in ("Add", "AddV2") and others else None
        if constant is None or np.abs(constant).min() < 0.5:
            return "small results of it are not exact enough"
    return None


def in_mish(operation: tf.Operation, facts: Facts) -> str | None:
    """x * tanh(softplus(x)), which OpenVINO computes as a whole. Softplus alone is off by 1e-6, more than
    itself for numbers below -14."""
    for user in operation.outputs[0].consumers():
        products = user.outputs[0].consumers() if user.type == "Tanh" else ()
        if not any(p.type == "Mul" and operation.inputs[0] in p.inputs for p in products):
            return "small results of it are not exact enough"
    return None


def power(operation: tf.Operation, facts: Facts) -> str | None:
    exponent = facts.value(operation.inputs[1])
    if exponent is None or exponent.ndim or exponent.dtype.kind == "i":
        return "its exponent is no constant"
    if float(exponent) in (1.0, 2.0, 3.0):
        return None
    if float(exponent) == 0.5 and facts.interval(operation.inputs[0]).low >= 0:
        return None
    return f"the exponent {float(exponent):g} is not proven"


def gather(operation: tf.Operation, facts: Facts) -> str | None:
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


def strided_slice(operation: tf.Operation, facts: Facts) -> str | None:
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


def whole_slice(operation: tf.Operation, facts: Facts) -> str | None:
    begin, sizes = (facts.value(tensor) for tensor in operation.inputs[1:])
    if begin is None or sizes is None:
        return "what it takes is not known before a request comes"
    for start, count, size in zip(begin, sizes, operation.inputs[0].shape.as_list(), strict=True):
        if start == 0 and count == -1 and size is not None:
            continue
        if size is None or start < 0 or start > size or (count != -1 and start + count > size):
            return "what it takes may not be there"
    return None


def reshape(operation: tf.Operation, facts: Facts) -> str | None:
    if facts.depends(operation.inputs[1]) is Depends.DATA:
        return "its shape depends on data"
    shape = facts.value(operation.inputs[1])
    if shape is not None and (shape == 0).any():
        return "its shape has a 0"
    return None


def reduction(operation: tf.Operation, facts: Facts) -> str | None:
    axes = facts.value(operation.inputs[1])
    if axes is None or not axes.size:
        return "its axes are not known before a request comes"
    return None


def one_axis(operation: tf.Operation, facts: Facts) -> str | None:
    axes = facts.value(operation.inputs[1])
    return None if axes is not None and axes.size == 1 else "it is proven for one axis only"


def squeeze(operation: tf.Operation, facts: Facts) -> str | None:
    """Without axes, its rank follows from sizes."""
    if operation.get_attr("squeeze_dims") or operation.inputs[0].shape.is_fully_defined():
        return None
    return "its rank is not known before a request comes"


def triangle(operation: tf.Operation, facts: Facts) -> str | None:
    """As in a causal mask; TensorFlow refuses more than there is."""
    kept = [facts.value(tensor) for tensor in operation.inputs[1:]]
    if any(value is None or int(value) not in (-1, 0) for value in kept):
        return "it is proven for triangles only"
    return None


def top(operation: tf.Operation, facts: Facts) -> str | None:
    if operation.inputs[0].dtype.base_dtype not in FLOATS:
        return "it is proven for floats only"
    if not operation.get_attr("sorted"):
        return "it is proven for sorted results only"
    count, size = facts.value(operation.inputs[1]), operation.inputs[0].shape[-1]
    if count is None or size is None or not 1 <= int(count) <= size:
        return "it may take more than there is"
    return None


def arg(operation: tf.Operation, facts: Facts) -> str | None:
    if facts.value(operation.inputs[1]) is None:
        return "its axis is not known before a request comes"
    if operation.inputs[0].dtype.base_dtype not in FLOATS:
        return "it is proven for floats only"
    return None


def cast(operation: tf.Operation, facts: Facts) -> str | None:
    """Between floats, to floats from small whole numbers and truth values, and of shapes."""
    source, target = operation.inputs[0].dtype.base_dtype, operation.outputs[0].dtype.base_dtype
    if target in FLOATS:
        if (
            source in FLOATS
            or source in (tf.bool, tf.uint8, tf.int8)
            or (source in SMALL_WHOLE and target == tf.float32)
        ):
            return None
        if source in WHOLE and facts.depends(operation.inputs[0]) <= Depends.SHAPES:
            return None
        return f"it is not proven from {source.name} to {target.name}"
    if source in WHOLE and facts.depends(operation.inputs[0]) <= Depends.SHAPES:
        return None
    return f"it is not proven from {source.name} to {target.name}"


def resize(operation: tf.Operation, facts: Facts) -> str | None:
    if facts.depends(operation.inputs[1]) is Depends.DATA:
        return "its size depends on data"
    return None


def resize_to_nearest(operation: tf.Operation, facts: Facts) -> str | None:
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


def mirror(operation: tf.Operation, facts: Facts) -> str | None:
    pads = facts.value(operation.inputs[1])
    if pads is None:
        return "its padding is not known before a request comes"
    less = 1 if operation.get_attr("mode") == b"REFLECT" else 0
    for (before, after), size in zip(pads.tolist(), operation.inputs[0].shape.as_list(), strict=True):
        if (before or after) and (size is None or max(before, after) > size - less):
            return "its padding may be larger than its input"
    return None


def whole_division(operation: tf.Operation, facts: Facts) -> str | None:
    divisor = facts.value(operation.inputs[1])
    if divisor is None or (divisor == 0).any():
        return "it may divide by zero"
    return None


def shape_of(operation: tf.Operation, facts: Facts) -> str | None:
    """Others would have to be handed to OpenVINO for their shape alone."""
    if operation.inputs[0].dtype.base_dtype not in FLOATS:
        return "it is proven for the shapes of floats only"
    return None
