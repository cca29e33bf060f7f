"""TensorFlow is loaded for the requests that need it, while the threads answer others."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from conditions import wait_for
from embedded_server import convert
from embedded_server.common.errors import Postponed, StartError, Unavailable
from embedded_server.common.limits import Memory
from embedded_server.execution.openvino_backend import OpenVinoBackend
from embedded_server.execution.standby import Standby
from embedded_server.execution.tensorflow_backend import TensorFlowBackend
from embedded_server.grpc.limits import Bounds
from embedded_server.http.workers import Workers
from running import PATIENCE, Server

GOOD = np.ones((1, 4), np.float32)
BROKEN = np.full((1, 4), np.nan, np.float32)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base path of a model x @ w, with its artefact next to it."""
    base = tmp_path_factory.mktemp("dense")
    module = tf.Module()
    module.w = tf.Variable(np.arange(12, dtype=np.float32).reshape(4, 3))
    serve = tf.function(lambda x: {"y": x @ module.w}, [tf.TensorSpec([None, 4], tf.float32, "x")])
    tf.saved_model.save(module, str(base / "1"), signatures={"serving_default": serve})
    convert.convert(base / "1", base / ".optimized" / "1", "")
    return base


class Held:
    """TensorFlowBackend.load, held until it is let go."""

    def __init__(self) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()
        self.count = 0
        self._load = TensorFlowBackend.load

    def __call__(self, *args: Any, **kwargs: Any) -> TensorFlowBackend:
        self.count += 1
        self.begun.set()
        assert self.let_go.wait(PATIENCE)
        return self._load(*args, **kwargs)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held()
    monkeypatch.setattr(TensorFlowBackend, "load", held)
    yield held
    held.let_go.set()


def test_requests_that_wait_for_the_load_leave_the_threads_to_others(dense: Path, held: Held) -> None:
    counted: list[str] = []
    backend = OpenVinoBackend.load(
        dense / "1",
        dense / ".optimized" / "1",
        "f32",
        postpones=True,
        handed_over=lambda signature, _: counted.append(signature),
    )

    def ask(x: np.ndarray[Any, Any]) -> Any:
        return backend.run("serving_default", {"x": x})["y"]

    async def body() -> None:
        workers = Workers(1, 20)
        over: list[int] = []
        waiting = [workers.submit(functools.partial(ask, BROKEN), lambda: over.append(1)) for _ in range(5)]
        assert await asyncio.to_thread(held.begun.wait, PATIENCE)
        good = workers.submit(functools.partial(ask, GOOD), lambda: None)
        assert np.array_equal(await good.answer, [[18, 22, 26]])
        assert not over, "the others wait still"
        waiting[0].give_up()
        assert over == [1], "its place is free at once"
        held.let_go.set()
        for call in waiting[1:]:
            assert np.isnan(await call.answer).all()
        assert held.count == 1
        assert len(counted) == 4

    asyncio.run(asyncio.wait_for(body(), PATIENCE))


def test_a_server_of_few_threads_answers_many_that_need_tensorflow(dense: Path) -> None:
    flags = [
        "--model_name=dense", f"--model_base_path={dense}", f"--optimized_base_path={dense / '.optimized'}",
        "--backend=openvino", "--precision=f32", "--rest_api_num_threads=2", "--grpc_max_threads=2",
    ]  # fmt: skip
    with Server(*flags) as server, futures.ThreadPoolExecutor(16) as clients:

        def ask(value: str) -> tuple[int, Any]:
            body = f'{{"instances": [[{value}, 1, 1, 1]]}}'.encode()
            return server.call("POST", "/v1/models/dense:predict", body)

        answers = list(clients.map(ask, ["NaN", "1"] * 16))
    for broken, good in zip(answers[::2], answers[1::2], strict=True):
        assert good == (200, {"predictions": [[18.0, 22.0, 26.0]]})
        assert broken[0] == 200, broken
        assert np.isnan(broken[1]["predictions"]).all()
    assert sum("TensorFlow loads the model too" in line for line in server.log) == 1


def test_grpc_executes_others_while_one_is_postponed() -> None:
    ready: futures.Future[None] = futures.Future()
    asked = threading.Event()

    def answer(request: bytes, _: grpc.ServicerContext) -> bytes:
        if request == b"broken" and not ready.done():
            asked.set()
            raise Postponed(ready)
        return request

    server = grpc.server(
        futures.ThreadPoolExecutor(8), interceptors=[Bounds("a.Service", 1, Memory(1 << 20))]
    )
    handler = grpc.unary_unary_rpc_method_handler(answer, bytes, bytes)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("a.Service", {"Ask": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary("/a.Service/Ask")
        broken = ask.future(b"broken", timeout=PATIENCE)
        assert asked.wait(PATIENCE)
        assert ask(b"good", timeout=PATIENCE) == b"good"
        assert not broken.done()
        with pytest.raises(grpc.RpcError) as error:
            ask(b"broken", timeout=0.2)
        assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        ready.set_result(None)
        assert broken.result(PATIENCE) == b"broken"
    server.stop(0).wait()


def test_a_load_that_fails_is_tried_again_later() -> None:
    loads = 0
    let_go = threading.Event()
    let_go.set()

    def load() -> TensorFlowBackend:
        nonlocal loads
        loads += 1
        assert let_go.wait(PATIENCE)
        raise StartError("the files have changed")

    standby = Standby(load, postpones=False, retry_seconds=1000)
    for _ in range(3):
        with pytest.raises(Unavailable):
            standby.backend("a reason")
    assert loads == 1, "each reads the whole model"
    eager = Standby(load, postpones=False, retry_seconds=0)
    for _ in range(2):
        with pytest.raises(Unavailable):
            eager.backend("a reason")
    assert loads == 3
    let_go.clear()
    postponing = Standby(load, postpones=True, retry_seconds=1000)
    with pytest.raises(Postponed) as postponed:
        postponing.backend("a reason")
    let_go.set()
    wait_for(postponed.value.ready.done)
    with pytest.raises(Unavailable):
        postponing.backend("a reason")
