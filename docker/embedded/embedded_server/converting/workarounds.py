"""What OpenVINO does wrong with some graphs, avoided by other graphs that say the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
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


def apply(model: openvino.Model) -> None:
    """Change `model` where OpenVINO would compute something else than it says."""
    for node in model.get_ops():
        if node.get_type_name() == "MaxPool":
            _keep_in_place(node)
        elif node.get_type_name() == "StridedSlice":
            _name_all_axes(node)


def _keep_in_place(pool: openvino.Node) -> None:
    """Put a maximum with the least number behind a max pool, unless a function of these lists follows it.

    Behind a convolution, OpenVINO executes the function that follows a max pool before it, as part of the
    convolution: max(f(x)) for f(max(x)). These are the same for functions that rise everywhere, as relu does.
    It does so for abs, gelu, swish, hard swish, mish and a falling leaky relu too. The maximum changes no
    number, and nothing is moved across it.
    """
    output = pool.output(0)
    if all(user in _RISING | _NOT_MOVED for user in _users(output)):
        return
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


def _name_all_axes(slicing: openvino.Node) -> None:
    """Have a slice say begin, end and step of every axis.

    Of images sliced with a negative step that does not, as in x[:, ::-1], OpenVINO writes beyond its memory
    when it is compiled, and the process ends.
    """
    attributes = slicing.get_attributes()
    named = slicing.input(1).get_partial_shape()
    rank = slicing.input(0).get_partial_shape().rank
    if named.is_dynamic or rank.is_dynamic or any(attributes["ellipsis_mask"]):
        return
    count = named[0].get_length()
    missing = rank.get_length() - (count - sum(map(bool, attributes["new_axis_mask"])))
    if missing <= 0:
        return

    def longer(index: int, value: int) -> openvino.Output:
        given = slicing.input_value(index)
        rest = opset13.constant(np.full(missing, value), given.get_element_type())
        return opset13.concat([given, rest], 0).output(0)

    def mask(name: str, value: int) -> list[int]:
        bits = [int(bit) for bit in attributes[name]]
        return [*bits, *[0] * (count - len(bits)), *[value] * missing]

    whole = opset13.strided_slice(
        slicing.input_value(0),
        longer(1, 0),
        longer(2, 0),
        longer(3, 1),
        mask("begin_mask", 1),
        mask("end_mask", 1),
        mask("new_axis_mask", 0),
        mask("shrink_axis_mask", 0),
        mask("ellipsis_mask", 0),
    )
    _replace(slicing, whole)


def _replace(old: openvino.Node, new: openvino.Node) -> None:
    """Put `new` in the place of `old`, under its names."""
    new.set_friendly_name(old.get_friendly_name())
    new.output(0).get_tensor().set_names(old.output(0).get_tensor().get_names())
    for target in old.output(0).get_target_inputs():
        target.replace_source_output(new.output(0))
