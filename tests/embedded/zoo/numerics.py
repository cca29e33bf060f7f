"""Operations by family, around products: what libraries of models are made of, and where engines differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gallery
import ml_dtypes
import numpy as np
import tensorflow as tf

from zoo.kind import DEFAULT, OPTIMIZED, Kind, Outcome, floats, integers, save, served, spec, weight

X = floats(231, 3, 8)
nn, math = tf.nn, tf.math

ACTIVATIONS: Mapping[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "elu": nn.elu,
    "erf": math.erf,
    "gelu": nn.gelu,
    "gelu_tanh": lambda x: nn.gelu(x, approximate=True),
    "hard_swish": lambda x: x * nn.relu6(x + 3.0) / 6.0,
    "leaky_relu": lambda x: nn.leaky_relu(x, 0.1),
    "log_sigmoid": math.log_sigmoid,
    "log_softmax": nn.log_softmax,
    "mish": lambda x: x * tf.tanh(math.softplus(x)),
    "relu6": nn.relu6,
    "selu": nn.selu,
    "sigmoid": tf.sigmoid,
    "softmax": nn.softmax,
    "softplus": math.softplus,
    "softsign": math.softsign,
    "swish": nn.swish,
    "tanh": tf.tanh,
}
REDUCTIONS: Mapping[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "all": lambda x: tf.cast(tf.reduce_all(x > -9.0, 1), tf.float32),
    "cumulative": lambda x: tf.cumsum(x, 1, exclusive=True),
    "euclidean": lambda x: tf.norm(x, axis=1),
    "l1": lambda x: tf.reduce_sum(abs(x), 1),
    "log_sum_exp": lambda x: tf.reduce_logsumexp(x, 1),
    "max": lambda x: tf.reduce_max(x, [1]),
    "mean": lambda x: tf.reduce_mean(x, 1, keepdims=True),
    "min": lambda x: tf.reduce_min(x, -1),
    "product": lambda x: tf.reduce_prod(x, 1),
    "sorted": lambda x: tf.sort(x, 1),
    "sorting": lambda x: tf.argsort(x, 1),
    "variance": lambda x: math.reduce_variance(x, 1),
}


def _module() -> Any:
    module = tf.Module()
    module.w = weight(232, 8, 6)
    return module


def write_activations(folder: Path) -> None:
    """Every activation of a product."""
    module = _module()

    def serve(x: tf.Tensor) -> Any:
        y = x @ module.w
        return {name: activation(y) for name, activation in ACTIVATIONS.items()}

    save(folder, module, serving_default=served(serve, x=spec(None, 8)))


def write_reductions(folder: Path) -> None:
    """Every reduction of a product."""
    module = _module()

    def serve(x: tf.Tensor) -> Any:
        y = x @ module.w
        return {name: reduction(y) for name, reduction in REDUCTIONS.items()}

    save(folder, module, serving_default=served(serve, x=spec(None, 8)))


def write_products(folder: Path) -> None:
    """Products of all ranks: einsum, tensordot, batches that broadcast, transposed, and of two inputs."""
    module = _module()
    module.cube = weight(233, 4, 2, 3)

    def serve(a: tf.Tensor, b: tf.Tensor) -> Any:
        return {
            "einsum": tf.einsum("bij,bkj->bik", a, b),
            "outer": tf.einsum("bij,jkl->bikl", a, module.cube),
            "tensordot": tf.tensordot(a, module.cube, [[2], [0]]),
            "broadcast": tf.matmul(a[:, None], b[:, :, :, None] * tf.ones([1, 1, 4, 5])),
            "transposed": tf.matmul(a, b, transpose_b=True),
            "vector": tf.linalg.matvec(a, a[:, 0]),
            "trace": tf.linalg.trace(tf.matmul(a, a, transpose_b=True)),
        }

    save(folder, module, serving_default=served(serve, a=spec(None, 3, 4), b=spec(None, 2, 4)))


def write_shaping(folder: Path) -> None:
    """Slices, stacks, pads, tiles and turns between two products."""
    module = _module()
    module.out = weight(234, 60, 4)

    def serve(x: tf.Tensor) -> Any:
        y = tf.reshape(x @ module.w, [-1, 2, 3])
        parts = [
            y,
            y[:, ::-1],
            y[..., -2:, :1] + tf.zeros_like(y),
            tf.roll(y, 1, 2),
            tf.reverse(y, [2]),
            tf.tile(y[:, :1], [1, 2, 1]),
            tf.transpose(tf.reshape(y, [-1, 3, 2]), [0, 2, 1]),
            tf.gather(y, [2, 0, 2], axis=2),
            tf.pad(y, [[0, 0], [0, 0], [1, 0]])[..., :3],
            tf.stack(tf.unstack(y, axis=1), 1),
        ]
        wide = tf.concat([tf.reshape(part, [-1, 6]) for part in parts], 1)
        return {"wide": wide, "y": wide @ module.out}

    save(folder, module, serving_default=served(serve, x=spec(None, 8)))


def write_ties(folder: Path) -> None:
    """Scores that are equal: which of them is the best is the first for TensorFlow."""
    module = _module()

    def serve(x: tf.Tensor) -> Any:
        scores = nn.relu(x @ module.w - 100.0)
        best = math.top_k(scores, 4)
        return {
            "largest": tf.argmax(scores, 1),
            "smallest": tf.argmin(scores, 1, tf.int32),
            "best": best.values,
            "at": best.indices,
            "order": tf.argsort(scores, 1, stable=True),
        }

    save(folder, module, serving_default=served(serve, x=spec(None, 8)))


def write_guarded(folder: Path) -> None:
    """Branches of which the other one would be NaN or infinite, and quotients guarded against zero."""
    module = _module()

    def serve(x: tf.Tensor) -> Any:
        y = x @ module.w
        positive = y > 0.0
        return {
            "log": tf.where(positive, math.log(tf.where(positive, y, 1.0)), 0.0),
            "unsafe": tf.where(positive, tf.sqrt(y), 0.0),
            "quotient": math.divide_no_nan(y, nn.relu(y)),
            "product": math.multiply_no_nan(y, nn.relu(y)),
            "xlogy": math.xlogy(nn.relu(y), nn.relu(y)),
            "finite": tf.cast(math.is_finite(1.0 / nn.relu(y)), tf.int32),
        }

    save(folder, module, serving_default=served(serve, x=spec(None, 8)))


def write_batch_coupled(folder: Path) -> None:
    """Every row's answer depends on the other rows, and the number of rows is divided by."""
    module = _module()

    def serve(x: tf.Tensor) -> Any:
        y = x @ module.w
        rows = tf.cast(tf.shape(x)[0], tf.float32)
        centered = y - tf.reduce_sum(y, 0) / rows
        return {
            "centered": centered,
            "attention": nn.softmax(tf.matmul(y, y, transpose_b=True)) @ y,
            "folded": tf.reshape(centered, [2, -1]),
            "rank": tf.argmax(y, 0),
        }

    save(folder, module, serving_default=served(serve, x=spec(None, 8)))


