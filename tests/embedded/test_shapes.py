"""Requests of other shapes than the signature's, which must never end the server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from embedded_server.common.errors import InvalidArgument
from embedded_server.execution import shapes
from embedded_server.execution.sizes import Sizes
from embedded_server.execution.tensorflow_backend import TensorFlowBackend

_raw = tf.raw_ops


def _ones(*shape: int) -> tf.Tensor:
    return tf.ones(shape, tf.float32)


def _conv2d(x: tf.Tensor) -> tf.Tensor:
    return _raw.Conv2D(input=x, filter=_ones(2, 2, 3, 4), strides=[1, 1, 1, 1], padding="SAME")


def _in_a_branch(x: tf.Tensor) -> tf.Tensor:
    return tf.cond(tf.size(x) > 1000, lambda: _conv2d(x), lambda: tf.zeros([1, 1, 1, 4]))


OPERATIONS: dict[str, tuple[Callable[[tf.Tensor], tf.Tensor], int]] = {
    "Conv2D": (_conv2d, 4),
    "Conv2D in a function": (tf.function(_conv2d), 4),
    "Conv2D in a branch": (_in_a_branch, 4),
    "Conv2D over rows": (lambda x: tf.map_fn(lambda row: _conv2d(row[None])[0], x), 4),
    "atrous": (lambda x: tf.nn.convolution(x, _ones(2, 2, 3, 4), padding="SAME", dilations=[2, 2]), 4),
    "Depthwise": (
        lambda x: _raw.DepthwiseConv2dNative(
            input=x, filter=_ones(2, 2, 3, 1), strides=[1, 1, 1, 1], padding="SAME"
        ),
        4,
    ),
    "Conv3D": (
        lambda x: _raw.Conv3D(input=x, filter=_ones(2, 2, 2, 3, 4), strides=[1] * 5, padding="SAME"),
        5,
    ),
    "MaxPool3D": (lambda x: _raw.MaxPool3D(input=x, ksize=[1] * 5, strides=[1] * 5, padding="SAME"), 5),
}


def _loaded(folder: Path, function: Callable[[tf.Tensor], Any], shape: list[int | None] | None) -> Any:
    module = tf.Module()
    served = tf.function(lambda x: {"y": function(x)}, [tf.TensorSpec(shape, tf.float32, "x")])
    module.served = served
    tf.saved_model.save(module, str(folder), signatures={"serving_default": served})
    return TensorFlowBackend.load(folder)


@pytest.mark.parametrize("name", OPERATIONS)
def test_too_few_dimensions_are_refused(tmp_path: Path, name: str) -> None:
    function, rank = OPERATIONS[name]
    backend = _loaded(tmp_path, function, [None, *[3] * (rank - 1)])
    for few in range(rank):
        with pytest.raises(InvalidArgument):
            backend.run("serving_default", {"x": np.ones([3] * few, np.float32)})
    assert backend.run("serving_default", {"x": np.ones([3] * rank, np.float32)})["y"].ndim == rank


def test_an_unknown_number_of_dimensions_is_followed_through_the_graph(tmp_path: Path) -> None:
    backend = _loaded(tmp_path, lambda x: _conv2d(tf.reshape(x, [-1, 2, 2, 3])), [None, 12])
    row = np.arange(12, dtype=np.float32)
    expected = backend.run("serving_default", {"x": row[None]})["y"]
    for shape in ([12], [2, 2, 3], [1, 1, 12], [1, 2, 2, 3]):
        answer = backend.run("serving_default", {"x": row.reshape(shape)})["y"]
        assert np.array_equal(answer, expected), "TensorFlow executes what its operations take"


def test_a_signature_of_unknown_rank(tmp_path: Path) -> None:
    backend = _loaded(tmp_path, lambda x: tf.reduce_sum(_raw.MaxPool3D(
        input=x, ksize=[1] * 5, strides=[1] * 5, padding="SAME")), None)  # fmt: skip
    with pytest.raises(InvalidArgument):
        backend.run("serving_default", {"x": np.ones([2, 2, 2, 3], np.float32)})
    assert backend.run("serving_default", {"x": np.ones([1, 2, 2, 2, 3], np.float32)})["y"] == 24


def test_models_without_convolutions_take_what_tensorflow_takes(tmp_path: Path) -> None:
    backend = _loaded(tmp_path, lambda x: x + 1.0, [None, 4])
    assert backend.run("serving_default", {"x": np.float32(1)})["y"] == 2


def _pooled(x: tf.Tensor) -> tf.Tensor:
    return _raw.MaxPool(input=x, ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="VALID")


def _convolved(x: tf.Tensor) -> tf.Tensor:
    return _raw.Conv2D(input=x, filter=_ones(3, 3, 4, 4), strides=[1, 2, 2, 1], padding="VALID")


@pytest.mark.parametrize("side", [None, 12])
@pytest.mark.parametrize("window", [_pooled, _convolved])
def test_images_of_which_nothing_is_left(
    tmp_path: Path, window: Callable[[tf.Tensor], tf.Tensor], side: int | None
) -> None:
    backend = _loaded(tmp_path, lambda x: window(_conv2d(x)), [None, side, side, 3])

    def answer(height: int, width: int) -> tuple[int, ...]:
        x = np.ones([1, height, width, 3], np.float32)
        return backend.run("serving_default", {"x": x})["y"].shape

    assert answer(12, 12) == (1, 5, 5, 4)
    for height, width in ((1, 1), (2, 12), (12, 2), (1, 30)):
        with pytest.raises(InvalidArgument):
            answer(height, width)
    assert answer(3, 4) == (1, 1, 1, 4)
    assert answer(30, 40) == (1, 14, 19, 4)


def test_larger_shapes_than_a_known_one_are_not_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = _loaded(tmp_path, _pooled, [None, None, None, 3])
    looked: list[object] = []
    problem = shapes._Known._problem
    monkeypatch.setattr(
        shapes._Known, "_problem", lambda self, given: (looked.append(given), problem(self, given))[1]
    )
    for side in (20, 24, 21, 100, 7, 8, 19):
        backend.run("serving_default", {"x": np.ones([2, side, side, 3], np.float32)})
    assert looked == [((None, 20, 20, 3),), ((None, 7, 7, 3),)]


def test_sizes_of_a_body_are_looked_at_before_they_are_executed(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None, None, None, 3], "x")
        tf.identity(_pooled(x), "y")
    file = tmp_path / "sizes.pb"
    file.write_bytes(graph.as_graph_def().SerializeToString())
    sizes = Sizes(file, {"y:0": "y:0"})
    assert sizes.of_outputs({"x:0": (1, 1, 1, 3)}) is None
    assert sizes.of_outputs({"x:0": (1, 2, 30, 3)}) is None
    assert sizes.of_outputs({"x:0": (1, 5, 3, 3)}) == {"y:0": (1, 2, 1, 3)}
