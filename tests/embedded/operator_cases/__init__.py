"""Tiny graphs, some for each operation that OpenVINO may execute in place of TensorFlow."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from operator_cases import (
    attention,
    convolutions,
    elementwise,
    layouts,
    movement,
    products,
    reductions,
    shapes,
)
from operator_cases.case import Case, Guard, Kind, Tensor

__all__ = ["Case", "Guard", "Kind", "Tensor", "cases", "output_types", "traps"]


def cases() -> list[Case]:
    """All of them."""
    return [
        *elementwise.unary(), *elementwise.casts(), *elementwise.binary(), *elementwise.comparisons(),
        *elementwise.logic(), *products.products(), *products.einsums(), *convolutions.convolutions(),
        *convolutions.normalizations(), *convolutions.pools(), *convolutions.windows(),
        *reductions.reductions(), *reductions.softmaxes(), *movement.movement(), *movement.resizes(),
        *shapes.shape_arithmetic(), *layouts.layouts(), *traps(),
    ]  # fmt: skip


def traps() -> list[Case]:
    """Networks in which OpenVINO was once found to be wrong, and their neighbours."""
    return [*convolutions.traps(), *attention.attention()]


def output_types(op: str) -> set[tf.DType]:
    """The types that TensorFlow's definition of the operation lets its outputs have."""
    definition = op_def_registry.get(op)
    found: set[tf.DType] = set()
    for output in definition.output_arg:
        if output.type:
            found.add(tf.as_dtype(output.type))
            continue
        attribute = next(a for a in definition.attr if a.name in (output.type_attr, output.type_list_attr))
        allowed = [tf.as_dtype(number) for number in attribute.allowed_values.list.type]
        found |= set(allowed or elementwise.NUMBERS)
    return found
