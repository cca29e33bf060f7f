"""How many multiplications an operation needs, for a request with one row.

Convolutions and matrix products are counted, since they are nearly all of a network's arithmetic. Sizes that
the graph leaves open are taken to be as below; loops are taken to have TURNS turns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import tensorflow as tf
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.node_def_pb2 import NodeDef

OPEN_SIZE = 16
"""What an open dimension counts as, other than the first one."""
TURNS = 16
"""What a loop counts as whose number of turns follows from the request."""
CONVOLUTIONS = frozenset({"Conv2D", "DepthwiseConv2dNative", "Conv3D"})
TRANSPOSED = frozenset({"Conv2DBackpropInput", "Conv3DBackpropInputV2"})
PRODUCTS = frozenset({"MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"})
HEAVY = CONVOLUTIONS | TRANSPOSED | PRODUCTS | {"Einsum"}


def multiplications(operation: tf.Operation) -> int:
    """Those of one operation; 0 for what is neither a convolution nor a matrix product."""
    kind = operation.type
    if kind not in HEAVY:
        return 0
    given = [_sizes(tensor.shape) for tensor in operation.inputs]
    result = _sizes(operation.outputs[0].shape)
    if kind in CONVOLUTIONS:
        kernel = given[1]
        inside = kernel[:-2] if kind == "DepthwiseConv2dNative" else kernel[:-1]
        return math.prod(result) * math.prod(inside)
    if kind in TRANSPOSED:
        return math.prod(given[2]) * math.prod(given[1][:-1])
    if kind == "Einsum":
        return _of_einsum(operation)
    inner = given[0][-2] if _is_transposed(operation) else given[0][-1]
    return math.prod(result) * inner


def _is_transposed(operation: tf.Operation) -> bool:
    return bool(operation.get_attr("transpose_a" if operation.type == "MatMul" else "adj_x"))


def _of_einsum(operation: tf.Operation) -> int:
    terms = operation.get_attr("equation").decode().replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, tensor in zip(terms, operation.inputs, strict=True):
        shape = _sizes(tensor.shape)
        if "." in term or len(term) != len(shape):
            return math.prod(shape)
        sizes.update(zip(term, shape, strict=True))
    return math.prod(sizes.values())


def _sizes(shape: tf.TensorShape) -> list[int]:
    """A size for each dimension; four open ones where even their number is unknown."""
    if shape.rank is None:
        return [1, *[OPEN_SIZE] * 3]
    return [
        (1 if position == 0 else OPEN_SIZE) if size is None else size
        for position, size in enumerate(shape.as_list())
    ]


def of_functions(operation: tf.Operation, functions: Mapping[str, FunctionDef]) -> int:
    """The multiplications within the functions of a While, an If or a call that was not inlined.

    Shapes within functions are unknown, so each counts as one of open sizes.
    """
    total = 0
    seen: set[str] = set()
    waiting = _called(operation.node_def)
    while waiting:
        name = waiting.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in functions[name].node_def:
            if node.op in HEAVY:
                total += OPEN_SIZE**4
            waiting.extend(_called(node))
    return total * (TURNS if "While" in operation.type else 1)


def _called(node: NodeDef) -> list[str]:
    attributes = node.attr.values()
    return [func.name for attr in attributes for func in (attr.func, *attr.list.func) if func.name]
