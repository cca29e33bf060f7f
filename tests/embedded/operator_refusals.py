"""Requests that TensorFlow refuses because sizes do not fit, where OpenVINO might answer with a number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from embedded_server.graph.errors import CannotConvert
from operator_cases import Case, Tensor
from operator_cases.case import weights
from operator_comparison import Array, Graph

raw = tf.raw_ops
_Shape = tuple[int | None, ...]
_ANY = (None, None)
_ANY3 = (None, None, None)
_IMAGE = (None, None, None, 3)


@dataclass(frozen=True)
class Refusal:
    """A graph, and the shapes of a request that TensorFlow refuses."""

    name: str
    case: Case
    fed: tuple[tuple[int, ...], ...]
    kills: bool = False
    """Whether OpenVINO's answer is the end of the process."""

    def values(self) -> list[Array]:
        random = np.random.default_rng(5)
        return [
            np.asarray(
                random.normal(size=shape) > 0 if tensor.dtype == tf.bool else random.normal(size=shape)
            ).astype(tensor.dtype.as_numpy_dtype)
            for shape, tensor in zip(self.fed, self.case.inputs, strict=True)
        ]


def tensorflow_refuses(graph: Graph, refusal: Refusal) -> bool:
    """Whether TensorFlow answers with an error."""
    try:
        graph.tensorflow(*refusal.values())
    except tf.errors.OpError:
        return True
    return False


def answers(graph: Graph, refusal: Refusal) -> bool:
    """Whether OpenVINO answers with numbers, in any form."""
    if refusal.kills:
        return True
    try:
        graph.compile()
    except (CannotConvert, RuntimeError):
        return False
    for form in graph.forms(refusal.values()):
        try:
            graph.openvino(form, refusal.values())
        except RuntimeError:
            continue
        return True
    return False


def _refusal(
    name: str,
    build: Callable[..., Any],
    *shapes: tuple[_Shape, tuple[int, ...]],
    dtypes: Sequence[tf.DType] = (),
    kills: bool = False,
) -> Refusal:
    """shapes: for each input the declared one and the one of the request."""
    given = [*dtypes, *[tf.float32] * (len(shapes) - len(dtypes))]
    inputs = tuple(Tensor(declared, dtype) for (declared, _), dtype in zip(shapes, given, strict=True))
    return Refusal(name, Case(name, "", inputs, build), tuple(fed for _, fed in shapes), kills)


def _conv(x: Any, size: int = 3, padding: str = "VALID") -> Any:
    return raw.Conv2D(input=x, filter=weights((size, size, 3, 4)), strides=[1, 1, 1, 1], padding=padding)


def _transposed(x: Any, rows: Any) -> Any:
    return raw.Conv2DBackpropInput(
        input_sizes=tf.stack([rows, 10, 10, 4]), filter=weights((3, 3, 4, 3)), out_backprop=x,
        strides=[1, 2, 2, 1], padding="SAME",
    )  # fmt: skip


def _einsum(equation: str) -> Callable[..., Any]:
    return lambda *x: raw.Einsum(inputs=list(x), equation=equation)


def _select(c: Any, x: Any, y: Any) -> Any:
    return raw.Select(condition=c, x=x, y=y)


def _add_n(*x: Any) -> Any:
    return raw.AddN(inputs=list(x))


