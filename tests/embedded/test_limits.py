"""How much the server takes on, and what it says to the rest."""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from limited import (
    GOOD,
    GOOD_ANSWER,
    MAX_REQUEST,
    PREDICT,
    STATUS,
    assert_serves,
    half_sent,
    limited_server,
)
from raw import Raw, ask, request
from running import PATIENCE, Server, run_to_end
from tensorflow_serving.apis import predict_pb2

PREDICT_METHOD = "/tensorflow.serving.PredictionService/Predict"
FOREVER = 10**12  # turns of the spin signature's loop


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with limited_server(models) as server:
        yield server


def spin(turns: int = FOREVER) -> bytes:
    return request("POST", PREDICT, json.dumps({"signature_name": "spin", "instances": [turns]}).encode())


# -------------------------------------------------------------------------------------- sizes


def test_a_body_over_the_limit_is_refused_however_it_is_sent(server: Server) -> None:
    large = b" " * (50 * MAX_REQUEST)  # more than fits into sockets: the client is still sending when refused
    chunked = request("POST", PREDICT, None, "Transfer-Encoding: chunked")
    chunks = (b"%x\r\n" % MAX_REQUEST + b" " * MAX_REQUEST + b"\r\n") * 50 + b"0\r\n\r\n"
    packed = request("POST", PREDICT, gzip.compress(large), "Content-Encoding: gzip")
    for data in (request("POST", PREDICT, large), chunked + chunks, packed):
        response = ask(server.port, data)
        assert response.status == 413
        assert "--max_request_bytes" in response.error
    expecting = request("POST", PREDICT, large, "Expect: 100-continue").removesuffix(large)
    assert ask(server.port, expecting).status == 413, "before any of it was sent"
    assert_serves(server)


def test_a_body_at_the_limit_is_taken(server: Server) -> None:
    body = b'{"instances": [[1, 2]]}'.ljust(MAX_REQUEST)
    assert ask(server.port, request("POST", PREDICT, body)).document == GOOD_ANSWER
    packed = request("POST", PREDICT, gzip.compress(body), "Content-Encoding: gzip")
    assert ask(server.port, packed).document == GOOD_ANSWER


def test_all_bodies_together_are_bounded(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        holders = [stack.enter_context(Raw(server.port)) for _ in range(2)]
        for holder in holders:
            holder.send(half_sent(MAX_REQUEST))
        one_more = stack.enter_context(Raw(server.port))
        one_more.send(half_sent(MAX_REQUEST))
        response = one_more.response()
        assert response
        assert response.status == 503
        assert response.headers["retry-after"] == "1"
        assert "memory" in response.error
        response = ask(server.port, request("POST", PREDICT, b" " * MAX_REQUEST))
        assert response.status == 503, "one that was sent at once is refused alike"
        packed = gzip.compress(b" " * MAX_REQUEST)
        response = ask(server.port, request("POST", PREDICT, packed, "Content-Encoding: gzip"))
        assert response.status == 503, "what is unpacked counts too"
        assert_serves(server)  # a small one still finds room
    for _ in range(5):  # nothing of it is held for ever
        body = b'{"instances": [[1, 2]]}'.ljust(MAX_REQUEST)
        assert ask(server.port, request("POST", PREDICT, body)).document == GOOD_ANSWER


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        request("GET", STATUS, None, "X: " + "a" * 70_000),
        request("GET", STATUS, None, *[f"X{number}: {'a' * 100}" for number in range(700)]),
        b"GET / HTTP/1.1\r\nX: " + b"a" * 500_000,  # it never ends
        b"a" * 500_000,
        b"\r\n" * 250_000,
        request("POST", PREDICT, None, "Transfer-Encoding: chunked") + b"1;" + b"a" * 500_000,
        request("POST", PREDICT, None, "Transfer-Encoding: chunked") + b"0\r\nX: " + b"a" * 500_000,
        request("POST", PREDICT, None, "Transfer-Encoding: chunked") + b"0\r\n" + b"X: abcdefgh\r\n" * 50_000,
    ],
    ids=["path", "header", "headers", "endless", "method", "lines", "extension", "trailer", "trailers"],
)
def test_heads_are_bounded(server: Server, data: bytes) -> None:
    response = ask(server.port, data)
    assert response.status in (400, 431)
    assert response.error
    assert response.headers["connection"] == "close"
    assert_serves(server)


# -------------------------------------------------------------------------------------- requests at once


