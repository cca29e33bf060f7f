"""HTTP as it should not be: slow, broken, or no HTTP at all; and what is odd but right."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from limited import (
    GOOD,
    GOOD_ANSWER,
    MAX_CONNECTIONS,
    MAX_REQUEST,
    PREDICT,
    STATUS,
    assert_serves,
    half_sent,
    limited_server,
)
from raw import Raw, ask, request
from running import PATIENCE, Server


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with limited_server(models) as server:
        yield server


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
def test_half_a_request_times_out_and_holds_up_no_one(server: Server, data: bytes) -> None:
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
        (request("POST", PREDICT, b"{}", "Transfer-Encoding: chunked"), 400),  # with Content-Length too
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
