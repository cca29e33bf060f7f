"""Random networks of proven operations: OpenVINO merges operations, and merged ones have faults of their own.

Each network is built twice, in float32 and in float64. What TensorFlow answers in float64 is taken for the
truth: OpenVINO may be further from it than TensorFlow's own float32 only by what float32 loses to rounding.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from embedded_server.graph.errors import CannotConvert
from operator_cases import Case, Tensor
from operator_comparison import Array, Graph

raw = tf.raw_ops
Layer = Callable[["Maker", Any], Any]
_SCALES = (1.0, 10.0, 0.1)
_ALLOWED = 2e-4
"""How far from the truth, in parts of the largest number, if TensorFlow's float32 is at it.

What a network loses to rounding is taken from all of its requests: one may be near the truth by chance.
"""


@dataclass
class Maker:
    """Makes one network. The same seed gives the same network, in any type."""

    seed: int
    dtype: tf.DType = tf.float32
    layers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.choose = random.Random(self.seed)
        self.numbers = np.random.default_rng(self.seed)
        self.kept: list[Any] = []

    def constant(self, *shape: int, scale: float = 1.0, shift: float = 0.0) -> Any:
        numbers = self.numbers.normal(size=shape) * scale + shift
        return tf.constant(numbers.astype(np.float32), self.dtype)

    def kernel(self, *shape: int) -> Any:
        return self.constant(*shape, scale=float(np.prod(shape[:-1])) ** -0.5)

    def number(self, value: float) -> Any:
        return tf.constant(np.float32(value), self.dtype)

    def build(self, x: Any) -> list[Any]:
        tables = {4: _IMAGE, 3: _SEQUENCE, 2: _VECTOR}
        for _ in range(self.choose.randint(3, 12)):
            layer = self.choose.choice((*tables[x.shape.rank], *_ANY))
            self.layers.append(layer.__name__)
            self.kept.append(x)
            x = layer(self, x)
            if self.choose.random() < 0.1:
                x = raw.Tanh(x=x)
        outputs = [x]
        if self.choose.random() < 0.3:
            outputs.append(self.choose.choice(self.kept[1:] or [x]))
        return outputs

    def rows(self, x: Any, *sizes: int) -> Any:
        """A shape with the rows and the length of `x`, which may be open, and these sizes."""
        if x.shape[1] is not None:
            return [-1, x.shape[1], *sizes]
        return tf.stack([tf.shape(x)[0], tf.shape(x)[1], *sizes])

    def another(self, x: Any) -> Any | None:
        """A tensor of the same shape that was made before."""
        found = [
            other for other in self.kept if other.shape.as_list() == x.shape.as_list() and other is not x
        ]
        return self.choose.choice(found) if found else None


def _activation(maker: Maker, x: Any) -> Any:
    functions: tuple[Callable[[Any], Any], ...] = (
        tf.nn.relu,
        lambda x: raw.Relu6(features=x) if maker.dtype == tf.float32 else tf.clip_by_value(x, 0.0, 6.0),
        lambda x: raw.LeakyRelu(features=x, alpha=0.1),
        lambda x: raw.Elu(features=x),
        lambda x: raw.Selu(features=x),
        tf.sigmoid,
        tf.tanh,
        lambda x: raw.Softplus(features=x),
        lambda x: raw.Softsign(features=x),
        lambda x: x * tf.sigmoid(x),
        lambda x: x * tf.minimum(tf.nn.relu(x + maker.number(3)), maker.number(6)) / maker.number(6),
        lambda x: tf.minimum(tf.nn.relu(x + maker.number(3)), maker.number(6)) / maker.number(6),
        lambda x: maker.number(0.5) * x * (maker.number(1) + tf.math.erf(x * maker.number(0.70710677))),
        lambda x: maker.number(0.5) * x * (maker.number(1) + tf.tanh(
            maker.number(0.79788456) * (x + maker.number(0.044715) * x * x * x))),
        lambda x: x * tf.tanh(raw.Softplus(features=x)),
        lambda x: tf.nn.relu(x) - maker.number(0.3) * tf.nn.relu(-x),
        tf.abs,
        tf.square,
        lambda x: tf.maximum(x, maker.number(0.1) * x),
        lambda x: tf.exp(tf.minimum(x, maker.number(3))),
    )  # fmt: skip
    return maker.choose.choice(functions)(x)


def _scaled(maker: Maker, x: Any) -> Any:
    size = x.shape[-1]
    factor = maker.constant(*maker.choose.choice(((), (size,), (1, size))), scale=0.5, shift=1.0)
    shift = maker.constant(*maker.choose.choice(((), (size,), (1, size))))
    return maker.choose.choice((
        lambda: x * factor + shift,
        lambda: factor * x - shift,
        lambda: shift - x * factor,
        lambda: (x + shift) * factor,
        lambda: (x - shift) / (tf.abs(factor) + maker.number(0.5)),
        lambda: -x,
    ))()  # fmt: skip


def _joined(maker: Maker, x: Any) -> Any:
    other = maker.another(x)
    if other is None:
        return x + tf.tanh(x)
    return maker.choose.choice((
        lambda: x + other,
        lambda: x - other,
        lambda: x * other,
        lambda: tf.maximum(x, other),
        lambda: raw.AddN(inputs=[x, other, x]),
        lambda: x + tf.nn.relu(other),
        lambda: tf.nn.relu(x + other),
        lambda: x * tf.sigmoid(other),
        lambda: tf.concat([x, other], -1),
        lambda: raw.SquaredDifference(x=x, y=other),
    ))()  # fmt: skip


def _normalized(maker: Maker, x: Any) -> Any:
    axis = maker.choose.choice(([-1], [x.shape.rank - 1], list(range(1, x.shape.rank))))
    mean = tf.reduce_mean(x, axis, keepdims=True)
    variance = maker.choose.choice((
        lambda: tf.reduce_mean(raw.SquaredDifference(x=x, y=mean), axis, keepdims=True),
        lambda: tf.reduce_mean(tf.square(x - mean), axis, keepdims=True),
    ))()  # fmt: skip
    size = x.shape[-1]
    gamma, beta = maker.constant(size, shift=1.0, scale=0.3), maker.constant(size)
    epsilon = maker.number(1e-2)
    return maker.choose.choice((
        lambda: (x - mean) * (tf.math.rsqrt(variance + epsilon) * gamma) + beta,
        lambda: (x - mean) * tf.math.rsqrt(variance + epsilon) * gamma + beta,
        lambda: (x - mean) / tf.sqrt(variance + epsilon) * gamma + beta,
        lambda: x * (tf.math.rsqrt(variance + epsilon) * gamma) + (
            beta - mean * (tf.math.rsqrt(variance + epsilon) * gamma)),
        lambda: x * tf.math.rsqrt(tf.reduce_mean(tf.square(x), axis, keepdims=True) + epsilon) * gamma,
        lambda: x * tf.math.rsqrt(tf.maximum(tf.reduce_sum(tf.square(x), axis, keepdims=True), epsilon)),
        lambda: x / tf.sqrt(tf.maximum(tf.reduce_sum(tf.square(x), axis, keepdims=True), epsilon)),
    ))()  # fmt: skip


def _soft(maker: Maker, x: Any) -> Any:
    return raw.Softmax(logits=x) if maker.choose.random() < 0.7 else raw.LogSoftmax(logits=x)


def _sliced(maker: Maker, x: Any) -> Any:
    size = x.shape[-1]
    if size % 2 or size < 4:
        return tf.pad(x, [[0, 0]] * (x.shape.rank - 1) + [[1, 0]])
    a, b = tf.split(x, 2, -1)
    return maker.choose.choice((
        lambda: a,
        lambda: tf.concat([b, a], -1),
        lambda: a * tf.sigmoid(b),
        lambda: tf.concat([-b, a], -1) * maker.constant(size) + x * maker.constant(size),
        lambda: x[..., 1:-1],
        lambda: x[..., ::2],
    ))()  # fmt: skip


def _conv(maker: Maker, x: Any) -> Any:
    height, width, channels = x.shape[1:]
    size = maker.choose.choice((1, 1, 3, 3, 5))
    padding = "SAME" if size > min(height, width) else maker.choose.choice(("SAME", "SAME", "VALID"))
    stride = maker.choose.choice((1, 1, 1, 2))
    outputs = maker.choose.choice((1, 3, 8, channels, 16))
    x = raw.Conv2D(
        input=x,
        filter=maker.kernel(size, size, channels, outputs),
        strides=[1, stride, stride, 1],
        padding=padding,
    )
    return _after_conv(maker, x)


def _depthwise(maker: Maker, x: Any) -> Any:
    size, stride = maker.choose.choice((3, 3, 5)), maker.choose.choice((1, 1, 2))
    channels, multiplier = x.shape[-1], maker.choose.choice((1, 1, 2))
    kernel = maker.constant(size, size, channels, multiplier, scale=1 / size)
    x = raw.DepthwiseConv2dNative(input=x, filter=kernel, strides=[1, stride, stride, 1], padding="SAME")
    return _after_conv(maker, x)


def _after_conv(maker: Maker, x: Any) -> Any:
    size = x.shape[-1]
    if maker.choose.random() < 0.4:
        x = tf.nn.bias_add(x, maker.constant(size))
    if maker.choose.random() < 0.4:
        x = x * maker.constant(size, shift=1.0, scale=0.2) + maker.constant(size)
    if maker.choose.random() < 0.6:
        x = _activation(maker, x)
    if maker.choose.random() < 0.4:
        other = maker.another(x)
        x = x if other is None else maker.choose.choice((x + other, other + x))
        if maker.choose.random() < 0.5:
            x = tf.nn.relu(x)
    return x


def _transposed(maker: Maker, x: Any) -> Any:
    height, width, channels = x.shape[1:]
    if height * width > 300:
        return _pool(maker, x)
    sizes = tf.stack([tf.shape(x)[0], height * 2, width * 2, 4])
    return raw.Conv2DBackpropInput(
        input_sizes=sizes, filter=maker.kernel(3, 3, 4, channels), out_backprop=x, strides=[1, 2, 2, 1],
        padding="SAME",
    )  # fmt: skip


def _pool(maker: Maker, x: Any) -> Any:
    function = maker.choose.choice((tf.nn.max_pool2d, tf.nn.avg_pool2d))
    size, stride = maker.choose.choice(((2, 2), (3, 1), (3, 2)))
    return function(x, size, stride, "SAME")


def _squeezed(maker: Maker, x: Any) -> Any:
    """Squeeze and excite."""
    channels = x.shape[-1]
    mean = tf.reduce_mean(x, [1, 2], keepdims=maker.choose.random() < 0.5)
    mean = tf.reshape(mean, [-1, channels])
    gate = tf.nn.relu(tf.matmul(mean, maker.kernel(channels, 2)))
    gate = tf.sigmoid(tf.matmul(gate, maker.kernel(2, channels)))
    return x * tf.reshape(gate, [-1, 1, 1, channels])


def _moved_image(maker: Maker, x: Any) -> Any:
    height, width, channels = x.shape[1:]
    options: list[Callable[[], Any]] = [
        lambda: tf.pad(x, [[0, 0], [1, 1], [0, 2], [0, 0]]),
        lambda: tf.transpose(x, [0, 2, 1, 3]),
        lambda: tf.reshape(x, [-1, height * width, channels]),
        lambda: tf.reduce_mean(x, [1, 2]),
        lambda: tf.reduce_max(x, [1, 2]),
        lambda: tf.reshape(x, [-1, height * width * channels]),
        lambda: tf.concat([x, x[:, ::-1]], -1),
        lambda: raw.MirrorPad(input=x, paddings=[[0, 0], [1, 0], [0, 1], [0, 0]], mode="SYMMETRIC"),
        lambda: tf.transpose(tf.transpose(x, [0, 3, 1, 2]), [0, 2, 3, 1]),
    ]
    if height % 2 == 0 and width % 2 == 0:
        options.append(lambda: tf.nn.space_to_depth(x, 2))
    if channels % 4 == 0:
        options.append(lambda: tf.nn.depth_to_space(x, 2))
        # ShuffleNet's shuffling of channels.
        options.append(
            lambda: tf.reshape(
                tf.transpose(tf.reshape(x, [-1, height, width, 2, channels // 2]), [0, 1, 2, 4, 3]),
                [-1, height, width, channels],
            )
        )
    return maker.choose.choice(options)()


def _dense(maker: Maker, x: Any) -> Any:
    size = x.shape[-1]
    outputs = maker.choose.choice((1, 4, 8, size))
    if x.shape.rank == 2:
        x = tf.matmul(x, maker.kernel(size, outputs))
    else:
        x = maker.choose.choice((
            lambda: tf.einsum("abc,cd->abd", x, maker.kernel(size, outputs)),
            lambda: raw.BatchMatMulV2(x=x, y=maker.kernel(size, outputs)),
            lambda: tf.reshape(
                tf.matmul(tf.reshape(x, [-1, size]), maker.kernel(size, outputs)), maker.rows(x, outputs)
            ),
        ))()  # fmt: skip
    return _after_conv(maker, x)


def _attention(maker: Maker, x: Any) -> Any:
    length, size = x.shape[1:]
    heads, depth = 2, maker.choose.choice((3, 4))
    form = maker.choose.random()

    def project(x: Any) -> Any:
        if form < 0.5:
            return tf.einsum("abc,cde->abde", x, maker.kernel(size, heads, depth)) + maker.constant(
                heads, depth
            )
        flat = raw.BatchMatMulV2(x=x, y=maker.kernel(size, heads * depth))
        return tf.reshape(flat, maker.rows(x, heads, depth))

    query, key, value = project(x), project(x), project(x)
    scale = maker.number(depth**-0.5)
    if maker.choose.random() < 0.5:
        scores = tf.einsum("aecd,abcd->acbe", key, query * scale)
        mixed = tf.einsum("acbe,aecd->abcd", raw.Softmax(logits=scores), value)
    else:
        query, key, value = (tf.transpose(part, [0, 2, 1, 3]) for part in (query, key, value))
        scores = tf.matmul(query, key, transpose_b=True)
        scores = scores * scale if maker.choose.random() < 0.5 else scores / maker.number(depth**0.5)
        if maker.choose.random() < 0.5 and length is not None:
            scores = scores + maker.constant(1, 1, length, length)
        mixed = tf.transpose(tf.matmul(raw.Softmax(logits=scores), value), [0, 2, 1, 3])
    mixed = tf.reshape(mixed, maker.rows(x, heads * depth))
    mixed = raw.BatchMatMulV2(x=mixed, y=maker.kernel(heads * depth, size))
    return x + mixed if maker.choose.random() < 0.7 else mixed


def _moved_sequence(maker: Maker, x: Any) -> Any:
    length, size = x.shape[1:]
    if length is None:
        return maker.choose.choice((
            lambda: x[:, -1],
            lambda: x[:, 0],
            lambda: tf.reduce_mean(x, 1),
            lambda: tf.reduce_max(x, 1),
            lambda: tf.concat([x, tf.reverse(x, [1])], -1),
            lambda: tf.pad(x, [[0, 0], [1, 0], [0, 0]])[:, :-1],
            lambda: x + tf.reduce_mean(x, 1, keepdims=True),
            lambda: tf.squeeze(raw.Conv2D(
                input=tf.expand_dims(x, 1), filter=maker.kernel(1, 3, size, 4), strides=[1, 1, 1, 1],
                padding="SAME"), [1]),
        ))()  # fmt: skip
    return maker.choose.choice(
        (
            lambda: tf.transpose(x, [0, 2, 1]),
            lambda: x[:, -1],
            lambda: x[:, 0],
            lambda: tf.reduce_mean(x, 1),
            lambda: tf.reduce_max(x, 1),
            lambda: tf.reshape(x, [-1, length * size]),
            lambda: tf.concat([x, tf.reverse(x, [1])], -1),
            lambda: tf.expand_dims(x, 1),
            lambda: tf.pad(x, [[0, 0], [1, 0], [0, 0]])[:, :-1],
            lambda: tf.stack([x, x * maker.number(2)], 1),
            lambda: tf.gather(x, [length - 1, 0], axis=1),
            lambda: tf.squeeze(
                raw.Conv2D(
                    input=tf.expand_dims(x, 1),
                    filter=maker.kernel(1, 3, size, 4),
                    strides=[1, 1, 1, 1],
                    padding="SAME",
                ),
                [1],
            ),
        )
    )()


def _moved_vector(maker: Maker, x: Any) -> Any:
    size = x.shape[-1]
    return maker.choose.choice((
        lambda: tf.expand_dims(x, 1),
        lambda: tf.reshape(tf.tile(x, [1, 4]), [-1, 2, 2, size]),
        lambda: tf.stack([x, -x, x], 1),
        lambda: tf.concat([x, tf.square(x)], -1),
        lambda: tf.reshape(x, [-1, size, 1]),
    ))()  # fmt: skip


_ANY: tuple[Layer, ...] = (_activation, _activation, _scaled, _joined, _normalized, _soft, _sliced)
_IMAGE: tuple[Layer, ...] = (
    _conv,
    _conv,
    _conv,
    _conv,
    _depthwise,
    _depthwise,
    _transposed,
    _pool,
    _squeezed,
    _moved_image,
    _moved_image,
)
_SEQUENCE: tuple[Layer, ...] = (
    _dense,
    _dense,
    _dense,
    _attention,
    _attention,
    _moved_sequence,
    _moved_sequence,
)
_VECTOR: tuple[Layer, ...] = (_dense, _dense, _dense, _dense, _moved_vector)
_INPUTS = (
    (None, 8, 8, 3),
    (None, 5, 7, 4),
    (None, 12, 9, 1),
    (None, 6, 8),
    (None, None, 8),
    (None, None, 5),
    (None, 1, 5),
    (None, 10),
    (None, 3),
)


@dataclass
class Outcome:
    """What one network gave."""

    layers: Sequence[str]
    values: int = 0
    refused: str | None = None
    """Why the rules keep it out of a body, or why TensorFlow itself cannot execute it."""
    problem: str | None = None


def compare(seed: int) -> Outcome:
    """Make the network of this seed, and compare what OpenVINO and TensorFlow answer."""
    shape = random.Random(seed).choice(_INPUTS)
    maker = Maker(seed)
    case = Case("chain", str(seed), (Tensor(shape),), maker.build)
    graph = Graph(case)
    truth = Graph(
        Case("truth", str(seed), (Tensor(shape, tf.float64),), Maker(seed, tf.float64).build), fuses=False
    )
    outcome = Outcome(maker.layers)
    try:
        outcome.refused = graph.refused()
        if outcome.refused is not None:
            return outcome
        graph.compile()
        _compare(graph, truth, seed, outcome)
    except (CannotConvert, tf.errors.OpError) as error:
        # With oneDNN TensorFlow itself fails for a few of them: it takes other channels behind a slice.
        outcome.refused = str(error)
    except RuntimeError as error:
        outcome.problem = " ".join(str(error).split())[:300]
    finally:
        graph.close()
        truth.close()
    return outcome


def _compare(graph: Graph, truth: Graph, seed: int, outcome: Outcome) -> None:
    numbers = np.random.default_rng(seed)
    shape = graph.case.inputs[0].shape
    requests = []
    for scale in _SCALES:
        for rows in (1, 3, 1, 2):
            length = int(numbers.integers(1, 9))
            size = [rows, *(length if dimension is None else dimension for dimension in shape[1:])]
            requests.append((numbers.normal(size=size) * scale).astype(np.float32))
    true = [truth.tensorflow(request.astype(np.float64)) for request in requests]
    own = [graph.tensorflow(request) for request in requests]
    lost = max(_off(*values) for both in zip(true, own, strict=True) for values in zip(*both, strict=True))
    for turn in range(2):
        for request, right, rounded in zip(requests, true, own, strict=True):
            for form in graph.forms([request]):
                found = graph.openvino(form, [request])
                for number, values in enumerate(zip(right, rounded, found, strict=True)):
                    problem = _problem(*values, lost)
                    if problem is not None:
                        where = f"{form}, {len(request)} rows, turn {turn + 1}, output {number}"
                        outcome.problem = outcome.problem or f"{where}: {problem}"
                    outcome.values += found[number].size


def _problem(true: Array, own: Array, found: Array, lost: float) -> str | None:
    if own.shape != found.shape:
        return f"shape {found.shape} for {own.shape}"
    if not _comparable(true, own):
        return None
    off = _off(true, found)
    if off <= _ALLOWED + 20 * lost:
        return None
    return f"{off:.2g} of the largest from the truth, and TensorFlow {lost:.2g} at most"


def _off(true: Array, found: Array) -> float:
    """How far from the truth, in parts of the largest number; 0 where the truth is out of range."""
    if not _comparable(true, found):
        return 0.0
    return float(np.abs(true - found).max()) / max(float(np.abs(true).max()), 1e-20)


def _comparable(true: Array, own: Array) -> bool:
    return bool(np.isfinite(true).all() and np.abs(true).max() <= 1e30 and np.isfinite(own).all())
