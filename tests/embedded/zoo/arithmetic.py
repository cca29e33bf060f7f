"""Arithmetic in which OpenVINO and TensorFlow differ: each by itself, and next to a matrix product."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.kind import DEFAULT, INVALID, OPTIMIZED, Kind, Outcome, floats, save, served, spec, weight

X = floats(31, 2, 4)
BATCH = spec(None, 4)
CONSTANTS = ("convolution", "grouped", "pooled", "depthwise")
MIXED = {"a": tf.int64, "b": tf.uint32, "c": tf.int32, "d": tf.uint8}
NUMBERS = {
    "a": np.array([5000000123, -7], np.int64),
    "b": np.array([4000000000, 5], np.uint32),
    "c": np.array([100000001, 2147483647], np.int32),
    "d": np.array([200, 10], np.uint8),
}


def _module() -> Any:
    module = tf.Module()
    module.w = weight(3, 4, 3)
    return module


def write_integers(folder: Path) -> None:
    """Integer arithmetic, one signature for each line of it."""
    a, b, c, d = (spec(None, dtype=dtype) for dtype in MIXED.values())
    save(
        folder,
        tf.Module(),
        add=served(lambda a: {"y": a + 1}, a=a),
        remainder=served(lambda a: {"y": a % 1000}, a=a),
        half=served(lambda b: {"y": b // 2}, b=b),
        seventh=served(lambda c: {"rest": c % 7, "y": c // 7}, c=c),
        bytes=served(lambda d, e: {"sum": d + e, "difference": d - e}, d=d, e=d),
        divide=served(lambda c, by: {"y": c // by, "rest": c % by}, c=c, by=c),
    )


def _integer_outcomes() -> list[Outcome]:
    ints, zeros = np.array([7, 8], np.int32), np.array([2, 0], np.int32)
    pair = {"d": np.array([200, 10], np.uint8), "e": np.array([100, 20], np.uint8)}
    return [
        Outcome("add", {"a": NUMBERS["a"]}, {"y": [5000000124, -6]}),
        Outcome("remainder", {"a": NUMBERS["a"]}, {"y": [123, 993]}),
        Outcome("half", {"b": NUMBERS["b"]}, {"y": [2000000000, 2]}),
        Outcome("seventh", {"c": NUMBERS["c"]}, {"rest": [3, 1], "y": [14285714, 306783378]}),
        Outcome("bytes", pair, {"sum": [44, 30], "difference": [100, 246]}),
        Outcome("divide", {"c": ints, "by": ints}, {"y": [1, 1], "rest": [0, 0]}),
        Outcome("divide", {"c": ints, "by": zeros}, error=INVALID),
    ]


def write_integers_in_network(folder: Path) -> None:
    """The same arithmetic next to a product, and behind it."""
    module = _module()
    columns = {name: spec(None, dtype=dtype) for name, dtype in MIXED.items()}

    def network(x: tf.Tensor, a: tf.Tensor, b: tf.Tensor, c: tf.Tensor, d: tf.Tensor) -> Any:
        scores = tf.nn.softmax(x @ module.w)
        whole = tf.cast(tf.round(scores * 30), tf.int32)
        return {
            "scores": scores,
            "a": a % 1000 + 1,
            "b": b // 2,
            "c": c // 7 + c % 7,
            "d": d + d,
            "seventh": whole // 7,
            "rest": whole % 7,
        }

    def divided(x: tf.Tensor, c: tf.Tensor) -> Any:
        return {"y": x @ module.w, "n": 1000 // c}

    save(
        folder,
        module,
        serving_default=served(network, x=BATCH, **columns),
        divided=served(divided, x=BATCH, c=columns["c"]),
    )


def write_hours(folder: Path) -> None:
    """The hour of a time stamp in milliseconds, one-hot, times a matrix."""
    module = tf.Module()
    module.h = weight(4, 24, 5)

    def serve(ts: tf.Tensor) -> Any:
        return {"y": tf.nn.softmax(tf.one_hot(ts // 3600000 % 24, 24) @ module.h)}

    save(folder, module, serving_default=served(serve, ts=spec(None, dtype=tf.int64)))


def write_doubles(folder: Path) -> None:
    """Double precision: a difference, a network, and a difference next to a network of floats."""
    module = _module()
    module.double = tf.Variable(floats(5, 4, 3).astype(np.float64))
    doubles = spec(None, dtype=tf.float64)

    def network(x: tf.Tensor) -> Any:
        return {"y": tf.nn.softmax(tf.nn.tanh(x @ module.double) @ tf.transpose(module.double))}

    save(
        folder,
        module,
        serving_default=served(network, x=spec(None, 4, dtype=tf.float64)),
        minus=served(lambda a, b: {"y": a - b}, a=doubles, b=doubles),
        both=served(lambda x, a, b: {"y": x @ module.w, "n": a - b}, x=BATCH, a=doubles, b=doubles),
    )


def write_casts(folder: Path) -> None:
    """Floats cast to integers, before and behind a product, and integers cast to floats."""
    module = _module()

    def behind(x: tf.Tensor) -> Any:
        y = x @ module.w
        whole = tf.round(tf.tanh(y) * 100)
        return {"y": y, "n": tf.cast(whole * 3e8, tf.int64), "small": tf.cast(whole, tf.int8)}

    def before(n: tf.Tensor) -> Any:
        return {"y": (tf.cast(n, tf.float32) * 1e-5) @ module.w}

    save(
        folder,
        module,
        serving_default=served(behind, x=BATCH),
        before=served(before, n=spec(None, 4, dtype=tf.int64)),
        alone=served(lambda x: {"y": tf.cast(x, tf.int64)}, x=spec(None)),
    )


def write_scatter(folder: Path) -> None:
    """Sums scattered to places that may be named twice, times a matrix."""
    module = tf.Module()
    module.w = weight(6, 10, 4)

    def serve(at: tf.Tensor, amounts: tf.Tensor) -> Any:
        row = tf.scatter_nd(at[:, None], amounts, [10])
        return {"row": row, "y": row[None] @ module.w}

    at = spec(None, dtype=tf.int32)
    save(folder, module, serving_default=served(serve, at=at, amounts=spec(None)))


def write_gather(folder: Path) -> None:
    """Rows of an embedding times a matrix; ids out of range are errors."""
    module = tf.Module()
    module.e, module.w = tf.Variable(floats(7, 10, 8)), weight(8, 8, 3)
    ids = spec(None, dtype=tf.int64)
    save(folder, module, serving_default=served(lambda i: {"y": tf.gather(module.e, i) @ module.w}, i=ids))


def write_nans(folder: Path) -> None:
    """NaN through what forgets it elsewhere, before and behind a product; check_numerics refuses it."""
    module = _module()

    def forgetful(x: tf.Tensor) -> Any:
        y = x @ module.w
        return {
            "relu": tf.nn.relu(y),
            "relu6": tf.nn.relu6(y),
            "clip": tf.clip_by_value(y, -1.0, 1.0),
            "max": tf.reduce_max(y, 1),
            "maximum": tf.maximum(y, 0.0),
            "pooled": tf.nn.max_pool1d(y[..., None], 3, 3, "VALID"),
            "any": tf.cast(y > 0, tf.float32),
            "chosen": tf.where(y > 0, y, -y),
            "best": tf.argmax(y, 1),
        }

    def before(x: tf.Tensor) -> Any:
        seen = tf.concat([tf.nn.relu(x), tf.clip_by_value(x, -1.0, 1.0), tf.minimum(x, 2.0)], 1)
        return {"y": seen @ tf.concat([module.w] * 3, 0)}

    def checked(x: tf.Tensor) -> Any:
        return {"y": tf.debugging.check_numerics(x, "x") @ module.w}

    def checked_behind(x: tf.Tensor) -> Any:
        return {"y": tf.debugging.check_numerics(tf.math.log(x @ tf.abs(module.w)), "log")}

    save(
        folder,
        module,
        serving_default=served(forgetful, x=BATCH),
        before=served(before, x=BATCH),
        checked=served(checked, x=BATCH),
        checked_behind=served(checked_behind, x=BATCH),
        alone=served(lambda x: {"y": tf.nn.relu(x), "max": tf.reduce_max(x, 1)}, x=BATCH),
    )


def write_asserts(folder: Path) -> None:
    """A signature that refuses what it was not made for."""
    module = _module()

    def serve(x: tf.Tensor, n: tf.Tensor) -> Any:
        tf.debugging.assert_non_negative(x, "x is negative")
        tf.debugging.assert_less(n, 10, "n is too large")
        with tf.control_dependencies([tf.debugging.assert_equal(tf.shape(x)[0], tf.shape(n)[0])]):
            return {"y": tf.nn.softmax(x @ module.w) * tf.cast(n, tf.float32)[:, None]}

    def behind(x: tf.Tensor) -> Any:
        y = x @ module.w
        with tf.control_dependencies([tf.debugging.assert_less(y, 100.0, "y is too large")]):
            return {"y": tf.identity(y)}

    n = spec(None, dtype=tf.int32)
    save(folder, module, serving_default=served(serve, x=BATCH, n=n), behind=served(behind, x=BATCH))


def write_constant_images(folder: Path) -> None:
    """Convolutions and a pooling of a constant image, plus a dynamic input."""
    module = _module()
    whole, grouped = np.ones((2, 2, 2, 1), np.float32), np.ones((2, 2, 1, 2), np.float32)
    two = [1, 2, 2, 1]

    def seen(name: str) -> tf.Tensor:
        """Made in the signature, so that it is part of its graph."""
        image = tf.constant(np.ones((1, 4, 4, 2), np.float32))
        if name == "pooled":
            return tf.nn.avg_pool2d(image, 2, 2, "VALID")
        if name == "depthwise":
            return tf.nn.depthwise_conv2d(image, tf.constant(whole), two, "VALID")
        return tf.nn.conv2d(image, tf.constant(whole if name == "convolution" else grouped), 2, "VALID")

    def plus(name: str) -> Any:
        return served(lambda x: {"y": seen(name)[0, 0, 0, 0] + x}, x=spec(None, 1))

    def product(x: tf.Tensor) -> Any:
        total = tf.add_n([tf.reduce_sum(seen(name), [0, 1, 2])[:1] for name in CONSTANTS])
        return {"y": total + x @ module.w}

    signatures = {name: plus(name) for name in CONSTANTS}
    save(folder, module, serving_default=served(product, x=BATCH), **signatures)


def _kinds() -> list[Kind]:
    network = {"x": X, **NUMBERS}
    no, all_of_it = 0.0, OPTIMIZED
    two, twos = np.array([[2.0]], np.float32), np.array([1.5, 2.5])
    rest = ("before", "checked", "checked_behind")
    nan = X.copy()
    nan[0] = np.nan
    stamps = np.array([1764000000000, 1764003600000 * 3], np.int64)
    nothing = {name: [[np.nan] * 3] * 2 for name in ("relu", "clip", "maximum")}
    every_nan = {"x": np.full_like(X, np.nan)}
    integer_outcomes = _integer_outcomes()
    return [
        Kind(
            "integers",
            write_integers,
            [(case.signature, case.inputs) for case in integer_outcomes if not case.error],
            outcomes=integer_outcomes,
            shares=dict.fromkeys(["add", "remainder", "half", "seventh", "bytes", "divide"], no),
        ),
        Kind(
            "integers_in_network",
            write_integers_in_network,
            [(DEFAULT, network), ("divided", {"x": X, "c": np.array([7, -3], np.int32)})],
            outcomes=[
                Outcome(DEFAULT, network, {"a": [124, 994], "b": [2000000000, 2], "d": [144, 20]}),
                Outcome("divided", {"x": X, "c": np.array([0, 1], np.int32)}, error=INVALID),
            ],
            shares={DEFAULT: all_of_it, "divided": all_of_it},
        ),
        Kind(
            "hours",
            write_hours,
            [(DEFAULT, {"ts": stamps})],
            [(DEFAULT, {"ts": np.array([-1, 2**62], np.int64)})],
            outcomes=[Outcome(DEFAULT, {"ts": stamps[:1]})],
        ),
        Kind(
            "doubles",
            write_doubles,
            [
                (DEFAULT, {"x": X.astype(np.float64)}),
                ("minus", {"a": 1764000000.0 + twos, "b": twos}),
                ("both", {"x": X, "a": 1764000000.0 + twos, "b": twos}),
            ],
            outcomes=[
                Outcome(
                    "minus", {"a": np.array([1764000000.25]), "b": np.array([1764000000.0])}, {"y": [0.25]}
                )
            ],
            shares={DEFAULT: no, "minus": no, "both": all_of_it},
            reasons={DEFAULT: "MatMul.*float64"},
        ),
        Kind(
            "casts",
            write_casts,
            [
                (DEFAULT, {"x": X}),
                ("before", {"n": np.arange(8, dtype=np.int64).reshape(2, 4) * 50021}),
                ("alone", {"x": np.array([3e9, -1.5], np.float32)}),
            ],
            outcomes=[Outcome("alone", {"x": np.array([3e9], np.float32)}, {"y": [3000000000]})],
            shares={DEFAULT: all_of_it, "before": all_of_it, "alone": no},
        ),
        Kind(
            "scatter",
            write_scatter,
            [(DEFAULT, {"at": np.array([1, 4, 1], np.int32), "amounts": np.array([1, 2, 4], np.float32)})],
            outcomes=[
                Outcome(
                    DEFAULT,
                    {"at": np.array([2, 2], np.int32), "amounts": np.array([1, 2], np.float32)},
                    {"row": [0, 0, 3, 0, 0, 0, 0, 0, 0, 0]},
                ),
                Outcome(
                    DEFAULT,
                    {"at": np.array([10], np.int32), "amounts": np.array([1], np.float32)},
                    error=INVALID,
                ),
            ],
        ),
        Kind(
            "gather",
            write_gather,
            [(DEFAULT, {"i": np.array([0, 9, 3], np.int64)})],
            outcomes=[
                Outcome(DEFAULT, {"i": np.array([3, 12], np.int64)}, error=INVALID),
                Outcome(DEFAULT, {"i": np.array([-1], np.int64)}, error=INVALID),
            ],
        ),
        Kind(
            "nans",
            write_nans,
            [(name, {"x": abs(X)}) for name in (DEFAULT, *rest, "alone")],
            [(name, {"x": nan}) for name in (DEFAULT, "before", "checked_behind", "alone")],
            outcomes=[
                Outcome("checked", {"x": nan}, error=INVALID),
                Outcome("checked_behind", {"x": -abs(X)}, error=INVALID),
                Outcome(DEFAULT, every_nan, nothing),
                Outcome("before", every_nan, {"y": [[np.nan] * 3] * 2}),
                Outcome("alone", every_nan, {"y": [[np.nan] * 4] * 2, "max": [np.nan] * 2}),
            ],
            shares={**dict.fromkeys([DEFAULT, *rest], all_of_it), "alone": no},
        ),
        Kind(
            "asserts",
            write_asserts,
            [(DEFAULT, {"x": abs(X), "n": np.array([3, 9], np.int32)}), ("behind", {"x": X})],
            outcomes=[
                Outcome(DEFAULT, {"x": X - 9, "n": np.array([3, 9], np.int32)}, error=INVALID),
                Outcome(DEFAULT, {"x": abs(X), "n": np.array([3, 10], np.int32)}, error=INVALID),
                Outcome("behind", {"x": np.sign(floats(3, 1, 4)) * 1e4}, error=INVALID),
            ],
            shares={DEFAULT: all_of_it, "behind": all_of_it},
        ),
        Kind(
            "constant_images",
            write_constant_images,
            [(name, {"x": two}) for name in CONSTANTS] + [(DEFAULT, {"x": X})],
            outcomes=[
                *[Outcome("convolution", {"x": two}, {"y": [[10.0]]})] * 5,
                *[Outcome("grouped", {"x": two}, {"y": [[6.0]]})] * 5,
                *[Outcome("pooled", {"x": two}, {"y": [[3.0]]})] * 5,
                *[Outcome("depthwise", {"x": two}, {"y": [[6.0]]})] * 5,
            ],
            shares={DEFAULT: all_of_it, **dict.fromkeys(CONSTANTS, no)},
        ),
    ]


KINDS = _kinds()
