"""How bounds.py executes the part that follows the body."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from embedded_server.converting.bounds import _Tail
from embedded_server.converting.writing import Parts

PLACEHOLDER, BODY = "from_body_0:0", "body_0:0"


def tail(dtype: tf.DType, function: Callable[[tf.Tensor], tf.Tensor]) -> _Tail:
    """`function` of what the body gives, two values of `dtype`."""
    graph = tf.Graph()
    with graph.as_default():
        given = tf.compat.v1.placeholder(dtype, [2], name="from_body_0")
        output = tf.identity(function(given), name="output")
    flat = SimpleNamespace(outputs={"y": output.name}, inputs={}, initializers=())
    division: Any = SimpleNamespace(front=(), flat=flat)
    parts = Parts(
        body=tf.compat.v1.GraphDef(),
        body_inputs={},
        body_outputs={"taken:0": BODY},
        around=graph.as_graph_def(),
        tail={PLACEHOLDER: "taken:0"},
    )
    return _Tail(division, parts)


def test_float_outputs_are_computed() -> None:
    (values,) = tail(tf.float32, lambda x: x * 2).of({BODY: np.float32([1, 3])}).values()
    assert values.tolist() == [2, 6]


@pytest.mark.parametrize("shape", [(2,), (3,)])
def test_without_float_outputs_nothing_is_executed(shape: tuple[int]) -> None:
    assert tail(tf.int32, tf.square).of({BODY: np.ones(shape, np.int32)}) == {}