def test_a_full_queue_refuses_and_what_is_given_up_there_is_never_executed(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Raw(server.port)) for _ in range(3)]
        for client in clients:
            client.send(spin())
        while (response := ask(server.port, GOOD)).status == 200:
            pass  # they have not arrived yet
        assert response.status == 503
        assert response.headers["retry-after"] == "1"
        assert "2 are waiting already" in response.error
        assert ask(server.port, request("GET", STATUS)).status == 200, "it is busy, and well"
        for client in clients:
            response = client.response()
            assert response
            assert response.status == 504
            assert response.error
    # Were one of the two that waited executed now, this one would wait as long as it takes, and get 504.
    assert_serves(server)


def test_what_waits_for_a_client_that_has_gone_is_never_executed(server: Server) -> None:
    with Raw(server.port) as first:
        first.send(spin())
        waiting = [Raw(server.port), Raw(server.port)]
        for client in waiting:
            client.send(spin())
        while ask(server.port, GOOD).status == 200:
            pass
        waiting[0].reset()
        waiting[1].socket.close()
        response = first.response()
        assert response
        assert response.status == 504
    assert_serves(server)


# -------------------------------------------------------------------------------------- gRPC


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel


def tensor_request(signature: str, **inputs: Any) -> bytes:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "module", signature
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return bytes(request.SerializeToString())


GOOD_MESSAGE = tensor_request("", x=np.array([[1, 2]], np.float32))
SPIN_MESSAGE = tensor_request("spin", n=np.array([FOREVER]))


def code_of(call: Any) -> str:
    """How a call ended."""
    with contextlib.suppress(grpc.RpcError):
        call.result(PATIENCE)
    return str(call.code().name)


def test_a_message_over_the_limit_is_refused(channel: grpc.Channel) -> None:
    call = channel.unary_unary(PREDICT_METHOD)
    assert code_of(call.future(b" " * (MAX_REQUEST + 1))) == "RESOURCE_EXHAUSTED"
    assert code_of(call.future(GOOD_MESSAGE)) == "OK"


def test_all_messages_together_are_bounded(server: Server, channel: grpc.Channel) -> None:
    large = tensor_request("text", text=np.array([b" " * (MAX_REQUEST - 1000)], object))
    call = channel.unary_unary(PREDICT_METHOD)
    with contextlib.ExitStack() as stack:  # REST and gRPC share what there is
        for _ in range(2):
            stack.enter_context(Raw(server.port)).send(half_sent(MAX_REQUEST))
        deadline = time.monotonic() + PATIENCE
        while (code := code_of(call.future(large))) == "OK":
            assert time.monotonic() < deadline
        assert code == "UNAVAILABLE"
        assert code_of(call.future(GOOD_MESSAGE)) == "OK"
    for _ in range(5):  # nothing of it is held for ever
        while code_of(call.future(large)) != "OK":
            assert time.monotonic() < deadline


def test_calls_that_send_no_message_hold_up_no_one(channel: grpc.Channel) -> None:
    silent = threading.Event()

    def nothing() -> Iterator[bytes]:
        silent.wait()
        yield b""

    calls = [channel.stream_unary(PREDICT_METHOD).future(nothing()) for _ in range(2)]
    assert code_of(channel.unary_unary(PREDICT_METHOD).future(GOOD_MESSAGE)) == "OK"
    for call in calls:
        call.cancel()
    silent.set()


def test_a_call_that_is_given_up_while_it_waits_is_never_executed(channel: grpc.Channel) -> None:
    call = channel.unary_unary(PREDICT_METHOD)
    first = call.future(SPIN_MESSAGE)
    waiting = [call.future(SPIN_MESSAGE, timeout=0.5) for _ in range(2)]
    assert [code_of(it) for it in waiting] == ["DEADLINE_EXCEEDED"] * 2
    assert code_of(first) == "DEADLINE_EXCEEDED"
    # Were one of the others executed now, this one would have to wait for as long.
    assert code_of(call.future(GOOD_MESSAGE, timeout=1.5)) == "OK"


def test_more_calls_than_may_wait_are_refused(channel: grpc.Channel) -> None:
    call = channel.unary_unary(PREDICT_METHOD)
    codes = [code_of(it) for it in [call.future(SPIN_MESSAGE, timeout=1) for _ in range(6)]]
    assert sorted(set(codes)) == ["DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"]
    assert codes.count("RESOURCE_EXHAUSTED") == 3


def test_flags_that_contradict_each_other(models: Path) -> None:
    code, log = run_to_end("--model_base_path=.", "--max_request_bytes=100", "--max_total_request_bytes=99")
    assert code == 1
    assert "--max_total_request_bytes 99 is less than one request may have" in log
