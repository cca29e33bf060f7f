"""Operations behind, before and between convolutions.

OpenVINO stores what convolutions give with the channels last in memory, and its kernels differ by that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from operator_cases.case import Case, Kind, Tensor, positive, weights

raw = tf.raw_ops
_SHAPE = (None, 5, 6, 8)
_Function = Callable[[Any], Any]


_CHANNELS_LAST = (
    "behind Conv2D",
    "behind DepthwiseConv2dNative",
    "behind MaxPool",
    "between convolutions",
    "and itself",
)
_DIFFER = {
    "LogSoftmax in rank 4": (*_CHANNELS_LAST, "between Transposes"),
    "LogSoftmax in rank 3": ("between Transposes",),
    "Tile": _CHANNELS_LAST,
}
"""Where OpenVINO moves a change of layout past an operation without telling the operation."""


def layouts() -> Iterator[Case]:
    for name, function in _functions().items():
        op, _, variant = name.partition(" ")
        for place, build in _PLACES.items():
            orders = "ArgMax" in name or "indices" in name
            if place in _ROUNDED and orders:
                continue  # numbers that are almost equal are not ordered in the same way
            yield Case(
                op,
                f"{place}{f', {variant}' if variant else ''}",
                (Tensor(_SHAPE, kind=Kind.NORMAL if orders else Kind.ANY),),
                lambda x, b=build, f=function: b(f, x),
                1e-4,
                of_inputs=True,
                differs="another layout" if place in _DIFFER.get(name, ()) else None,
            )


def _conv(x: Any) -> Any:
    kernel = weights((3, 3, x.shape[-1], 8), scale=(9 * x.shape[-1]) ** -0.5)
    return raw.Conv2D(input=x, filter=kernel, strides=[1, 1, 1, 1], padding="SAME")


def _depthwise(x: Any) -> Any:
    return raw.DepthwiseConv2dNative(
        input=x, filter=weights((3, 3, x.shape[-1], 1)), strides=[1, 1, 1, 1], padding="SAME"
    )


def _conv_of(x: Any) -> Any:
    """A convolution of the result, if it is an image."""
    return _conv(x) if x.dtype == tf.float32 and x.shape.rank == 4 and x.shape[-1] is not None else x


def _turned(x: Any) -> Any:
    return tf.transpose(tf.abs(tf.transpose(x, [0, 3, 1, 2])) - 0.5, [0, 2, 3, 1])


def _turned_back(x: Any) -> Any:
    rank = x.shape.rank
    return tf.transpose(x, [0, rank - 1, *range(1, rank - 1)]) if rank > 2 else x


def _swish(x: Any) -> Any:
    return x * tf.sigmoid(x)  # TensorFlow leaves out what keeps the order, such as Relu, before ArgMax


_PLACES: dict[str, Callable[[_Function, Any], Any]] = {
    "behind Conv2D": lambda f, x: f(_conv(x)),
    "behind DepthwiseConv2dNative": lambda f, x: f(_depthwise(x)),
    "behind MaxPool": lambda f, x: f(tf.nn.max_pool2d(x, 2, 1, "SAME")),
    "between convolutions": lambda f, x: [_conv_of(part) for part in tf.nest.flatten(f(_swish(_conv(x))))],
    "behind Transpose": lambda f, x: f(_turned(x)),
    "between Transposes": lambda f, x: [_turned_back(part) for part in tf.nest.flatten(f(_turned(x)))],
    "and itself": lambda f, x: (lambda y: [*tf.nest.flatten(f(y)), y])(_conv(x)),
}


_ROUNDED = ("behind Conv2D", "behind DepthwiseConv2dNative", "between convolutions", "and itself")


def _functions() -> dict[str, _Function]:
    functions: dict[str, _Function] = {
        "Softmax": lambda x: raw.Softmax(logits=x),
        "LogSoftmax in rank 4": lambda x: raw.LogSoftmax(logits=x),
        "LogSoftmax in rank 2": lambda x: raw.LogSoftmax(logits=tf.reshape(x, [-1, 8])),
        "LogSoftmax in rank 3": lambda x: raw.LogSoftmax(logits=tf.reshape(x, [-1, 30, 8])),
        "Softmax in rank 3": lambda x: raw.Softmax(logits=tf.reshape(x, [-1, 30, 8])),
        "Reshape flat": lambda x: tf.reshape(x, [-1, 240]),
        "Reshape rows": lambda x: tf.reshape(x, [-1, 8]),
        "Reshape groups": lambda x: tf.reshape(x, [-1, 5, 6, 2, 4]),
        "Transpose 0 3 1 2": lambda x: tf.transpose(x, [0, 3, 1, 2]),
        "Transpose 0 2 1 3": lambda x: tf.transpose(x, [0, 2, 1, 3]),
        "Transpose 3 1 2 0": lambda x: tf.transpose(x, [3, 1, 2, 0]),
        "ConcatV2": lambda x: tf.concat([x, tf.nn.relu(x)], -1),
        "ConcatV2 height": lambda x: tf.concat([x, tf.nn.relu(x)], 1),
        "ConcatV2 with constant": lambda x: tf.concat([x, x[..., :1] * 0.0 + 2.0], -1),
        "Pack": lambda x: tf.stack([x, x * 2.0], 1),
        "Unpack": lambda x: tf.unstack(x, axis=-1)[3],
        "Unpack height": lambda x: tf.unstack(x, axis=1)[3],
        "Split": lambda x: tf.split(x, 2, -1),
        "Split height": lambda x: tf.split(x, 5, 1)[2],
        "SplitV": lambda x: tf.split(x, [1, 4, 3], -1),
        "Slice": lambda x: tf.slice(x, [0, 1, 2, 3], [-1, 3, 2, 4]),
        "StridedSlice": lambda x: x[:, 1:4, ::2, 1:7:3],
        "StridedSlice channel": lambda x: x[..., 3],
        "StridedSlice backwards": lambda x: x[:, ::-1, :, ::-1],
        "Pad": lambda x: raw.Pad(input=x, paddings=[[0, 0], [1, 2], [0, 1], [0, 0]]),
        "Pad channels": lambda x: raw.Pad(input=x, paddings=[[0, 0], [0, 0], [0, 0], [1, 2]]),
        "PadV2": lambda x: raw.PadV2(
            input=x, paddings=[[0, 0], [1, 2], [0, 1], [2, 0]], constant_values=-1.5
        ),
        "MirrorPad REFLECT": lambda x: raw.MirrorPad(
            input=x, paddings=[[0, 0], [1, 2], [0, 1], [0, 0]], mode="REFLECT"
        ),
        "MirrorPad SYMMETRIC": lambda x: raw.MirrorPad(
            input=x, paddings=[[0, 0], [1, 2], [0, 1], [2, 0]], mode="SYMMETRIC"
        ),
        "Tile": lambda x: tf.tile(x, [1, 2, 1, 3]),
        "BroadcastTo": lambda x: tf.broadcast_to(x[:, :, :, :1], tf.stack([tf.shape(x)[0], 5, 6, 8])),
        "GatherV2 channels": lambda x: tf.gather(x, [7, 0, 3, 3], axis=3),
        "GatherV2 height": lambda x: tf.gather(x, [4, 0], axis=1),
        "ReverseV2 channels": lambda x: tf.reverse(x, [3]),
        "ReverseV2 height": lambda x: tf.reverse(x, [1]),
        "Roll": lambda x: tf.roll(x, [1, -2], [1, 3]),
        "SpaceToDepth": lambda x: tf.nn.space_to_depth(x[:, :4], 2),
        "DepthToSpace": lambda x: tf.nn.depth_to_space(x, 2),
        "SpaceToBatchND": lambda x: raw.SpaceToBatchND(
            input=x, block_shape=[2, 2], paddings=[[1, 0], [0, 0]]
        ),
        "BatchToSpaceND": lambda x: raw.BatchToSpaceND(
            input=raw.SpaceToBatchND(input=x, block_shape=[2, 2], paddings=[[1, 0], [0, 0]]),
            block_shape=[2, 2],
            crops=[[1, 0], [0, 0]],
        ),
        "ResizeBilinear": lambda x: raw.ResizeBilinear(images=x, size=[9, 7], half_pixel_centers=True),
        "ResizeBilinear corners": lambda x: raw.ResizeBilinear(images=x, size=[9, 7], align_corners=True),
        "ResizeBilinear plain": lambda x: raw.ResizeBilinear(images=x, size=[10, 12]),
        "ResizeNearestNeighbor": lambda x: raw.ResizeNearestNeighbor(
            images=x, size=[10, 12], half_pixel_centers=True
        ),
        "ResizeNearestNeighbor plain": lambda x: raw.ResizeNearestNeighbor(images=x, size=[7, 3]),
        "Squeeze": lambda x: tf.squeeze(tf.reduce_mean(x, [1], keepdims=True), [1]),
        "ExpandDims": lambda x: tf.expand_dims(x, 1),
        "ArgMax": lambda x: tf.argmax(x, -1),
        "ArgMax height": lambda x: tf.argmax(x, 1),
        "TopKV2": lambda x: raw.TopKV2(input=x, k=3).values,
        "TopKV2 indices": lambda x: raw.TopKV2(input=x, k=3).indices,
        "Cumsum": lambda x: tf.cumsum(x, 3),
        "Cumsum height": lambda x: tf.cumsum(x, 1, reverse=True),
        "AvgPool": lambda x: tf.nn.avg_pool2d(x, 3, 2, "SAME"),
        "MaxPool": lambda x: tf.nn.max_pool2d(x, 3, 2, "VALID"),
        "FusedBatchNormV3": lambda x: raw.FusedBatchNormV3(
            x=x,
            scale=weights((8,)),
            offset=weights((8,), scale=2),
            mean=weights((8,)),
            variance=positive((8,)),
            is_training=False,
        )[0],
        "LRN": lambda x: raw.LRN(input=x, depth_radius=2, bias=1.0, alpha=1e-4, beta=0.75),
        "MatMul rows": lambda x: tf.reshape(x, [-1, 8]) @ weights((8, 3)),
        "MatMul flat": lambda x: tf.reshape(x, [-1, 240]) @ weights((240, 3), scale=0.1),
        "BatchMatMulV2": lambda x: raw.BatchMatMulV2(x=x, y=weights((8, 3))),
        "BatchMatMulV2 itself": lambda x: raw.BatchMatMulV2(x=x, y=x, adj_y=True),
        "Einsum": lambda x: tf.einsum("abcd,de->abce", x, weights((8, 3))),
        "Einsum itself": lambda x: tf.einsum("aecd,abcd->acbe", x, x),
        "Conv2D": _conv,
        "DepthwiseConv2dNative": _depthwise,
        "Conv2DBackpropInput": lambda x: raw.Conv2DBackpropInput(
            input_sizes=tf.stack([tf.shape(x)[0], 10, 12, 4]),
            filter=weights((3, 3, 4, 8), scale=0.1),
            out_backprop=x,
            strides=[1, 2, 2, 1],
            padding="SAME",
        ),
        "SelectV2": lambda x: tf.where(tf.constant(np.arange(8) % 2 == 0), x, -x),
        "AddN": lambda x: raw.AddN(inputs=[x, x, tf.nn.relu(x)]),
        "BiasAdd": lambda x: tf.nn.bias_add(x, weights((8,))),
    }
    for op in ("Mean", "Sum", "Max", "Min", "Prod"):
        for axis in ([1, 2], [3], [1], [0], [1, 2, 3]):
            for keep in (False, True):
                functions[f"{op} {axis} {keep}"] = lambda x, o=op, a=axis, k=keep: getattr(raw, o)(
                    input=x, axis=a, keep_dims=k
                )
    for op in ("Add", "Sub", "Mul", "Maximum", "SquaredDifference"):
        for shape in ((), (8,), (6, 1), (5, 1, 8), (1, 5, 6, 8), (1, 1, 1, 8)):
            functions[f"{op} {shape}"] = lambda x, o=op, s=shape: getattr(raw, o)(x=x, y=weights(s))
            functions[f"{op} {shape} left"] = lambda x, o=op, s=shape: getattr(raw, o)(x=weights(s), y=x)
    for op in (
        "Relu",
        "Relu6",
        "Elu",
        "Selu",
        "Softsign",
        "Sigmoid",
        "Tanh",
        "Erf",
        "Erfc",
        "Neg",
        "Abs",
        "Square",
    ):
        argument = "features" if op in ("Relu", "Relu6", "Elu", "Selu", "Softsign") else "x"
        functions[op] = lambda x, o=op, a=argument: getattr(raw, o)(**{a: x})
    functions["LeakyRelu"] = lambda x: raw.LeakyRelu(features=x, alpha=0.3)
    return functions
