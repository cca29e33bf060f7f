"""Arithmetic with the sizes of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from operator_cases.case import Case, Tensor

raw = tf.raw_ops


def _rank(x: Any) -> list[Any]:
    return _with_data(raw.Rank(input=x) + tf.shape(x)[0], x)


def _with_data(results: Any, x: Any) -> list[Any]:
    """OpenVINO would leave an input out of which it needs nothing."""
    return [*(results if isinstance(results, list | tuple) else [results]), tf.abs(x)]


def shape_arithmetic() -> Iterator[Case]:
    functions: dict[str, Callable[..., Any]] = {
        "Add": lambda s: raw.Add(x=s, y=tf.gather(s, [2, 0, 1])),
        "AddV2": lambda s: raw.AddV2(x=s, y=tf.gather(s, [2, 0, 1])),
        "Sub": lambda s: raw.Sub(x=s, y=tf.gather(s, [2, 0, 1])),
        "Mul": lambda s: raw.Mul(x=s, y=tf.gather(s, [2, 0, 1])),
        "FloorDiv": lambda s: raw.FloorDiv(x=s * 5 + 1, y=tf.gather(s, [2, 0, 1])),
        "FloorMod": lambda s: raw.FloorMod(x=s * 5 + 1, y=tf.gather(s, [2, 0, 1])),
        "Maximum": lambda s: raw.Maximum(x=s, y=tf.gather(s, [2, 0, 1])),
        "Minimum": lambda s: raw.Minimum(x=s, y=tf.gather(s, [2, 0, 1])),
        "Prod": lambda s: raw.Prod(input=s, axis=[0]),
        "Sum": lambda s: raw.Sum(input=s, axis=[0]),
        "Max": lambda s: raw.Max(input=s, axis=[0]),
        "Min": lambda s: raw.Min(input=s, axis=[0]),
        "StridedSlice reversed": lambda s: s[::-1],
        "Add rows": lambda s: raw.Add(x=s, y=s[:1]),
        "Gather": lambda s: raw.Gather(params=s, indices=[1, 0]),
        "Transpose": lambda s: raw.Transpose(x=tf.reshape(s, [3, 1]), perm=[1, 0]),
        "Mul constant": lambda s: s * 2,
        "Sub constant": lambda s: s - 1,
        "Size": lambda s: tf.size(s, s.dtype) + s[0],
        "Shape": lambda s: tf.shape(s, s.dtype) + s[:1],
        "Rint": lambda s: tf.round(tf.cast(s, tf.float32)),
        "Cast to int64": lambda s: tf.cast(s, tf.int64),
        "Cast to int32": lambda s: tf.cast(s, tf.int32),
        "Range steps": lambda s: tf.range(0, s[0], 1),
        "FloorDiv halves": lambda s: s // 2,
        "FloorMod halves": lambda s: s % 2,
        "Pack alone": lambda s: tf.stack([s[0]]),
        "ExpandDims scalar": lambda s: tf.expand_dims(s[0], 0),
        "StridedSlice last": lambda s: s[-1],
        "StridedSlice but first": lambda s: s[1:],
        "Neg": lambda s: raw.Neg(x=s),
        "Cast": lambda s: tf.cast(s, tf.float32),
        "Pack": lambda s: tf.stack([s[1], s[0], tf.constant(-1, s.dtype)]),
        "ConcatV2": lambda s: tf.concat([s[1:], s[:1]], 0),
        "StridedSlice": lambda s: s[-1:0:-1],
        "GatherV2": lambda s: tf.gather(s, [2, 0]),
        "Range": lambda s: tf.range(s[0]),
        "Equal": lambda s: raw.Equal(x=s, y=tf.constant(2, s.dtype)),
        "Greater": lambda s: s > 2,
        "Less": lambda s: s < s[0],
        "NotEqual": lambda s: raw.NotEqual(x=s, y=tf.constant(2, s.dtype)),
        "GreaterEqual": lambda s: s >= 2,
        "LessEqual": lambda s: s <= s[0],
        "Select": lambda s: raw.Select(condition=s > 2, x=s, y=tf.gather(s, [2, 0, 1])),
        "SelectV2": lambda s: tf.where(s > 2, s, tf.gather(s, [2, 0, 1])),
        "Reshape": lambda s: tf.reshape(s, [3, 1]),
        "ExpandDims": lambda s: tf.expand_dims(s, 0),
        "Squeeze": lambda s: tf.squeeze(s[:1], [0]),
        "Identity": lambda s: tf.identity(s),
        "Fill": lambda s: tf.fill(s, 1.0),
        "Unpack": lambda s: tf.unstack(s),
        "Slice": lambda s: tf.slice(s, [1], [2]),
        "Split": lambda s: tf.split(s, 3),
        "Tile": lambda s: tf.tile(s, [2]),
        "Abs": lambda s: tf.abs(s - 4),
        "Square": lambda s: tf.square(s),
        "FloorDiv negative": lambda s: raw.FloorDiv(x=s * -5 + 1, y=tf.gather(s, [2, 0, 1])),
        "FloorMod negative": lambda s: raw.FloorMod(x=s * -5 + 1, y=tf.gather(s, [2, 0, 1])),
        "FloorDiv constant": lambda s: raw.FloorDiv(x=s * 7 - 9, y=tf.constant(2, s.dtype)),
        "FloorMod constant": lambda s: raw.FloorMod(x=s * 7 - 9, y=tf.constant(3, s.dtype)),
        "RealDiv": lambda s: raw.RealDiv(x=tf.cast(s, tf.float32), y=3.0),
        "Ceil": lambda s: tf.cast(tf.math.ceil(tf.cast(s, tf.float32) / 2.0), tf.int32),
        "Mul large": lambda s: s * 1000003,
        "Cumsum": lambda s: tf.cumsum(s),
        "BroadcastArgs": lambda s: raw.BroadcastArgs(s0=s, s1=tf.constant([1], s.dtype)),
        "All": lambda s: tf.reduce_all(s > 0),
        "ConcatV2 scalarless": lambda s: tf.concat([s[:1], tf.constant([3, 8], s.dtype)], 0),
    }
    tensor = Tensor((None, 4, 6))
    yield Case("Rank", "of shape, int32", (tensor,), _rank, of_shapes=True)
    for name, function in functions.items():
        op, _, rest = name.partition(" ")
        for out in (tf.int32, tf.int64):
            yield Case(
                op,
                f"{rest} of shape, {out.name}".strip(),
                (tensor,),
                lambda x, f=function, t=out: _with_data(f(tf.shape(x, t)), x),
                of_shapes=True,
            )
