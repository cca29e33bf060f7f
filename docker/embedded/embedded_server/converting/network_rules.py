"""The rules of convolutions, pooling, matrix products and normalization (see rules)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from embedded_server.converting.facts import Depends, Facts


def convolution(operation: tf.Operation, facts: Facts) -> str | None:
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
    return large_enough(operation, image.shape[1:-1].as_list(), kernel.shape.as_list()[:-2])


def pooling(operation: tf.Operation, facts: Facts) -> str | None:
    if facts.depends(operation.inputs[0]) is not Depends.DATA:
        return "its input does not depend on data"
    if not operation.get_attr("data_format").decode().endswith("C"):
        return "its channels come first"
    sizes = list(operation.get_attr("ksize"))
    strides = list(operation.get_attr("strides"))
    if sizes[0] != 1 or sizes[-1] != 1 or strides[0] != 1 or strides[-1] != 1:
        return "it goes over rows or channels"
    return large_enough(operation, operation.inputs[0].shape[1:-1].as_list(), sizes[1:-1])


def large_enough(
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


def transposed_convolution(operation: tf.Operation, facts: Facts) -> str | None:
    sizes, kernel, image = operation.inputs
    if facts.depends(image) is not Depends.DATA:
        return "its input does not depend on data"
    if facts.depends(sizes) is Depends.DATA or facts.value(kernel) is None:
        return "how it works depends on data"
    if not operation.get_attr("data_format").decode().endswith("C"):
        return "its channels come first"
    return fitting_sizes(sizes, image, facts)


def fitting_sizes(sizes: tf.Tensor, image: tf.Tensor, facts: Facts) -> str | None:
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


def product(operation: tf.Operation, facts: Facts) -> str | None:
    """The sizes that are summed over must be known to be the same: OpenVINO repeats a size of 1."""
    a, b = operation.inputs
    if all(facts.depends(tensor) is not Depends.DATA for tensor in (a, b)):
        return "its input does not depend on data"
    names = ("transpose_a", "transpose_b") if operation.type == "MatMul" else ("adj_x", "adj_y")
    first, second = (bool(operation.get_attr(name)) for name in names)
    over_a, over_b = a.shape[-2 if first else -1], b.shape[-1 if second else -2]
    if over_a is None or over_b is None:
        return None if same_open_size(a, b, facts) else "the size that it sums over is open"
    if operation.type != "BatchMatMul":
        return None
    batches = a.shape[:-2].as_list(), b.shape[:-2].as_list()
    if batches[0] != batches[1]:
        return "the sizes of its batches are not known to be the same"
    return None


def same_open_size(a: tf.Tensor, b: tf.Tensor, facts: Facts) -> bool:
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
        positions = [position for position, size in enumerate(shape.as_list()) if size is None and position]
        if len(positions) > 1:
            return False
        places.update(positions)
    return len(places) == 1


def einsum(operation: tf.Operation, facts: Facts) -> str | None:
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
        if sizes[label] == {None} and not same_open_size(first, second, facts):
            return f"the size of {label!r} in {equation} is open"
    return None


def normalization(operation: tf.Operation, facts: Facts) -> str | None:
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


def bias(operation: tf.Operation, facts: Facts) -> str | None:
    values, bias = operation.inputs
    if not operation.get_attr("data_format").decode().endswith("C"):
        return "its channels come first"
    if values.shape[-1] is None or values.shape[-1] != bias.shape[0]:
        return "its number of channels is open"
    return None
