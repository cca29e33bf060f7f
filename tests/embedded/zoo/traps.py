"""Networks that turn a small difference, or a number that is not finite, into another answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.kind import DEFAULT, OPTIMIZED, Kind, Outcome, floats, save, served, spec, weight

X = floats(251, 3, 8)
BATCH = spec(None, 8)


def _module() -> Any:
    module = tf.Module()
    module.w = weight(252, 8, 6)
    return module


def write_odd_weights(folder: Path) -> None:
    """Weights as a training that went wrong leaves them: NaN, infinite, huge, below the normal numbers."""
    module = tf.Module()

    def signature(value: float) -> Any:
        values = floats(253, 8, 6)
        values[2, 3] = value
        variable = tf.Variable(values)
        setattr(module, f"w{len(vars(module))}", variable)

        def serve(x: tf.Tensor) -> Any:
            hidden = tf.nn.relu(x @ variable)
            return {"y": tf.clip_by_value(hidden, 0.0, 6.0), "best": tf.argmax(hidden, 1)}

        return served(serve, x=BATCH)

    save(folder, module, **{name: signature(value) for name, value in ODD.items()})


ODD = {"nan": np.nan, "infinite": -np.inf, "huge": 3e38, "tiny": 1e-41}


def write_infinite_mask(folder: Path) -> None:
    """Causal attention whose mask is infinite, and one that a request can close altogether."""
    module = _module()
    causal = np.triu(np.full((5, 5), -np.inf, np.float32), 1)

    def serve(x: tf.Tensor, keep: tf.Tensor) -> Any:
        y = tf.einsum("bti,ij->btj", x, module.w)
        scores = tf.matmul(y, y, transpose_b=True) + causal
        closed = tf.where(keep[:, None, :] > 0.0, scores, -np.inf)
        return {
            "causal": tf.matmul(tf.nn.softmax(scores), y),
            "closed": tf.nn.relu(tf.matmul(tf.nn.softmax(closed), y)),
        }

    save(folder, module, serving_default=served(serve, x=spec(None, 5, 8), keep=spec(None, 5)))


def write_lost(folder: Path) -> None:
    """Quotients of infinities that are NaN in between, and then limited, compared or chosen from."""
    module = _module()

    def serve(x: tf.Tensor) -> Any:
        powers = tf.exp(x @ module.w)
        p = powers / (1.0 + powers)
        shares = powers / tf.reduce_sum(powers, 1, keepdims=True)
        return {
            "limited": tf.clip_by_value(p, 0.0, 1.0),
            "positive": tf.nn.relu(p - 0.5),
            "largest": tf.reduce_max(shares, 1),
            "scored": tf.nn.relu(shares @ tf.transpose(module.w)),
        }

    save(folder, module, serving_default=served(serve, x=BATCH))


def write_amplified(folder: Path) -> None:
    """Numbers below the normal ones, made large again."""
    module = _module()
    save(folder, module, serving_default=served(lambda x: {"y": (x * 1e38) @ module.w}, x=BATCH))


def write_oscillating(folder: Path) -> None:
    """Waves of a product, as in Fourier features: far from zero they follow the last digit."""
    module = _module()

    def waves(x: tf.Tensor) -> Any:
        y = (x @ module.w) * 6.0
        return {"sin": tf.sin(y), "cos": tf.cos(y)}

    save(folder, module, serving_default=served(waves, x=BATCH))


def write_complement(folder: Path) -> None:
    """The logarithm of one minus a probability, where the probability is nearly 1."""
    module = _module()

    def serve(x: tf.Tensor) -> Any:
        p = tf.sigmoid(x @ module.w)
        return {"p": p, "surprise": -tf.math.log(1.0 - p + 1e-6)}

    save(folder, module, serving_default=served(serve, x=BATCH))


def write_truncated(folder: Path) -> None:
    """A mean of pixels cut down to a whole number."""
    module = tf.Module()
    module.kernel = tf.Variable(np.ones((3, 3, 1, 2), np.float32))

    def serve(pixels: tf.Tensor) -> Any:
        seen = tf.nn.conv2d(pixels, module.kernel, 1, "VALID")
        mean = tf.reduce_mean(seen, [1, 2]) / 9.0
        return {"level": tf.cast(mean, tf.int32), "floor": tf.floor(mean)}

    save(folder, module, serving_default=served(serve, pixels=spec(None, 9, 9, 1)))


def _kinds() -> list[Kind]:
    x = [(DEFAULT, {"x": X})]
    keep = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0]], np.float32)
    masked = {"x": floats(254, 2, 5, 8), "keep": keep}
    closed = {**masked, "keep": np.zeros((2, 5), np.float32)}
    levels = np.arange(1, 8, dtype=np.float32)[:, None, None, None] * np.ones((1, 9, 9, 1), np.float32)
    tiny = np.full((1, 8), 1e-39, np.float32)
    return [
        Kind(
            "odd_weights",
            write_odd_weights,
            [(name, {"x": X}) for name in ODD],
            shares={**dict.fromkeys(ODD, 0.0), "tiny": OPTIMIZED},
        ),
        Kind(
            "infinite_mask",
            write_infinite_mask,
            [(DEFAULT, masked)],
            [(DEFAULT, closed)],
            shares={DEFAULT: 0.0},
        ),
        Kind(
            "lost",
            write_lost,
            x,
            [(DEFAULT, {"x": X * s}) for s in (30.0, 100.0, 1000.0)],
            shares={DEFAULT: 0.0},
        ),
        Kind("amplified", write_amplified, x, [(DEFAULT, {"x": tiny})], shares={DEFAULT: 0.0}),
        Kind(
            "oscillating",
            write_oscillating,
            x,
            [(DEFAULT, {"x": X * s}) for s in (1e2, 1e4)],
        ),
        Kind(
            "complement",
            write_complement,
            [(DEFAULT, {"x": X * 0.3})],
            [(DEFAULT, {"x": X * s}) for s in (1.0, 5.0, 12.0)],
        ),
        Kind(
            "truncated",
            write_truncated,
            [(DEFAULT, {"pixels": levels[2:5]})],
            [(DEFAULT, {"pixels": levels})],
            outcomes=[Outcome(DEFAULT, {"pixels": levels[2:5]}, {"floor": [[3, 3], [4, 4], [5, 5]]})],
        ),
    ]


KINDS = _kinds()
