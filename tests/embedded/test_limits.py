"""What one client may take, and what the others notice of it."""

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
from raw import Raw, Response, ask, request
from running import PATIENCE, Server, run_to_end
from tensorflow_serving.apis import predict_pb2

PREDICT = "/v1/models/module:predict"
PREDICT_METHOD = "/tensorflow.serving.PredictionService/Predict"
STATUS = "/v1/models/module"
GOOD = request("POST", PREDICT, b'{"instances": [[1, 2]]}')
GOOD_ANSWER = {"predictions": [[4.0, 1.0]]}
FOREVER = 10**12  # turns of the spin signature's loop

MAX_REQUEST = 100_000
MAX_TOTAL = 250_000
MAX_CONNECTIONS = 8


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    """A server with small limits that executes one request at a time."""
    with Server(
        "--model_name=module",
        f"--model_base_path={models / 'module'}",
        f"--max_request_bytes={MAX_REQUEST}",
        f"--max_total_request_bytes={MAX_TOTAL}",
        f"--max_connections={MAX_CONNECTIONS}",
        "--max_queued_requests=2",
        "--rest_api_num_threads=1",
        "--grpc_max_threads=1",
        "--rest_api_timeout_in_ms=2000",
        "--client_timeout_seconds=1",
    ) as server:
        yield server
        server.stop()
        server._reader.join(PATIENCE)
        log = "".join(server.log)
        assert "Traceback" not in log, log
        assert "ERROR" not in log, log


def good(server: Server) -> Response:
    """The answer to a good request, as soon as there is room for it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        response = ask(server.port, GOOD)
        if response.status != 503 or time.monotonic() > deadline:
            return response


def assert_serves(server: Server) -> None:
    response = good(server)
    assert (response.status, response.document) == (200, GOOD_ANSWER)


def spin(turns: int = FOREVER) -> bytes:
    return request("POST", PREDICT, json.dumps({"signature_name": "spin", "instances": [turns]}).encode())


def half_sent(size: int) -> bytes:
    """All but the last byte of a request that has `size` bytes of body."""
    return request("POST", PREDICT, b" " * size)[:-1]


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


# -------------------------------------------------------------------------------------- slow clients


@pytest.mark.parametrize(
    "data",
    [
        GOOD[:20],
        GOOD[:-1],
        half_sent(MAX_REQUEST),
        request("POST", PREDICT, None, "Transfer-Encoding: chunked"),
    ],
    ids=["head", "body", "large body", "chunks"],
)
def test_half_a_request_times_out_and_holds_up_nobody(server: Server, data: bytes) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Raw(server.port)) for _ in range(2)]
        for client in clients:
            client.send(data)
        assert_serves(server)
        for client in clients:
            response = client.response()
            assert response
            assert response.status == 408
            assert "1 s" in response.error
            assert client.is_closed()


def test_a_head_that_trickles_times_out_as_a_whole(server: Server) -> None:
    with Raw(server.port) as client:
        client.send(GOOD.partition(b"\r\n")[0] + b"\r\n")
        stop = threading.Event()

        def trickle() -> None:
            with contextlib.suppress(OSError):
                while not stop.wait(0.1):
                    client.send(b"X-Slow: 1\r\n")

        trickling = threading.Thread(target=trickle)
        trickling.start()
        response = client.response()
        stop.set()
        trickling.join()
        assert response
        assert response.status == 408


def test_a_body_may_take_longer_while_it_comes_steadily(server: Server) -> None:
    body = b'{"instances": [[1, 2]]}'.ljust(MAX_REQUEST)
    data = request("POST", PREDICT, body)
    with Raw(server.port) as client:
        began = time.monotonic()
        for start in range(0, len(data), 5_000):
            client.send(data[start : start + 5_000])
            time.sleep(0.15)  # 33 KB a second: twice the lowest rate
        assert time.monotonic() - began > 2, "longer than the timeout of 1 s"
        response = client.response()
        assert response
        assert response.document == GOOD_ANSWER


def test_a_client_that_never_reads_is_given_up(server: Server) -> None:
    body = json.dumps({"signature_name": "text", "instances": ["a" * 30_000]}).encode()
    with Raw(server.port, receive_buffer=4096) as client:

        def send() -> None:  # until the server, which reads no further than it can answer, hangs up
            with contextlib.suppress(OSError):
                while True:
                    client.send(request("POST", PREDICT, body))

        sending = threading.Thread(target=send)
        sending.start()
        assert_serves(server)
        sending.join(PATIENCE)
        assert not sending.is_alive()
        assert client.is_reset()


def test_resets_at_any_moment_leave_nothing_behind(server: Server) -> None:
    data = request("POST", PREDICT, b'{"instances": [[1, 2]]}'.ljust(MAX_REQUEST))
    for end in (0, 1, 30, 200, MAX_REQUEST // 2, len(data) - 1, len(data)):
        for leave in (Raw.reset, lambda client: client.socket.close()):
            client = Raw(server.port)
            client.send(data[:end])
            leave(client)
    assert_serves(server)
    assert ask(server.port, data).document == GOOD_ANSWER


def test_idle_connections_make_room_for_new_ones(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        idle = []
        for _ in range(MAX_CONNECTIONS):
            client = stack.enter_context(Raw(server.port))
            client.send(GOOD)
            response = client.response()
            assert response
            assert response.status == 200
            idle.append(client)
        assert_serves(server)
        assert idle[0].is_closed(), "the one that was idle for longest"
        idle[-1].send(GOOD)
        response = idle[-1].response()
        assert response
        assert response.status == 200


def test_more_connections_than_are_allowed_are_refused(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            stack.enter_context(Raw(server.port)).send(GOOD[:-1])
        deadline = time.monotonic() + PATIENCE
        statuses = set()
        while 503 not in statuses and time.monotonic() < deadline:
            with Raw(server.port) as client:
                response = client.response()
                statuses.add(response and response.status)
        assert 503 in statuses
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


def test_calls_that_send_no_message_hold_up_nobody(channel: grpc.Channel) -> None:
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


# -------------------------------------------------------------------------------------- HTTP


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\n\r\n", 400),
        (b"FOO / HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT other:443 HTTP/1.1\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", 404),
        (request("OPTIONS", PREDICT), 400),
        (request("TRACE", PREDICT), 400),
        (request("PATCH", PREDICT, b"{}"), 400),
        (b"GET http://elsewhere HTTP/1.1\r\n\r\n", 400),
        (b"GET http://elsewhere" + STATUS.encode() + b" HTTP/1.1\r\n\r\n", 200),
        (b"GET /v1/models/\xff\xfe HTTP/1.1\r\n\r\n", 400),
        (request("GET", "/v1/models/%00"), 404),
        (request("GET", "/v1/models/%FF%FE%ZZ"), 404),
        (request("GET", "/v1/models/" + "a" * 60_000), 404),
        (request("GET", "/../" * 1000), 404),
        (request("GET", "//"), 404),
        (request("GET", STATUS, None, "X: a\x00b"), 400),
        (request("GET", STATUS, None, "X: \xe9"), 200),
        (request("GET", STATUS, None, "X : a"), 400),
        (request("POST", PREDICT, b"{}", "Content-Length: 2"), 400),  # twice
        (request("POST", PREDICT, None, "Content-Length: -1"), 400),
        (request("POST", PREDICT, None, "Content-Length: 1e3"), 400),
        (request("POST", PREDICT, None, "Content-Length: " + "9" * 30), 400),
        (request("POST", PREDICT, b"{}", "Transfer-Encoding: chunked"), 400),  # beside Content-Length
        (request("POST", PREDICT, None, "Transfer-Encoding: gzip"), 400),
        (request("POST", PREDICT, None, "Transfer-Encoding: chunked") + b"x\r\n", 400),
        (request("POST", PREDICT, b"{}", "Content-Encoding: gzip", "Content-Encoding: gzip"), 400),
        (request("POST", PREDICT), 400),  # no body
    ],
)
def test_what_is_no_proper_request(server: Server, data: bytes, status: int) -> None:
    response = ask(server.port, data)
    assert response.status == status, response.body
    assert list(response.document) == (["error"] if status != 200 else ["model_version_status"])
    assert_serves(server)


def test_an_offer_to_speak_another_protocol_is_passed_over(server: Server) -> None:
    """As Java's HttpClient makes it with every request."""
    offer = (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk",
    )
    with Raw(server.port) as client:
        for headers in (offer, (), offer):
            client.send(request("POST", PREDICT, b'{"instances": [[1, 2]]}', *headers))
            response = client.response()
            assert response
            assert (response.status, response.document) == (200, GOOD_ANSWER)
    with Raw(server.port) as client:
        client.send(request("GET", STATUS, None, "Connection: close, Upgrade", "Upgrade: websocket"))
        response = client.response()
        assert response
        assert (response.status, response.headers["connection"]) == (200, "close")
        assert client.is_closed()