def write_bool_mask(folder: Path) -> None:
    """Attention with a mask of booleans and scores that it sets to the lowest number."""
    module = _module()

    def serve(x: tf.Tensor, mask: tf.Tensor) -> Any:
        y = tf.einsum("bti,ij->btj", x, module.w)
        scores = tf.matmul(y, y, transpose_b=True)
        kept = tf.where(mask[:, None, :], scores, scores.dtype.min)
        return {"y": tf.matmul(nn.softmax(kept), y), "any": tf.reduce_any(mask, 1)}

    inputs = {"x": spec(None, 5, 8), "mask": spec(None, 5, dtype=tf.bool)}
    save(folder, module, serving_default=served(serve, **inputs))


def write_integer_weights(folder: Path) -> None:
    """Weights kept in int8 with a scale for each column, and a product of integers."""
    module = tf.Module()
    module.w = tf.Variable(integers(235, 255, 8, 6, dtype=np.int16).astype(np.int8))
    module.scale = tf.Variable(abs(floats(236, 6)) / 100.0)
    module.whole = tf.Variable(integers(237, 9, 8, 3, dtype=np.int32))

    def scaled(x: tf.Tensor) -> Any:
        return {"y": x @ (tf.cast(module.w, tf.float32) * module.scale)}

    save(
        folder,
        module,
        serving_default=served(scaled, x=spec(None, 8)),
        whole=served(lambda n: {"y": n @ module.whole}, n=spec(None, 8, dtype=tf.int32)),
    )


def write_sparse(folder: Path) -> None:
    """A sparse matrix, in its three parts, times a dense one, and a dense layer behind it."""
    module = tf.Module()
    module.w, module.deep = weight(238, 10, 8), weight(239, 8, 16)

    def serve(at: tf.Tensor, values: tf.Tensor, shape: tf.Tensor) -> Any:
        rows = tf.sparse.sparse_dense_matmul(tf.SparseTensor(at, values, shape), module.w)
        return {"y": nn.relu(tf.ensure_shape(rows, [None, 8]) @ module.deep)}

    parts = {"at": spec(None, 2, dtype=tf.int64), "values": spec(None), "shape": spec(2, dtype=tf.int64)}
    save(folder, module, serving_default=served(serve, **parts))


def _kinds() -> list[Kind]:
    x = [(DEFAULT, {"x": X})]
    pair = {"a": floats(240, 2, 3, 4), "b": floats(241, 2, 2, 4)}
    mask = np.array([[True] * 5, [True, False, True, False, False]])
    masked = {"x": floats(242, 2, 5, 8), "mask": mask}
    sparse = {
        "at": np.array([[0, 1], [1, 9]], np.int64),
        "values": np.array([2, -1], np.float32),
        "shape": np.array([2, 10], np.int64),
    }
    first = [0, 1, 2, 3]
    ties = Outcome(DEFAULT, {"x": X}, {"largest": [0] * 3, "smallest": [0] * 3, "at": [first] * 3})
    even = [(DEFAULT, {"x": X[:2]}), (DEFAULT, {"x": floats(243, 4, 8)})]
    halves = np.array([[1, -2, 0.5, 3], [0, 1, 2, 4]])
    types = {"half": np.float16, "bfloat16": ml_dtypes.bfloat16}
    return [
        Kind("activations", write_activations, x),
        Kind("reductions", write_reductions, x),
        Kind("products", write_products, [(DEFAULT, pair)]),
        Kind("shaping", write_shaping, x, shares={DEFAULT: 0.5}),
        Kind("ties", write_ties, x, outcomes=[ties]),
        Kind("guarded", write_guarded, x),
        Kind("batch_coupled", write_batch_coupled, even),
        Kind("bool_mask", write_bool_mask, [(DEFAULT, masked)]),
        Kind(
            "integer_weights",
            write_integer_weights,
            [*x, ("whole", {"n": integers(244, 99, 2, 8, dtype=np.int32)})],
            shares={DEFAULT: OPTIMIZED, "whole": 0.0},
        ),
        Kind("sparse", write_sparse, [(DEFAULT, sparse)]),
        Kind(
            "halves",
            gallery.write_halves,
            [(name, {"x": halves.astype(kind)}) for name, kind in types.items()],
            shares={"half": OPTIMIZED, "bfloat16": OPTIMIZED},
            tolerance="half",
        ),
    ]


KINDS = _kinds()
