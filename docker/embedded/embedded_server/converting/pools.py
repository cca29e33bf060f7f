"""Keeps max pools where they are.

Behind a convolution, OpenVINO executes the function that follows a max pool before it, as part of the
convolution: max(f(x)) for f(max(x)). These are the same for functions that rise everywhere, as relu does. It
does so for abs, gelu, swish, hard swish, mish and a falling leaky relu too.
"""

from __future__ import annotations

from collections.abc import Iterator

import openvino
from openvino import opset13

_RISING = frozenset({
    "Relu", "Clamp", "Elu", "Selu", "Sigmoid", "Tanh", "HSigmoid", "SoftPlus", "Sqrt",
})  # fmt: skip
_NOT_MOVED = frozenset({
    "AvgPool", "Concat", "Convolution", "ConvolutionBackpropData", "GroupConvolution", "MatMul", "MaxPool",
    "MVN", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Result", "SoftMax", "Softmax",
})  # fmt: skip
_PASSED = frozenset({"Convert", "Reshape", "Squeeze", "StridedSlice", "Pad", "Transpose", "Unsqueeze"})
_LINEAR = frozenset({"Add", "Divide", "Multiply", "Subtract"})
_LEAST = {"f16": -65504.0, "f32": -3.3e38}
"""A number that none is below, by type; bf16 has the range of f32."""


def keep_in_place(model: openvino.Model) -> None:
    """Put a maximum with the least number behind each max pool that another function than these may follow.

    It changes no number, and OpenVINO moves nothing across it.
    """
    for pool in [node for node in model.get_ops() if node.get_type_name() == "MaxPool"]:
        output = pool.output(0)
        if all(user in _RISING | _NOT_MOVED for user in _users(output)):
            continue
        targets = output.get_target_inputs()
        kind = output.get_element_type()
        least = opset13.constant(_LEAST.get(kind.get_type_name(), _LEAST["f32"]), kind)
        kept = opset13.maximum(output, least)
        for target in targets:
            target.replace_source_output(kept.output(0))


def _users(output: openvino.Output) -> Iterator[str]:
    """What is computed of it, by type, behind moves and arithmetic with constants."""
    for target in output.get_target_inputs():
        user = target.get_node()
        kind = user.get_type_name()
        others = [value.get_node() for value in user.input_values() if value.get_node() != output.get_node()]
        linear = kind in _LINEAR and all(_is_constant(other) for other in others) and others
        if kind in _PASSED or linear:
            yield from _users(user.output(0))
        else:
            yield kind


def _is_constant(node: openvino.Node) -> bool:
    """Whether it is a constant, perhaps moved or cast."""
    return node.get_type_name() == "Constant" or (
        node.get_type_name() in _PASSED and all(_is_constant(v.get_node()) for v in node.input_values())
    )
