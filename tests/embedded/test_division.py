"""What is easily got wrong when a signature is divided: sizes, assertions, state, and very large numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from embedded_server import convert
from embedded_server.common.errors import ServingError, Unavailable
from embedded_server.converting.folding import folded
from embedded_server.execution.backend import Array
from embedded_server.execution.openvino_backend import OpenVinoBackend
from embedded_server.execution.tensorflow_backend import TensorFlowBackend
from embedded_server.graph.flat import Changes, flatten
from embedded_server.graph.saved_model import load

Inputs = Mapping[str, Array]
WEIGHTS = np.random.default_rng(3).normal(size=(4, 4)).astype(np.float32)
OPEN = tf.TensorSpec([None, None, 4], tf.float32)
ROWS = tf.TensorSpec([None, 4], tf.float32)


def signature(function: Callable[..., Any], **inputs: tf.TensorSpec) -> Any:
    specs = [tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in inputs.items()]
    return tf.function(function, input_signature=specs).get_concrete_function()


@dataclass
class Pair:
    """A model on both backends."""

    folder: Path
    handed_over: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.manifest = convert.convert(self.folder / "1", self.folder / ".optimized" / "1", "")
        self.stock = TensorFlowBackend.load(self.folder / "1")
        self.optimized = OpenVinoBackend.load(
            self.folder / "1",
            self.folder / ".optimized" / "1",
            "f32",
            handed_over=lambda _, reason: self.handed_over.append(reason),
        )

    def check(self, name: str, inputs: Inputs, outputs: Sequence[str] | None = None) -> None:
        """Both answer the same, or with the same error."""
        expected = outcome(self.stock, name, inputs, outputs)
        actual = outcome(self.optimized, name, inputs, outputs)
        if isinstance(expected, type):
            assert actual is expected
            return
        assert not isinstance(actual, type), actual
        assert actual.keys() == expected.keys()
        for key, array in expected.items():
            assert actual[key].dtype == array.dtype
            assert actual[key].shape == array.shape
            scale = np.abs(array[np.isfinite(array)]).max(initial=1e-30)
            np.testing.assert_allclose(actual[key], array, rtol=0, atol=5e-4 * scale, equal_nan=True)


def outcome(
    backend: TensorFlowBackend | OpenVinoBackend, name: str, inputs: Inputs, outputs: Sequence[str] | None
) -> dict[str, Array] | type[ServingError]:
    try:
        return backend.run(name, inputs, outputs)
    except ServingError as error:
        return type(error)


def saved(folder: Path, module: tf.Module, **signatures: Any) -> Pair:
    tf.saved_model.save(module, str(folder / "1"), signatures=signatures)
    return Pair(folder)


def random(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def attention(x: tf.Tensor) -> tf.Tensor:
    projected = x @ WEIGHTS
    return tf.nn.softmax(tf.matmul(projected, projected, transpose_b=True) * 0.4) @ projected


SIZED: Mapping[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "attention": attention,
    "mean of nothing": lambda x: tf.reduce_mean((x @ WEIGHTS)[:, 3:], 1),
    "choice among nothing": lambda x: tf.argmax((x @ WEIGHTS)[:, 3:], 1),
    "too few to split": lambda x: tf.split(x @ WEIGHTS, [3, -1], 1)[1],
    "negative times": lambda x: tf.tile(x @ WEIGHTS, [1, tf.shape(x)[1] - 2, 1]),
    "a part of the rows": lambda x: tf.add_n([x @ WEIGHTS, (x @ WEIGHTS)[:1]]),
    "sum over rows": lambda x: tf.einsum("nd,ne->de", tf.matmul(x[:, 0], WEIGHTS), x[:1, 0]),
    "negative half": lambda x: x @ WEIGHTS * tf.cast((tf.shape(x)[1] - 5) // 2, tf.float32),
    "convolution without padding": lambda x: tf.nn.conv1d(x, WEIGHTS[None].repeat(3, 0), 1, "VALID"),
}


@pytest.mark.parametrize("name", SIZED)
def test_sizes_that_a_request_decides(tmp_path: Path, name: str) -> None:
    function = SIZED[name]
    pair = saved(tmp_path, tf.Module(), serving_default=signature(lambda x: {"y": function(x)}, x=OPEN))
    assert pair.manifest.programs["serving_default"].share == 1.0
    for rows, length in ((1, 1), (1, 33), (2, 2), (3, 8), (1, 5), (2, 1), (7, 33), (1, 4)):
        pair.check("serving_default", {"x": random(rows, length, 4)})
    assert len(pair.handed_over) < 8, "OpenVINO executes what fits"


def test_inputs_of_which_one_has_more_rows(tmp_path: Path) -> None:
    function = signature(lambda a, b: {"y": tf.concat([a @ WEIGHTS, b @ WEIGHTS], 1)}, a=ROWS, b=ROWS)
    pair = saved(tmp_path, tf.Module(), serving_default=function)
    for first, second in ((2, 2), (2, 3), (1, 3), (3, 3)):
        pair.check("serving_default", {"a": random(first, 4), "b": random(second, 4)})
    assert pair.handed_over == ["sizes", "sizes"]


def test_an_assertion_that_a_constant_waits_for(tmp_path: Path) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 4], "x")
        with tf.control_dependencies([v1.assert_less(x, 100.0)]):
            y = tf.matmul(x, tf.constant(WEIGHTS))
        v1.saved_model.simple_save(session, str(tmp_path / "1"), {"x": x}, {"y": y})
    pair = Pair(tmp_path)
    for value in (1.0, 200.0):
        pair.check("serving_default", {"x": np.full((2, 4), value, np.float32)})


def test_whole_numbers_that_grow_beyond_floats(tmp_path: Path) -> None:
    def deep(x: tf.Tensor) -> dict[str, tf.Tensor]:
        wide = tf.cast(x, tf.float32)
        for _ in range(3):
            wide = tf.square(wide)
        return {"y": tf.nn.relu((wide - tf.reduce_mean(wide, 1, keepdims=True)) @ WEIGHTS)}

    numbers = tf.TensorSpec([None, 4], tf.int32)
    pair = saved(tmp_path, tf.Module(), serving_default=signature(deep, x=numbers))
    for value in (1, 3, 2**31 - 1, -(2**31)):
        pair.check("serving_default", {"x": np.array([[value, 1, 0, 2]], np.int32)})


def test_an_output_that_is_not_asked_for_may_fail(tmp_path: Path) -> None:
    table = tf.constant(random(10, 4))

    def both(i: tf.Tensor, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"a": tf.gather(table, i) @ WEIGHTS, "b": x @ WEIGHTS}

    ids = tf.TensorSpec([None], tf.int32)
    pair = saved(tmp_path, tf.Module(), serving_default=signature(both, i=ids, x=ROWS))
    inputs = {"i": np.array([12], np.int32), "x": random(1, 4)}
    pair.check("serving_default", inputs, ["b"])
    pair.check("serving_default", inputs)


def test_state_that_another_signature_changes_in_a_branch(tmp_path: Path) -> None:
    module = tf.Module()
    module.scale = tf.Variable(1.0)

    def change(n: tf.Tensor) -> dict[str, tf.Tensor]:
        by = [lambda: module.scale.assign(7.0), lambda: module.scale.assign_add(3.0)]
        return {"n": tf.switch_case(n[0], by)}

    pair = saved(
        tmp_path,
        module,
        change=signature(change, n=tf.TensorSpec([None], tf.int32)),
        scaled=signature(lambda x: {"y": x @ WEIGHTS * module.scale}, x=ROWS),
        plain=signature(lambda x: {"y": x @ WEIGHTS}, x=ROWS),
    )
    assert set(pair.manifest.programs) == {"plain"}
    assert "scaled" in pair.manifest.unconverted
    for backend in (pair.stock, pair.optimized):
        backend.run("change", {"n": np.array([0], np.int32)})
    pair.check("scaled", {"x": random(2, 4)})


def test_numbers_that_differ_little_and_are_large(tmp_path: Path) -> None:
    def normalized(x: tf.Tensor) -> dict[str, tf.Tensor]:
        mean, variance = tf.nn.moments(x, [1], keepdims=True)
        return {"y": (x - mean) * tf.math.rsqrt(variance + 1e-3) @ WEIGHTS}

    pair = saved(tmp_path, tf.Module(), serving_default=signature(normalized, x=ROWS))
    for offset in (0.0, 1e2, 1e5, 1e6, 1e9):
        pair.check("serving_default", {"x": random(3, 4) + np.float32(offset)})
    pair.check("serving_default", {"x": np.full((2, 4), 33333.33, np.float32)})


def test_files_that_changed_answer_nothing_that_needs_them(tmp_path: Path) -> None:
    pair = saved(tmp_path, tf.Module(), serving_default=signature(lambda x: {"y": x @ WEIGHTS}, x=ROWS))
    (tmp_path / "1" / "assets" / "new").write_text("")
    assert outcome(pair.optimized, "serving_default", {"x": random(1, 4)}, None) is not Unavailable
    bad = {"x": np.full((1, 4), np.nan, np.float32)}
    assert outcome(pair.optimized, "serving_default", bad, None) is Unavailable


def test_a_signatures_graph_needs_nothing_else(tmp_path: Path) -> None:
    """No variable, no function and no constant is left to be worked out."""
    module = tf.Module()
    module.weights = tf.Variable(WEIGHTS)
    function = signature(lambda x: {"y": x @ tf.transpose(module.weights)}, x=ROWS)
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": function})
    loaded = load(tmp_path / "1", tf.compat.v1.ConfigProto())
    flat = folded(flatten(loaded, "serving_default", Changes(loaded)))
    assert sorted(node.op for node in flat.graph_def.node if node.op != "Identity") == [
        "Const",
        "MatMul",
        "Placeholder",
    ]
    assert not flat.graph_def.library.function
