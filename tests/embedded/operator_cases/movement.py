"""What moves numbers and leaves them as they are, and resizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from operator_cases.case import FLOATS, TOLERANCES, Case, Tensor, same_for, weights

raw = tf.raw_ops
_MOVED = (*FLOATS, tf.int32, tf.bool, tf.uint8, tf.int8)


def _moved(
    op: str, variant: str, build: Callable[..., Any], *shapes: tuple[int | None, ...], all_types: bool = True
) -> Iterator[Case]:
    yield from same_for(
        op, build, *shapes, variant=variant, exact=True, dtypes=_MOVED if all_types else [tf.float32]
    )


def movement() -> Iterator[Case]:
    cube: tuple[int | None, ...] = (None, 4, 6)
    yield from _moved("Reshape", "constant", lambda x: tf.reshape(x, [-1, 24]), cube)
    yield from _moved("Reshape", "to one", lambda x: tf.reshape(x, [-1]), cube, all_types=False)
    yield from _moved("Reshape", "computed", lambda x: tf.reshape(x, tf.stack([tf.shape(x)[0], 3, 8])), cube)
    yield from _moved(
        "Reshape",
        "computed -1",
        lambda x: tf.reshape(x, tf.stack([tf.shape(x)[0], -1])),
        cube,
        all_types=False,
    )
    yield from _moved(
        "Reshape",
        "int64",
        lambda x: tf.reshape(x, tf.stack([tf.shape(x, tf.int64)[0], 24])),
        cube,
        all_types=False,
    )
    yield from _moved("Squeeze", "[1]", lambda x: tf.squeeze(x, [1]), (None, 1, 3))
    yield from _moved(
        "Squeeze", "[-1, 1]", lambda x: tf.squeeze(x, [-1, 1]), (None, 1, 3, 1), all_types=False
    )
    yield from _moved("Squeeze", "all", lambda x: tf.squeeze(x), (2, 1, 3, 1), all_types=False)
    yield from _moved("Squeeze", "all, rows", lambda x: tf.squeeze(x), (None, 1, 3, 1), all_types=False)
    for axis in (0, 1, -1):
        yield from _moved("ExpandDims", f"{axis}", lambda x, a=axis: tf.expand_dims(x, a), cube)
    yield from _moved("Transpose", "0 2 1", lambda x: tf.transpose(x, [0, 2, 1]), cube)
    yield from _moved("Transpose", "2 0 1", lambda x: tf.transpose(x, [2, 0, 1]), cube, all_types=False)
    yield from _moved(
        "Transpose", "0 3 1 2", lambda x: tf.transpose(x, [0, 3, 1, 2]), (None, 3, 5, 7), all_types=False
    )
    yield from _moved("Transpose", "default", lambda x: tf.transpose(x), cube, all_types=False)
    for axis in (0, 1, -1):
        yield from _moved("ConcatV2", f"{axis}", lambda x, y, a=axis: tf.concat([x, y], a), cube, cube)
        yield from _moved(
            "Concat",
            f"{axis}",
            lambda x, y, a=axis: raw.Concat(concat_dim=a % 3, values=[x, y]),
            cube,
            cube,
            all_types=axis == 1,
        )
        yield from _moved("Pack", f"{axis}", lambda x, y, a=axis: tf.stack([x, y], a), cube, cube)
    yield from _moved(
        "ConcatV2",
        "sizes",
        lambda x, y, z: tf.concat([x, y, z], 1),
        (None, 1, 3),
        (None, 2, 3),
        (None, 5, 3),
        all_types=False,
    )
    yield from _moved(
        "ConcatV2",
        "with constant",
        lambda x: tf.concat(
            [x, tf.zeros_like(x), tf.tile(weights((1, 4, 6), x.dtype), [tf.shape(x)[0], 1, 1])], 1
        ),
        cube,
        all_types=False,
    )
    for axis in (1, -1):
        yield from _moved("Unpack", f"{axis}", lambda x, a=axis: tf.unstack(x, axis=a), cube)
        yield from _moved("Split", f"{axis}", lambda x, a=axis: tf.split(x, 2, a), cube)
        yield from _moved("SplitV", f"{axis}", lambda x, a=axis: tf.split(x, [1, 3, -1], a), cube)
    yield from _moved("Slice", "constant", lambda x: tf.slice(x, [0, 1, 2], [-1, 2, 3]), cube)
    yield from _moved(
        "Slice",
        "computed",
        lambda x: tf.slice(x, [0, 1, 2], tf.stack([tf.shape(x)[0], 2, 3])),
        cube,
        all_types=False,
    )
    slices: dict[str, Callable[..., Any]] = {
        "plain": lambda x: x[:, 1:3],
        "step": lambda x: x[:, ::2, 1::3],
        "reversed": lambda x: x[:, ::-1],
        "reversed part": lambda x: x[:, 3:0:-2],
        "ellipsis": lambda x: x[..., 1],
        "last": lambda x: x[:, -1],
        "new axis": lambda x: x[:, tf.newaxis, :, 2:],
        "beyond": lambda x: x[:, 1:100, -100:2],
        "shrunk": lambda x: x[0],
        "rows": lambda x: x[1:],
        "rows reversed": lambda x: x[::-1],
        "rows step": lambda x: x[::2],
        "ellipsis new": lambda x: x[..., tf.newaxis, 0],
        "negative": lambda x: x[:, -3:-1],
    }
    for variant, function in slices.items():
        yield from _moved(
            "StridedSlice",
            variant,
            function,
            cube,
            all_types=variant in ("plain", "step", "last", "reversed"),
        )
    edges = [[0, 0], [1, 2], [0, 3]]
    yield from _moved("Pad", "", lambda x: raw.Pad(input=x, paddings=edges), cube)
    yield from _moved(
        "PadV2", "", lambda x: raw.PadV2(input=x, paddings=edges, constant_values=tf.cast(3, x.dtype)), cube
    )
    yield from _moved(
        "Pad", "rows", lambda x: raw.Pad(input=x, paddings=[[1, 1], [0, 0], [0, 0]]), cube, all_types=False
    )
    for mode in ("REFLECT", "SYMMETRIC"):
        yield from _moved(
            "MirrorPad", mode, lambda x, m=mode: raw.MirrorPad(input=x, paddings=edges, mode=m), cube
        )
        yield from _moved(
            "MirrorPad",
            f"{mode} most",
            lambda x, m=mode: raw.MirrorPad(input=x, paddings=[[0, 0], [3, 3], [5, 5]], mode=m),
            cube,
            all_types=False,
        )
    yield from _moved("Tile", "", lambda x: tf.tile(x, [1, 2, 3]), cube)
    yield from _moved("Tile", "rows", lambda x: tf.tile(x, [2, 1, 1]), cube, all_types=False)
    yield from _moved(
        "BroadcastTo", "", lambda x: tf.broadcast_to(x, tf.stack([tf.shape(x)[0], 4, 6])), (None, 1, 6)
    )
    yield from _moved(
        "BroadcastTo",
        "more dimensions",
        lambda x: tf.broadcast_to(x, tf.stack([2, tf.shape(x)[0], 6])),
        (None, 1),
        all_types=False,
    )
    yield from _moved(
        "Fill",
        "by shape",
        lambda x: tf.fill(tf.stack([tf.shape(x)[0], 3]), tf.constant(2.5, x.dtype)) + x[:, :3, 0],
        cube,
        all_types=False,
    )
    for dtype in (*FLOATS, tf.bool):

        def filled(x: Any, number: Any = dtype.as_numpy_dtype) -> list[Any]:
            return [tf.fill(tf.shape(x)[:1], number(1)), tf.abs(x)]

        yield Case("Fill", dtype.name, (Tensor(cube),), filled)
    for dtype in FLOATS:
        yield Case("ZerosLike", f"{dtype.name} added", (Tensor(dtype=dtype),), lambda x: tf.zeros_like(x) + x)
        yield Case(
            "OnesLike",
            f"{dtype.name} added",
            (Tensor(dtype=dtype),),
            lambda x: tf.ones_like(x) - x,
            TOLERANCES[dtype],
        )
        yield Case(
            "PadV2",
            f"{dtype.name}, constant",
            (Tensor((None, 4, 6), dtype),),
            lambda x, d=dtype: raw.PadV2(
                input=x, paddings=[[0, 0], [1, 2], [0, 3]], constant_values=tf.constant(-2.5, d)
            ),
        )
        yield Case(
            "Gather",
            f"{dtype.name}",
            (Tensor((None, 4), dtype),),
            lambda x: raw.Gather(params=tf.transpose(x, [1, 0]), indices=[3, 0, 0]),
        )
    yield from _moved("Fill", "", lambda x: tf.fill(tf.stack([tf.shape(x)[0], 3]), tf.cast(2, x.dtype)), cube)
    yield from _moved("Fill", "fed value", lambda x, y: tf.fill(tf.stack([tf.shape(x)[0], 3]), y), cube, ())
    for out in (tf.int32, tf.int64):
        yield from _moved("Shape", out.name, lambda x, t=out: tf.shape(x, t), cube)
        yield from _moved(
            "ShapeN", out.name, lambda x, y, t=out: tf.shape_n([x, y], t), cube, (None, 2), all_types=False
        )
        yield from _moved("Size", out.name, lambda x, t=out: tf.size(x, t), cube, all_types=False)

    yield from _moved("Range", "int32", lambda x: tf.range(tf.shape(x)[0]), cube, all_types=False)
    yield from _moved(
        "Range", "int64", lambda x: tf.range(0, tf.shape(x, tf.int64)[0] * 3, 2), cube, all_types=False
    )
    yield from _moved(
        "Range",
        "float32",
        lambda x: tf.range(0.0, tf.cast(tf.shape(x)[0], tf.float32), 0.5),
        cube,
        all_types=False,
    )
    yield from _moved("Range", "down", lambda x: tf.range(tf.shape(x)[0], -1, -1), cube, all_types=False)
    for axis in (0, 1, 2, -1):
        indices = [0] if axis == 0 else [3, 0, 0, 1]
        yield from _moved("GatherV2", f"{axis}", lambda x, a=axis, i=indices: tf.gather(x, i, axis=a), cube)
    yield from _moved("GatherV2", "scalar", lambda x: tf.gather(x, 2, axis=1), cube, all_types=False)
    yield from _moved(
        "GatherV2", "matrix", lambda x: tf.gather(x, [[0, 1], [2, 3]], axis=1), cube, all_types=False
    )
    yield from _moved(
        "GatherV2",
        "int64",
        lambda x: tf.gather(x, tf.constant([3, 1], tf.int64), axis=1),
        cube,
        all_types=False,
    )
    yield from _moved(
        "GatherV2",
        "batch_dims",
        lambda x: tf.gather(x, [[1, 2, 3], [0, 0, 0]], axis=1, batch_dims=1),
        (2, 5),
        all_types=False,
    )
    yield from _moved(
        "GatherNd", "", lambda x: tf.gather_nd(tf.transpose(x, [1, 2, 0]), [[0, 1], [3, 5]]), cube
    )
    yield from _moved(
        "GatherNd",
        "batch_dims",
        lambda x: tf.gather_nd(x, [[[1], [2]], [[0], [1]]], batch_dims=1),
        (2, 5),
        all_types=False,
    )
    yield from _moved(
        "InvertPermutation",
        "constant",
        lambda x: tf.transpose(x, tf.math.invert_permutation([0, 2, 1])),
        cube,
        all_types=False,
    )
    yield from _moved(
        "OneHot",
        "constant",
        lambda x: x[:, :3] + tf.cast(tf.one_hot([2, 0, 5], 6), x.dtype),
        cube,
        all_types=False,
    )
    yield from _moved(
        "OneHot", "rows", lambda x: tf.one_hot(tf.range(tf.shape(x)[0]), 5), cube, all_types=False
    )
    yield from _moved("ReverseV2", "[1]", lambda x: tf.reverse(x, [1]), cube)
    yield from _moved("ReverseV2", "[-1, 0]", lambda x: tf.reverse(x, [-1, 0]), cube, all_types=False)
    yield from _moved("Roll", "", lambda x: tf.roll(x, [1, -2], [1, 2]), cube)
    yield from _moved("Roll", "rows", lambda x: tf.roll(x, 1, 0), cube, all_types=False)
    for low, high in ((-1, 0), (0, -1), (1, 1), (0, 0)):
        yield from _moved(
            "MatrixBandPart",
            f"{low} {high}",
            lambda x, a=low, b=high: tf.linalg.band_part(x, a, b),
            cube,
            all_types=(low, high) == (-1, 0),
        )
    for size in (2, 3):
        yield from _moved(
            "SpaceToDepth", f"{size}", lambda x, s=size: tf.nn.space_to_depth(x, s), (None, 6, 12, 3)
        )
        yield from _moved(
            "DepthToSpace", f"{size}", lambda x, s=size: tf.nn.depth_to_space(x, s), (None, 2, 3, 36)
        )
    yield from _moved(
        "SpaceToBatchND",
        "",
        lambda x: raw.SpaceToBatchND(input=x, block_shape=[2, 3], paddings=[[1, 1], [0, 1]]),
        (None, 4, 5, 3),
    )
    yield from _moved(
        "BatchToSpaceND",
        "",
        lambda x: raw.BatchToSpaceND(
            input=raw.SpaceToBatchND(input=x, block_shape=[2, 3], paddings=[[1, 1], [0, 1]]),
            block_shape=[2, 3],
            crops=[[1, 1], [0, 1]],
        ),
        (None, 4, 5, 3),
    )


def _resized(op: str, build: Callable[..., Any], variant: str, dtypes: Sequence[tf.DType]) -> Iterator[Case]:
    for dtype in dtypes:
        exact = op == "ResizeNearestNeighbor"
        allowed = None if exact else TOLERANCES.get(dtype, TOLERANCES[tf.float32])
        yield Case(op, variant, (Tensor((None, 5, 7, 3), dtype),), build, allowed, of_inputs=True)


def resizes() -> Iterator[Case]:
    for op in ("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea"):
        modes = [(False, False)] if op == "ResizeArea" else [(False, False), (True, False), (False, True)]
        for corners, centers in modes:
            for size in ((10, 14), (3, 4), (5, 7), (4, 9), (1, 1), (11, 13)):
                attributes: dict[str, Any] = {"align_corners": corners}
                if op != "ResizeArea":
                    attributes["half_pixel_centers"] = centers
                dtypes: Sequence[tf.DType] = [tf.float32]
                if size == (10, 14) and op != "ResizeArea":
                    dtypes = [*FLOATS, tf.uint8]
                yield from _resized(
                    op,
                    lambda x, o=op, s=size, a=attributes: getattr(raw, o)(
                        images=x, size=np.array(s, np.int32), **a
                    ),
                    variant=f"{size} {corners} {centers}",
                    dtypes=dtypes,
                )
    for op in ("ResizeBilinear", "ResizeNearestNeighbor"):
        yield from _resized(
            op, lambda x, o=op: getattr(raw, o)(images=x, size=tf.shape(x)[1:3] * 2, half_pixel_centers=True),
            variant="computed size", dtypes=[tf.float32],
        )  # fmt: skip