_BOOL = (tf.bool,)
REFUSALS = (
    _refusal("AddN rows", _add_n, (_ANY, (3, 5)), (_ANY, (1, 5))),
    _refusal("AddN rows, known columns", _add_n, ((None, 5), (3, 5)), ((None, 5), (1, 5))),
    _refusal("AddN columns", _add_n, (_ANY, (3, 5)), (_ANY, (3, 1))),
    _refusal("AddN other rows", _add_n, (_ANY, (3, 5)), (_ANY, (2, 5))),
    *(
        _refusal(
            f"{op} columns", lambda x, y, o=op: getattr(raw, o)(x=x, y=y), (_ANY, (3, 5)), (_ANY, (3, 4))
        )
        for op in ("AddV2", "Sub", "Mul", "Maximum", "SquaredDifference", "RealDiv", "Greater", "Equal")
    ),
    _refusal("AddV2 rows", lambda x, y: x + y, (_ANY, (3, 5)), (_ANY, (2, 5))),
    _refusal("AddV2 rows, known columns", lambda x, y: x + y, ((None, 5), (3, 5)), ((None, 5), (2, 5))),
    _refusal("Sub of constant", lambda x: x - weights((4,)), (_ANY, (3, 5))),
    _refusal("BiasAdd of one", lambda x: raw.BiasAdd(value=x, bias=weights((1,))), (_ANY, (3, 5))),
    _refusal("BiasAdd to one", lambda x: raw.BiasAdd(value=x, bias=weights((5,))), (_ANY, (3, 1))),
    _refusal("BiasAdd", lambda x: raw.BiasAdd(value=x, bias=weights((5,))), (_ANY, (3, 4))),
    _refusal("BiasAdd fed", lambda x, y: raw.BiasAdd(value=x, bias=y), (_ANY, (3, 5)), ((None,), (1,))),
    _refusal("Select one row", _select, ((None,), (3,)), (_ANY, (1, 5)), (_ANY, (1, 5)), dtypes=_BOOL),
    _refusal("Select other rows", _select, (_ANY, (3, 5)), (_ANY, (3, 5)), (_ANY, (1, 5)), dtypes=_BOOL),
    _refusal("Select condition", _select, (_ANY, (1, 5)), (_ANY, (3, 5)), (_ANY, (3, 5)), dtypes=_BOOL),
    _refusal(
        "Select condition, known columns",
        _select,
        ((None, 5), (1, 5)),
        ((None, 5), (3, 5)),
        ((None, 5), (3, 5)),
        dtypes=_BOOL,
    ),
    _refusal(
        "SelectV2 columns",
        lambda c, x, y: raw.SelectV2(condition=c, t=x, e=y),
        (_ANY, (3, 5)),
        (_ANY, (3, 5)),
        (_ANY, (3, 4)),
        dtypes=_BOOL,
    ),
    _refusal(
        "ClipByValue limits",
        lambda x, a, b: raw.ClipByValue(t=x, clip_value_min=a, clip_value_max=b),
        (_ANY, (3, 5)),
        ((None,), (5,)),
        ((None,), (5,)),
    ),
    *(
        _refusal(
            f"MatMul {fed} columns by a constant of {size} rows",
            lambda x, s=size: raw.MatMul(a=x, b=weights((s, 3))),
            (_ANY, (3, fed)),
        )
        for fed, size in ((1, 4), (5, 4), (4, 1))
    ),
    _refusal("MatMul fed, 1 by 4", lambda x, y: raw.MatMul(a=x, b=y), (_ANY, (3, 1)), (_ANY, (4, 2))),
    _refusal("MatMul fed, 5 by 4", lambda x, y: raw.MatMul(a=x, b=y), (_ANY, (3, 5)), (_ANY, (4, 2))),
    _refusal(
        "MatMul rows by rows",
        lambda x, y: raw.MatMul(a=x, b=y, transpose_a=True),
        ((None, 5), (3, 5)),
        ((None, 4), (1, 4)),
    ),
    _refusal(
        "BatchMatMul batches",
        lambda x, y: raw.BatchMatMul(x=x, y=y),
        ((None, 2, 4), (3, 2, 4)),
        ((None, 4, 3), (1, 4, 3)),
    ),
    _refusal(
        "BatchMatMulV2 batches",
        lambda x, y: raw.BatchMatMulV2(x=x, y=y),
        ((None, 2, 4), (3, 2, 4)),
        ((None, 4, 3), (2, 4, 3)),
    ),
    _refusal(
        "BatchMatMulV2 1 by 4",
        lambda x, y: raw.BatchMatMulV2(x=x, y=y),
        (_ANY3, (3, 2, 1)),
        (_ANY3, (3, 4, 3)),
    ),
    _refusal(
        "BatchMatMulV2 by a constant", lambda x: raw.BatchMatMulV2(x=x, y=weights((4, 3))), (_ANY3, (3, 2, 1))
    ),
    _refusal("Einsum ij,jk->ik", _einsum("ij,jk->ik"), (_ANY, (3, 1)), (_ANY, (4, 3))),
    _refusal("Einsum rows", _einsum("bij,bjk->bik"), ((None, 2, 4), (3, 2, 4)), ((None, 4, 3), (1, 4, 3))),
    _refusal("Einsum bi,bi->b", _einsum("bi,bi->b"), ((None, 4), (3, 4)), ((None, 4), (1, 4))),
    *(
        _refusal(
            f"Einsum abc,cde->abde, c is {size}",
            lambda x: raw.Einsum(inputs=[x, weights((4, 2, 3))], equation="abc,cde->abde"),
            (_ANY3, (3, 2, size)),
        )
        for size in (1, 5)
    ),
    _refusal("Reshape", lambda x: tf.reshape(x, [-1, 4]), (_ANY, (3, 5))),
    _refusal("Reshape, computed", lambda x: tf.reshape(x, tf.stack([tf.shape(x)[0], 4])), (_ANY, (3, 5))),
    _refusal("StridedSlice beyond", lambda x: x[:, 5], (_ANY, (3, 5))),
    _refusal("StridedSlice before", lambda x: x[:, -6], (_ANY, (3, 5))),
    _refusal("StridedSlice row beyond", lambda x: x[3], ((None, 5), (3, 5))),
    _refusal("StridedSlice second row of one", lambda x: x[1], ((None, 5), (1, 5))),
    _refusal("Slice beyond", lambda x: tf.slice(x, [0, 2], [-1, 4]), (_ANY, (3, 5))),
    _refusal("Slice from beyond", lambda x: tf.slice(x, [0, 7], [-1, -1]), (_ANY, (3, 5))),
    _refusal("Slice rows", lambda x: tf.slice(x, [0, 0], [3, -1]), ((None, 5), (2, 5))),
    _refusal("Conv2D channels", lambda x: _conv(x, padding="SAME"), ((None, None, None, None), (2, 5, 5, 4))),
    _refusal(
        "Conv2D one channel", lambda x: _conv(x, padding="SAME"), ((None, None, None, None), (2, 5, 5, 1))
    ),
    _refusal("Conv2D far too small", lambda x: _conv(x, 5), (_IMAGE, (2, 2, 2, 3))),
    _refusal("Conv2DBackpropInput sizes", lambda x: _transposed(x, tf.shape(x)[0]), (_IMAGE, (2, 4, 4, 3))),
    _refusal("Conv2DBackpropInput rows", lambda x: _transposed(x, 2), ((None, 5, 5, 3), (3, 5, 5, 3))),
    _refusal("ConcatV2 one row", lambda x, y: tf.concat([x, y], 1), ((None, 5), (3, 5)), ((None, 5), (1, 5))),
    _refusal("ConcatV2 rows", lambda x, y: tf.concat([x, y], 1), ((None, 5), (3, 5)), ((None, 5), (2, 5))),
    _refusal("ConcatV2 columns", lambda x, y: tf.concat([x, y], 0), (_ANY, (3, 5)), (_ANY, (3, 4))),
    _refusal("Pack one row", lambda x, y: tf.stack([x, y]), ((None, 5), (3, 5)), ((None, 5), (1, 5))),
    _refusal("Pack columns", lambda x, y: tf.stack([x, y], 1), (_ANY, (3, 5)), (_ANY, (3, 4))),
    _refusal("Unpack", lambda x: tf.unstack(x, 4, axis=1), (_ANY, (3, 5))),
    _refusal("Split", lambda x: tf.split(x, 2, 1), (_ANY, (3, 5))),
    _refusal("SplitV less", lambda x: tf.split(x, [2, 2], 1), (_ANY, (3, 5))),
    _refusal("SplitV more", lambda x: tf.split(x, [2, 4], 1), (_ANY, (3, 5))),
    _refusal("Squeeze", lambda x: tf.squeeze(x, [1]), ((None, None, 3), (3, 2, 3))),
    _refusal("MirrorPad REFLECT", lambda x: tf.pad(x, [[0, 0], [3, 0]], "REFLECT"), (_ANY, (3, 3))),
    _refusal("MirrorPad SYMMETRIC", lambda x: tf.pad(x, [[0, 0], [4, 0]], "SYMMETRIC"), (_ANY, (3, 3))),
    _refusal("BroadcastTo", lambda x: tf.broadcast_to(x, tf.stack([tf.shape(x)[0], 4])), (_ANY, (3, 5))),
    _refusal("BroadcastTo one row", lambda x: tf.broadcast_to(x, [1, 5]), ((None, 5), (3, 5))),
    _refusal("GatherV2 beyond", lambda x: tf.gather(x, [4], axis=1), (_ANY, (3, 4))),
    _refusal("GatherV2 before", lambda x: tf.gather(x, [-1], axis=1), ((None, 4), (3, 4))),
    _refusal("GatherV2 row", lambda x: tf.gather(x, [2]), ((None, 4), (2, 4))),
    _refusal("GatherNd", lambda x: tf.gather_nd(x, [[5]]), ((None, 4), (3, 4))),
    _refusal("SpaceToDepth", lambda x: tf.nn.space_to_depth(x, 2), (_IMAGE, (2, 5, 4, 3))),
    _refusal("DepthToSpace", lambda x: tf.nn.depth_to_space(x, 2), ((None, None, None, None), (2, 5, 4, 6))),
    _refusal(
        "SpaceToBatchND",
        lambda x: raw.SpaceToBatchND(input=x, block_shape=[2, 2], paddings=[[0, 0], [0, 0]]),
        (_IMAGE, (2, 5, 4, 3)),
    ),
    _refusal(
        "BatchToSpaceND rows",
        lambda x: raw.BatchToSpaceND(input=x, block_shape=[2, 2], crops=[[0, 0], [0, 0]]),
        (_IMAGE, (3, 5, 4, 3)),
    ),
    _refusal(
        "BatchToSpaceND crops",
        lambda x: raw.BatchToSpaceND(input=x, block_shape=[2, 2], crops=[[3, 3], [0, 0]]),
        (_IMAGE, (4, 2, 4, 3)),
    ),
    _refusal("TopKV2", lambda x: raw.TopKV2(input=x, k=5).values, (_ANY, (3, 3))),
    _refusal("Range of no step", lambda x: tf.range(0, 3, tf.shape(x)[0] - 3), ((None,), (3,)), kills=True),
    _refusal("Range backwards", lambda x: tf.range(tf.shape(x)[0], 0, 1), ((None,), (3,))),
    _refusal("Fill", lambda x: tf.fill(tf.shape(x) - 5, 1.0), ((None,), (3,))),
    _refusal("Tile", lambda x: tf.tile(x, tf.shape(x) - 5), ((None,), (3,))),
    _refusal("FloorDiv by 0", lambda x: tf.shape(x) // (tf.shape(x) - 3), ((None,), (3,)), kills=True),
    _refusal("FloorMod by 0", lambda x: tf.shape(x) % (tf.shape(x) - 3), ((None,), (3,)), kills=True),
    _refusal(
        "ResizeBilinear to 0",
        lambda x: raw.ResizeBilinear(images=x, size=tf.shape(x)[1:3] - 4),
        (_IMAGE, (2, 4, 4, 3)),
    ),
    _refusal("MatrixBandPart", lambda x: tf.linalg.band_part(x, 9, 0), (_ANY3, (2, 4, 4))),
)