def test_pipelined_requests_are_answered_in_their_order(server: Server) -> None:
    bodies = [{"instances": [[number, 0]]} for number in range(50)]
    with Raw(server.port) as client:
        client.send(
            *[request("POST", PREDICT, json.dumps(body).encode()) for body in bodies], b"nonsense\r\n\r\n"
        )
        for number in range(50):
            response = client.response()
            assert response
            assert response.document == {"predictions": [[number * 2.0, 0.0]]}
        response = client.response()
        assert response
        assert response.status == 400, "what is wrong is answered after all that was right"
        assert client.is_closed()


def test_old_http_and_expectations(server: Server) -> None:
    with Raw(server.port) as client:
        client.send(GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"))
        response = client.response()
        assert response
        assert response.document == GOOD_ANSWER
        assert client.is_closed()
    body = b'{"instances": [[1, 2]]}'
    with Raw(server.port) as client:
        client.send(request("POST", PREDICT, body, "Expect: 100-continue").removesuffix(body))
        assert client.socket.recv(100).startswith(b"HTTP/1.1 100 Continue")
        client.send(body)
        response = client.response()
        assert response
        assert response.document == GOOD_ANSWER


def test_head(server: Server) -> None:
    asked = ask(server.port, request("GET", STATUS))
    with Raw(server.port) as client:
        client.send(request("HEAD", STATUS), GOOD)
        response = client.response(body=False)
        assert response
        assert (response.status, response.headers["content-length"]) == (200, str(len(asked.body)))
        response = client.response()
        assert response
        assert response.document == GOOD_ANSWER


def test_flags_that_contradict_each_other(models: Path) -> None:
    code, log = run_to_end("--model_base_path=.", "--max_request_bytes=100", "--max_total_request_bytes=99")
    assert code == 1
    assert "--max_total_request_bytes 99 is less than one request may have" in log
