"""Convolutions, poolings and normalizations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from operator_cases.case import FLOATS, Case, Tensor, positive, same_for, weights

raw = tf.raw_ops


@dataclass(frozen=True)
class _Window:
    """Attributes of a convolution or a pooling, by dimension."""

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...] = ()
    groups: int = 1


_IMAGES = (
    _Window((9, 7), (3, 3), (1, 1)),
    _Window((9, 7), (3, 2), (2, 2)),
    _Window((8, 7), (1, 1), (2, 3)),
    _Window((9, 11), (3, 3), (1, 1), (2, 2)),
    _Window((5, 5), (5, 5), (1, 1)),
    _Window((1, 9), (1, 3), (1, 1)),
    _Window((12, 12), (3, 3), (1, 1)),
    _Window((1, 1), (1, 1), (1, 1)),
    _Window((7, 7), (7, 7), (2, 2)),
)


_LARGER = _Window((2, 3), (5, 5), (1, 1))


_VOLUMES = (
    _Window((5, 4, 3), (3, 3, 3), (1, 1, 1)),
    _Window((5, 4, 7), (2, 3, 3), (2, 2, 2)),
    _Window((3, 4, 5), (1, 1, 1), (1, 1, 1)),
)


def convolutions() -> Iterator[Case]:
    for window in (*_IMAGES, _LARGER):
        for padding in ("SAME", "VALID"):
            if window is _LARGER and padding == "VALID":
                continue
            yield from _convolution_cases(window, padding)
    for groups, inputs, outputs in ((2, 4, 6), (4, 4, 4), (4, 4, 8), (3, 6, 3)):
        yield from same_for(
            "Conv2D", lambda x, g=groups, i=inputs, o=outputs: raw.Conv2D(
                input=x, filter=weights((3, 3, i // g, o), x.dtype), strides=[1, 1, 1, 1], padding="SAME"),
            (None, 6, 7, inputs), variant=f"{groups} groups, {inputs} to {outputs}", dtypes=[tf.float32],
        )  # fmt: skip
    for edges in ([0, 0, 1, 2, 3, 0, 0, 0], [0, 0, 2, 2, 2, 2, 0, 0]):
        yield from same_for(
            "Conv2D", lambda x, e=edges: raw.Conv2D(
                input=x, filter=weights((3, 3, 3, 4), x.dtype), strides=[1, 1, 1, 1], padding="EXPLICIT",
                explicit_paddings=e),
            (None, 6, 7, 3), variant=f"EXPLICIT {edges}", dtypes=FLOATS,
        )  # fmt: skip
    yield from same_for(
        "Conv2D", lambda x, y: raw.Conv2D(input=x, filter=y, strides=[1, 1, 1, 1], padding="SAME"),
        (None, 6, 7, 3), (3, 3, 3, 4), variant="fed filter",
    )  # fmt: skip
    yield from same_for(
        "Conv2D", lambda x: tf.nn.bias_add(raw.Conv2D(
            input=x, filter=weights((3, 3, 16, 32), x.dtype), strides=[1, 1, 1, 1], padding="SAME"),
            weights((32,), x.dtype)),
        (None, 12, 12, 16), variant="wide with bias",
    )  # fmt: skip
    for stride, dilation, padding in ((1, 1, "SAME"), (2, 1, "VALID"), (1, 2, "SAME")):
        yield from same_for(
            "Conv2D", lambda x, s=stride, d=dilation, p=padding: tf.squeeze(raw.Conv2D(
                input=tf.expand_dims(x, -3), filter=weights((1, 3, 4, 5), x.dtype),
                strides=[1, 1, s, 1], padding=p, dilations=[1, 1, d, 1]), [-3]),
            (None, 11, 4), variant=f"1D, {stride} {dilation} {padding}", dtypes=FLOATS,
        )  # fmt: skip
    for window in _VOLUMES:
        for padding in ("SAME", "VALID"):
            yield from same_for(
                "Conv3D",
                lambda x, w=window, p=padding: raw.Conv3D(
                    input=x, filter=weights((*w.kernel, 3, 4), x.dtype), strides=[1, *w.strides, 1], padding=p
                ),
                (None, *window.image, 3),
                variant=f"{window.image} {window.kernel} {window.strides} {padding}",
            )
    yield from _transposed()


def _convolution_cases(window: _Window, padding: str) -> Iterator[Case]:
    strides = [1, *window.strides, 1]
    dilations = [1, *(window.dilations or (1, 1)), 1]
    variant = f"{window.image} {window.kernel} {window.strides} {dilations[1]} {padding}"
    yield from same_for(
        "Conv2D", lambda x: raw.Conv2D(
            input=x, filter=weights((*window.kernel, 3, 4), x.dtype), strides=strides, padding=padding,
            dilations=dilations),
        (None, *window.image, 3), variant=variant,
    )  # fmt: skip
    if window.strides[0] != window.strides[1] or window.dilations:
        return  # TensorFlow's depthwise convolution takes one stride for both, and executes no dilations
    for multiplier in (1, 2):
        yield from same_for(
            "DepthwiseConv2dNative", lambda x, m=multiplier: raw.DepthwiseConv2dNative(
                input=x, filter=weights((*window.kernel, 3, m), x.dtype), strides=strides, padding=padding,
                dilations=dilations),
            (None, *window.image, 3), variant=f"{variant} x{multiplier}",
            dtypes=FLOATS if multiplier == 1 else [tf.float32],
        )  # fmt: skip


def _transposed() -> Iterator[Case]:
    for kernel, stride, padding in (
        (3, 2, "SAME"),
        (3, 1, "SAME"),
        (2, 2, "VALID"),
        (3, 2, "VALID"),
        (1, 2, "SAME"),
        (4, 2, "SAME"),
        (5, 3, "SAME"),
    ):

        def build(x: Any, k: int = kernel, s: int = stride, p: str = padding) -> Any:
            shape = tf.shape(x)
            more = max(k - s, 0) if p == "VALID" else 0
            sizes = tf.stack([shape[0], shape[1] * s + more, shape[2] * s + more, 4])
            return raw.Conv2DBackpropInput(
                input_sizes=sizes,
                filter=weights((k, k, 4, 3), x.dtype),
                out_backprop=x,
                strides=[1, s, s, 1],
                padding=p,
            )

        yield from same_for(
            "Conv2DBackpropInput", build, (None, 5, 4, 3), variant=f"{kernel} {stride} {padding}"
        )
        yield from same_for(
            "Conv2DBackpropInput",
            build,
            (None, None, 4, 3),
            variant=f"{kernel} {stride} {padding}, sizes",
            dtypes=[tf.float32],
        )

        def build3(x: Any, k: int = kernel, s: int = stride, p: str = padding) -> Any:
            shape = tf.shape(x)
            more = max(k - s, 0) if p == "VALID" else 0
            sizes = tf.stack([shape[0], *[shape[n] * s + more for n in (1, 2, 3)], 4])
            return raw.Conv3DBackpropInputV2(
                input_sizes=sizes, filter=weights((k, k, k, 4, 3), x.dtype), out_backprop=x,
                strides=[1, s, s, s, 1], padding=p)  # fmt: skip

        yield from same_for(
            "Conv3DBackpropInputV2",
            build3,
            (None, 3, 2, 4, 3),
            variant=f"{kernel} {stride} {padding}",
            dtypes=FLOATS,
        )


def normalizations() -> Iterator[Case]:
    for op in ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"):
        function = getattr(raw, op)
        for form, shape in (("NHWC", (None, 3, 5, 13)), ("NCHW", (None, 13, 3, 5))):
            for epsilon in (1e-3, 1e-5):
                if form == "NCHW" and epsilon == 1e-5:
                    continue
                yield from same_for(
                    op,
                    lambda x, f=function, form=form, e=epsilon: f(
                        x=x,
                        scale=weights((13,)),
                        offset=weights((13,), scale=2),
                        mean=weights((13,), scale=3),
                        variance=positive((13,)),
                        epsilon=e,
                        data_format=form,
                        is_training=False,
                    )[0],
                    shape,
                    variant=f"{form} {epsilon}",
                    dtypes=[tf.float32] if op == "FusedBatchNorm" else FLOATS,
                )
    yield from same_for(
        "FusedBatchNormV3",
        lambda x: tf.nn.relu(
            raw.FusedBatchNormV3(
                x=raw.Conv2D(
                    input=x, filter=weights((3, 3, 3, 13), x.dtype), strides=[1, 2, 2, 1], padding="SAME"
                ),
                scale=weights((13,)),
                offset=weights((13,), scale=2),
                mean=weights((13,), scale=3),
                variance=positive((13,)),
                epsilon=1e-3,
                is_training=False,
            )[0]
        ),
        (None, 9, 7, 3),
        variant="after Conv2D",
    )
    for radius, bias, alpha, beta in ((5, 1.0, 1.0, 0.5), (2, 1.0, 1e-4, 0.75), (1, 2.0, 0.5, 1.0)):
        yield from same_for(
            "LRN", lambda x, r=radius, b=bias, a=alpha, e=beta: raw.LRN(
                input=x, depth_radius=r, bias=b, alpha=a, beta=e),
            (None, 3, 5, 13), variant=f"{radius} {bias} {alpha} {beta}", dtypes=[tf.float32],
            differs=None if beta == 0.75 else "other numbers",
        )  # fmt: skip


def pools() -> Iterator[Case]:
    windows = (
        *_IMAGES[:3],
        _Window((5, 5), (5, 5), (1, 1)),
        _Window((7, 6), (2, 2), (2, 2)),
        _Window((7, 8), (3, 3), (2, 2)),
        _Window((2, 3), (5, 5), (1, 1)),
        _Window((5, 5), (1, 1), (2, 2)),
    )
    for window in windows:
        for padding in ("SAME", "VALID"):
            if padding == "VALID" and window.kernel[0] > window.image[0]:
                continue
            attributes = {
                "ksize": [1, *window.kernel, 1], "strides": [1, *window.strides, 1], "padding": padding
            }  # fmt: skip
            variant = f"{window.image} {window.kernel} {window.strides} {padding}"
            shape = (None, *window.image, 3)
            yield from same_for(
                "MaxPool",
                lambda x, a=attributes: raw.MaxPool(input=x, **a),
                shape,
                variant=variant,
                exact=True,
            )
            yield from same_for(
                "MaxPoolV2",
                lambda x, a=attributes: raw.MaxPoolV2(input=x, **a),
                shape,
                variant=variant,
                exact=True,
            )
            yield from same_for(
                "AvgPool", lambda x, a=attributes: raw.AvgPool(value=x, **a), shape, variant=variant
            )
    for window in (*_VOLUMES, _Window((2, 3, 2), (4, 4, 4), (1, 1, 1))):
        for padding in ("SAME", "VALID"):
            if padding == "VALID" and window.kernel[0] > window.image[0]:
                continue
            attributes = {
                "ksize": [1, *window.kernel, 1], "strides": [1, *window.strides, 1], "padding": padding
            }  # fmt: skip
            variant = f"{window.image} {window.kernel} {window.strides} {padding}"
            shape = (None, *window.image, 3)
            yield from same_for(
                "MaxPool3D",
                lambda x, a=attributes: raw.MaxPool3D(input=x, **a),
                shape,
                variant=variant,
                exact=True,
            )
            yield from same_for(
                "AvgPool3D", lambda x, a=attributes: raw.AvgPool3D(input=x, **a), shape, variant=variant
            )


def windows() -> Iterator[Case]:
    """Dilated convolution as TF 1 writes it."""
    yield from same_for(
        "SpaceToBatchND", lambda x: raw.BatchToSpaceND(
            input=raw.Conv2D(
                input=raw.SpaceToBatchND(input=x, block_shape=[2, 2], paddings=[[2, 3], [2, 2]]),
                filter=weights((3, 3, 3, 4), x.dtype), strides=[1, 1, 1, 1], padding="VALID"),
            block_shape=[2, 2], crops=[[0, 1], [0, 0]]),
        (None, 9, 8, 3), variant="dilated convolution",
    )  # fmt: skip


def traps() -> Iterator[Case]:
    """Graphs in which OpenVINO was once found to be wrong, and their neighbours."""
    image = (4, 4, 3)

    def conv(x: Any, outputs: int = 3) -> Any:
        return raw.Conv2D(input=x, filter=weights((3, 3, 3, outputs)), strides=[1, 1, 1, 1], padding="SAME")

    def depthwise(x: Any) -> Any:
        return raw.DepthwiseConv2dNative(
            input=x, filter=weights((3, 3, 3, 1)), strides=[1, 1, 1, 1], padding="SAME"
        )

    def pool(x: Any) -> Any:
        return tf.nn.avg_pool2d(x, 3, 1, "SAME")

    for name, heavy in (("Conv2D", conv), ("DepthwiseConv2dNative", depthwise), ("AvgPool", pool)):
        yield Case(
            name,
            "of a constant, plus fed",
            (Tensor((None, 1, 1, 1)),),
            lambda x, f=heavy: f(weights((1, *image))) + x,
            1e-5,
        )
        yield Case(
            name,
            "of a constant, plus fed image",
            (Tensor((None, *image)),),
            lambda x, f=heavy: f(weights((1, *image))) + x,
            1e-5,
        )
        yield Case(
            name,
            "of ones by shape, plus fed",
            (Tensor((None, *image)),),
            lambda x, f=heavy: f(tf.ones_like(x)) + x,
            1e-5,
        )
        yield Case(
            name,
            "of fill by shape, plus fed",
            (Tensor((None, *image)),),
            lambda x, f=heavy: f(tf.fill(tf.concat([tf.shape(x)[:1], image], 0), 2.0)) + x,
            1e-5,
        )
        yield Case(
            name,
            "plus constant image",
            (Tensor((None, *image)),),
            lambda x, f=heavy: f(x) + weights((1, *image)),
            1e-5,
        )
        yield Case(
            name,
            "plus constant image by shape",
            (Tensor((None, *image)),),
            lambda x, f=heavy: f(x) + tf.fill(tf.shape(x), 3.0),
            1e-5,
        )
        yield Case(
            name, "plus itself", (Tensor((None, *image)),), lambda x, f=heavy: [f(x) + x, x + 1.0], 1e-5
        )
        yield Case(
            name,
            "plus used elsewhere",
            (Tensor((None, *image)),),
            lambda x, f=heavy: (lambda y: [f(x) + y, y])(tf.nn.relu(x)),
            1e-5,
        )
        yield Case(
            name,
            "of conv by shape twice",
            (Tensor((None, *image)),),
            lambda x, f=heavy: f(f(tf.ones_like(x))) + f(x),
            1e-5,
        )
    yield Case(
        "MatMul",
        "of a constant, plus fed",
        (Tensor((None, 3)),),
        lambda x: weights((1, 4)) @ weights((4, 3)) + x,
        1e-5,
    )
    yield Case(
        "MatMul",
        "of fill by shape, plus fed",
        (Tensor((None, 3)),),
        lambda x: tf.fill([tf.shape(x)[0], 4], 2.0) @ weights((4, 3)) + x,
        1e-5,
    )
    yield Case(
        "MatMul",
        "plus constant by shape",
        (Tensor((None, 4)),),
        lambda x: x @ weights((4, 3)) + tf.fill([tf.shape(x)[0], 3], 2.0),
        1e-5,
    )
    yield Case(
        "MatMul",
        "plus constant matrix",
        (Tensor((None, 4)),),
        lambda x: x @ weights((4, 3)) + weights((1, 3)),
        1e-5,
    )
    yield Case(
        "AddV2",
        "of constants by shape",
        (Tensor((None, 4)),),
        lambda x: (tf.ones_like(x) + tf.fill(tf.shape(x), 2.0)) * x,
        1e-5,
    )
    yield Case(
        "Mul",
        "of constants by shape",
        (Tensor((None, 4)),),
        lambda x: (tf.ones_like(x) * tf.fill(tf.shape(x), 2.0)) + x,
        1e-5,
    )
    yield Case(
        "AddV2",
        "constants only",
        (Tensor((None, 4)),),
        lambda x: [tf.ones_like(x) + tf.fill(tf.shape(x), 2.0), x],
        1e-5,
    )
    yield Case(
        "MatMul",
        "constants only",
        (Tensor((None, 3)),),
        lambda x: [tf.fill([tf.shape(x)[0], 4], 2.0) @ weights((4, 3)), x],
        1e-5,
    )
    yield from _behind_max_pool(conv)
    yield from _reversed()


def _reversed() -> Iterator[Case]:
    """Slices with negative steps that do not name all axes, of images and videos in parts."""

    def twice(x: Any, turn: Callable[[Any], Any]) -> Any:
        once = tf.concat([x, turn(x)], -1)
        return tf.concat([once, turn(once)], -1)

    turns: dict[str, Callable[[Any], Any]] = {
        "rows": lambda x: x[:, ::-1],
        "columns": lambda x: x[:, :, ::-1],
        "every second": lambda x: tf.concat([x[:, ::-2], x[:, 1::2]], 1),
        "channels": lambda x: x[..., ::-1],
        "new axis": lambda x: x[:, ::-1, tf.newaxis][:, :, 0],
    }
    for name, turn in turns.items():
        for shape in ((None, 12, 9, 1), (None, 4, 6, 5, 2), (None, 6, 8)):
            yield Case(
                "StridedSlice", f"{name} turned {len(shape)}d", (Tensor(shape),),
                lambda x, t=turn: twice(x, t), None,
            )  # fmt: skip
            yield Case(
                "StridedSlice", f"{name} turned {len(shape)}d by relu", (Tensor(shape),),
                lambda x, t=turn: tf.nn.relu(twice(tf.nn.relu(x), t)), None,
            )  # fmt: skip


def _behind_max_pool(conv: Callable[[Any], Any]) -> Iterator[Case]:
    """Functions that do not rise everywhere: of a maximum they are not the maximum of what they are."""
    functions: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "abs": ("Abs", tf.abs),
        "square": ("Square", tf.square),
        "gelu": ("Erf", lambda x: 0.5 * x * (1.0 + tf.math.erf(x * 0.70710677))),
        "gelu by Tanh": ("Tanh", lambda x: tf.nn.gelu(x, approximate=True)),
        "swish": ("Sigmoid", lambda x: x * tf.sigmoid(x)),
        "hard swish": ("Relu", lambda x: x * tf.minimum(tf.nn.relu(x + 3.0), 6.0) / 6.0),
        "mish": ("Softplus", lambda x: x * tf.tanh(tf.math.softplus(x))),
        "falling LeakyRelu": ("LeakyRelu", lambda x: raw.LeakyRelu(features=x, alpha=-0.5)),
        "negation": ("Neg", lambda x: tf.nn.relu(-x)),
        "relu": ("Relu", tf.nn.relu),
    }
    moves: dict[str, Callable[[Any], Any]] = {
        "": lambda x: x,
        "transposed": lambda x: tf.transpose(x, [0, 2, 1, 3]),
        "scaled": lambda x: x * weights((3,)) + weights((1, 3)),
    }
    for (name, (op, function)), (moved, move) in itertools.product(functions.items(), moves.items()):
        yield Case(
            op,
            f"{name} behind a max pool {moved}".strip(),
            (Tensor((None, 6, 6, 3)),),
            lambda x, f=function, m=move: f(m(tf.nn.max_pool2d(conv(x), 3, 2, "SAME"))),
            1e-5,
        )
