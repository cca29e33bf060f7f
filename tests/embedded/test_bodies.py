"""Compiled bodies while several requests are inferred at once, and after requests that fail."""

from __future__ import annotations

import os
import threading

import numpy as np
import openvino
import pytest
from embedded_server.execution.bodies import Body, CannotInfer
from openvino import opset13
from running import PATIENCE

WIDTH = 512
LAYERS = 40
LONG = 10_000 * (os.cpu_count() or 1)
"""Positions of a request that takes seconds: 210 billion operations for each CPU."""
STREAMS_AT_MOST = 4 * (os.cpu_count() or 1)
"""Inference requests that one compiled form has, or fewer."""


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Body:
    """Matrix products over one row of any number of positions; ends in the mean of the row."""
    weights = opset13.constant(np.eye(WIDTH, dtype=np.float32))
    given = opset13.parameter([1, -1, WIDTH], np.float32, name="body_input_0")
    value = given
    for _ in range(LAYERS):
        value = opset13.relu(opset13.matmul(value, weights, False, False))
    mean = opset13.reduce_mean(value, opset13.constant([1, 2]), keep_dims=False)
    mean.output(0).set_names({"mean"})
    file = tmp_path_factory.mktemp("body") / "body.xml"
    openvino.save_model(openvino.Model([mean], [given]), file, compress_to_fp16=False)
    return Body(file, {"mean:0": "mean"}, "f32")


def ask(body: Body, positions: int) -> float:
    with body.entered():
        answer = body.run({"body_input_0": np.ones((1, positions, WIDTH), np.float32)})
    return float(answer["mean:0"][0])


@pytest.mark.skipif((os.cpu_count() or 1) == 1, reason="one CPU: nothing runs side by side")
def test_a_second_request_does_not_wait_for_the_first(body: Body) -> None:
    ask(body, 1)
    answers: list[float] = []
    long = threading.Thread(target=lambda: answers.append(ask(body, LONG)), daemon=True)
    long.start()
    assert ask(body, 1) == 1
    assert long.is_alive()
    long.join(PATIENCE)
    assert answers == [1]


def test_requests_that_fail_leave_all_streams_free(body: Body) -> None:
    answers: list[float] = []

    def fail_and_ask() -> None:
        for _ in range(STREAMS_AT_MOST + 1):
            with body.entered(), pytest.raises(CannotInfer):
                body.run({"body_input_0": np.ones((1, 2, WIDTH + 1), np.float32)})
        answers.append(ask(body, 1))

    asking = threading.Thread(target=fail_and_ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    assert answers == [1]
