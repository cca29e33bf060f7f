"""Sums, largest elements, softmax."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from operator_cases.case import FLOATS, Case, Kind, same_for

raw = tf.raw_ops


def reductions() -> Iterator[Case]:
    axes = ([1], [-1], [1, 2], [0], [], [0, 1, 2], [2, 1])
    for op in ("Mean", "Sum", "Max", "Min", "Prod"):
        for keep in (False, True):
            for axis in axes:
                kind = Kind.SMALL if op == "Prod" else Kind.ANY
                yield from same_for(
                    op, lambda x, o=op, k=keep, a=axis: getattr(raw, o)(
                        input=x, axis=np.array(a, np.int32), keep_dims=k),
                    (None, 3, 5), variant=f"{axis} {keep}", kind=kind, exact=op in ("Max", "Min"),
                    dtypes=FLOATS if axis in ([1], [1, 2]) else [tf.float32],
                )  # fmt: skip
        yield from same_for(
            op, lambda x, o=op: getattr(raw, o)(input=x, axis=np.int32(-1)), (None, 4), variant="scalar axis",
            kind=Kind.SMALL, dtypes=[tf.float32, tf.int32, tf.int64],
            exact=op in ("Max", "Min"),
        )  # fmt: skip
    yield from same_for(
        "Mean",
        lambda x: raw.Mean(input=x, axis=np.array([1, 2], np.int32)),
        (None, 7, 7, 65),
        variant="global pool",
    )
    yield from same_for("Sum", lambda x: raw.Sum(input=x, axis=np.int32(-1)), (None, 4099), variant="long")
    yield from same_for("Mean", lambda x: raw.Mean(input=x, axis=np.int32(-1)), (None, 4099), variant="long")
    for op in ("All", "Any"):
        for axis in ([1], [-1], [0, 1], []):
            yield from same_for(
                op,
                lambda x, o=op, a=axis: getattr(raw, o)(input=x, axis=np.array(a, np.int32)),
                (None, 3, 2),
                variant=f"{axis}",
                dtypes=[tf.bool],
            )
    yield from same_for("L2Loss", lambda x: raw.L2Loss(t=x))
    yield from same_for("EuclideanNorm", lambda x: raw.EuclideanNorm(input=x, axis=np.array([1], np.int32)))
    for op in ("ArgMax", "ArgMin"):
        for axis in (0, 1, -1):
            for output in (tf.int32, tf.int64):
                yield from same_for(
                    op,
                    lambda x, o=op, a=axis, t=output: getattr(raw, o)(
                        input=x, dimension=np.int32(a), output_type=t
                    ),
                    (None, 5, 4),
                    variant=f"{axis} {output.name}",
                    kind=Kind.NORMAL,
                    dtypes=FLOATS if axis == 1 else [tf.float32],
                )
        yield from same_for(
            op, lambda x, o=op: getattr(raw, o)(input=x, dimension=np.int32(1)), (None, 101), variant="long",
            dtypes=[tf.float32, tf.int32, tf.uint8], kind=Kind.NORMAL,
        )  # fmt: skip
    for k in (1, 3, 10):
        for ordered in (True, False):
            yield from same_for(
                "TopKV2",
                lambda x, k=k, s=ordered: (lambda r: [r.values, r.indices])(
                    raw.TopKV2(input=x, k=k, sorted=s)
                ),
                (None, 10),
                variant=f"{k} of 10, sorted {ordered}",
                dtypes=(*FLOATS, tf.int32) if ordered else [tf.float32],
                kind=Kind.NORMAL,
                exact=True,
                differs=None if ordered else "another order",
            )
    yield from same_for(
        "TopKV2", lambda x: (lambda r: [r.values, r.indices])(raw.TopKV2(input=x, k=5)), (None, 1000),
        kind=Kind.NORMAL,
        variant="5 of 1000", exact=True, dtypes=[tf.float32],
    )  # fmt: skip
    yield from same_for(
        "TopKV2",
        lambda x: raw.TopKV2(input=x, k=5)[0],
        (None, 1000),
        variant="values, 5 of 1000",
        exact=True,
        dtypes=[tf.float32],
    )
    for exclusive in (False, True):
        for reverse in (False, True):
            for axis in (1, -1, 0):
                yield from same_for(
                    "Cumsum",
                    lambda x, e=exclusive, r=reverse, a=axis: raw.Cumsum(x=x, axis=a, exclusive=e, reverse=r),
                    (None, 5, 4),
                    variant=f"{axis} {exclusive} {reverse}",
                    dtypes=(*FLOATS, tf.int32, tf.int64) if axis == 1 else [tf.float32],
                    kind=Kind.SMALL,
                )


def softmaxes() -> Iterator[Case]:
    for shape in ((None,), (None, 5), (None, 3, 5), (None, 2, 3, 5), (None, 1), (None, 1001)):
        yield from same_for("Softmax", lambda x: raw.Softmax(logits=x), shape, variant=f"{shape}")
        yield from same_for("LogSoftmax", lambda x: raw.LogSoftmax(logits=x), shape, variant=f"{shape}")
    yield from same_for(
        "Softmax",
        lambda x: tf.transpose(raw.Softmax(logits=tf.transpose(x, [0, 2, 1])), [0, 2, 1]),
        (None, 3, 5),
        variant="axis 1",
    )
