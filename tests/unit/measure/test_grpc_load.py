"""tasks.lib.measure.load over gRPC: the same load generator, against a real gRPC server (grpcio)."""

from __future__ import annotations

import struct
import threading
import time
from random import Random

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.lib.client.grpc import PREDICT
from tasks.lib.client.grpc_wire import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    PADDED,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    GrpcReplica,
    frame,
)
from tasks.lib.client.serving_messages import message
from tasks.lib.common.errors import ServerError
from tasks.lib.measure.load import Block, Load, Prepared
from tests.helpers import frames, scripted
from tests.helpers.frames import ANSWER, BEGIN, END, FINE, MESSAGE, OK, Frames
from tests.helpers.grpc_serving import GrpcServing, keep_silent, refuse, say, serving
from tests.helpers.scripted import SILENCE, free_port, until

BODY = b'{"instances":[[1.5,2.5]]}'
TIMEOUT = 20.0


def prepared(content: bytes, replicas: int = 1) -> Prepared:
    """A request whose message is `content`, made without asking any server."""
    return (GrpcReplica(0, "grpc://127.0.0.1", PREDICT).request(content),) * replicas


def measured(server: GrpcServing, count: int, timeout: float = 10, connections: int = 1) -> Block:
    """Closed loop."""
    with Load([server.url], timeout, connections) as load:
        return load.send_closed_loop([prepared(b"ask")] * count)


def test_a_block_sends_each_message_once_over_one_connection() -> None:
    with serving() as server, Load([server.url], 10) as load:
        block = load.send_closed_loop([prepared(content) for content in (b"one", b"two", b"three")])
    assert server.requests == [b"one", b"two", b"three"]
    assert len(set(server.peers)) == 1
    assert (len(block.latencies), block.errors, block.sent) == (3, 0, (3,))


def test_a_prepared_request_is_the_message_of_its_json() -> None:
    with serving() as server, Load([server.url], 10) as load:
        assert load.send_closed_loop([load.prepare(BODY)]).errors == 0
    request = message("PredictRequest", server.requests[0])
    (x,) = request.inputs
    assert (request.model_spec.name, request.model_spec.signature_name) == ("net", "serving_default")
    assert (x.key, [dim.size for dim in x.value.tensor_shape.dim]) == ("x", [1, 2])
    assert list(np.frombuffer(x.value.tensor_content, np.float32)) == [1.5, 2.5]


def test_there_are_as_many_connections_as_asked_for_and_they_are_used_again() -> None:
    barrier = threading.Barrier(4)

    def together(server: GrpcServing, request: bytes, context: grpc.ServicerContext) -> bytes:
        barrier.wait(10)
        return b"fine"

    with serving(finally_=together) as server, Load([server.url], 10, 4) as load:
        for _ in range(3):
            block = load.send_closed_loop([prepared(b"ask")] * 8)
            assert (len(block.latencies), block.errors) == (8, 0)
    assert len(set(server.peers)) == 4


@pytest.mark.parametrize("size", [0, 1, 16_384 - 5, 65_530, 65_531, 300_000, 20_000_000])
def test_messages_of_any_size_come_whole(size: int) -> None:
    """Larger than a frame, than the server's window, than what grpcio's own client may send."""
    content = bytes(size)

    def measure(server: GrpcServing, request: bytes, context: grpc.ServicerContext) -> bytes:
        assert request == content
        return request + b"!"

    with serving(finally_=measure) as server, Load([server.url], 20) as load:
        block = load.send_closed_loop([prepared(content)] * 3)
    assert (len(block.latencies), block.errors) == (3, 0)
    assert len(set(server.peers)) == 1


def test_answers_larger_than_any_window_leave_the_connection_ready() -> None:
    with serving(finally_=say(bytes(30_000_000))) as server:
        block = measured(server, 3)
    assert (len(block.latencies), block.errors, len(set(server.peers))) == (3, 0, 1)


@pytest.mark.parametrize(
    "code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK], ids=lambda code: code.name
)
def test_any_status_but_ok_is_an_error_and_no_latency(code: grpc.StatusCode) -> None:
    with serving(say(), refuse(code), say()) as server:
        block = measured(server, 3)
    assert (len(block.latencies), block.errors, len(set(server.peers))) == (2, 1, 1)


def test_a_method_that_is_not_there_is_an_error() -> None:
    with serving() as server, Load([server.url], 10) as load:
        load._replicas[0].head = GrpcReplica(0, server.url, "/no.Such/Method").head  # type: ignore[attr-defined]
        block = load.send_closed_loop([prepared(b"ask")] * 2)
    assert (len(block.latencies), block.errors) == (0, 2)


def test_a_large_request_that_is_refused_before_it_was_sent_does_not_spoil_the_next() -> None:
    with serving() as server, Load([server.url], 10) as load:
        there = load._replicas[0].head  # type: ignore[attr-defined]
        load._replicas[0].head = GrpcReplica(0, server.url, "/no.Such/Method").head  # type: ignore[attr-defined]
        assert load.send_closed_loop([prepared(bytes(5_000_000))]).errors == 1
        load._replicas[0].head = there  # type: ignore[attr-defined]
        assert load.send_closed_loop([prepared(b"ask")]).errors == 0


def test_silence_is_an_error_once_the_timeout_is_over() -> None:
    with serving(keep_silent, say()) as server:
        block = measured(server, 2, timeout=1)
    assert (len(block.latencies), block.errors, len(set(server.peers))) == (1, 1, 2)
    assert 1 <= block.seconds < SILENCE


def test_where_nothing_listens_every_request_is_an_error() -> None:
    with Load([f"grpc://127.0.0.1:{free_port()}/v1/models/net"], 10) as load:
        block = load.send_closed_loop([prepared(b"ask")] * 3)
    assert (len(block.latencies), block.errors) == (0, 3)


@pytest.mark.parametrize(
    "act",
    [scripted.say(scripted.answer(b"{}", 400)), scripted.say_and_close(b""), scripted.say(b"SSH-2.0-x\r\n")],
    ids=["HTTP/1.1", "hung up", "another protocol"],
)
def test_what_speaks_no_grpc_is_an_error(act: scripted.Act) -> None:
    with scripted.serving(finally_=act) as server, Load([server.url.replace("http", "grpc")], 0.5) as load:
        block = load.send_closed_loop([prepared(b"ask")] * 2)
    assert (len(block.latencies), block.errors) == (0, 2)


def test_a_server_that_was_started_again_between_two_blocks_is_no_error() -> None:
    with serving() as first, Load([first.url], 10, 2) as load:
        assert load.send_closed_loop([prepared(b"ask")] * 4).errors == 0
        first.close()
        until(lambda: bool(load._selector.select(0)))
        with serving(port=first.port) as second:
            block = load.send_closed_loop([prepared(b"ask")] * 4)
    assert (len(block.latencies), block.errors, len(second.requests)) == (4, 0, 4)


def test_a_server_that_leaves_in_the_middle_of_a_block_fails_what_it_had() -> None:
    def leave(server: GrpcServing, request: bytes, context: grpc.ServicerContext) -> bytes:
        threading.Thread(target=server._server.stop, args=(None,)).start()
        server.stopping.wait(10)
        return b""

    with serving(say(), leave) as server:
        block = measured(server, 3)
        assert (len(block.latencies), block.errors) == (1, 2)


def test_latencies_are_the_time_of_each_call() -> None:
    moments: list[float] = []

    def slow(server: GrpcServing, request: bytes, context: grpc.ServicerContext) -> bytes:
        moments.append(time.perf_counter())
        time.sleep(0.1)
        moments.append(time.perf_counter())
        return b"fine"

    with serving(say(), slow, say()) as server:
        begun = time.perf_counter()
        first, second, third = measured(server, 3).latencies
        ended = time.perf_counter()
    assert first <= moments[0] - begun
    assert second >= 0.1
    assert third <= ended - moments[1]


# Frames that grpcio does not send, though it might


def told(answer: bytes, first: bytes = frames.settings(), content: bytes = b"ask") -> tuple[Block, Frames]:
    """The outcome of a call that a server answers with these frames, and what the server was told."""
    with frames.serving(answer, first) as story, Load([story.url], TIMEOUT) as load:
        block = load.send_closed_loop([prepared(content)])
    return block, story


PADDED_FINE = frame(DATA, PADDED, 1, b"\x03" + MESSAGE + bytes(3))
PADDED_END = frame(
    HEADERS, PADDED | PRIORITY | END_HEADERS | END_STREAM, 1, b"\x02" + bytes(5) + OK + bytes(2)
)
IN_PARTS = frame(HEADERS, END_STREAM, 1, OK[:3]) + frame(CONTINUATION, END_HEADERS, 1, OK[3:])


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER,
        BEGIN + PADDED_FINE + PADDED_END,
        BEGIN + FINE + IN_PARTS,
        BEGIN + frame(DATA, 0, 1, MESSAGE[:3]) + frame(DATA, 0, 1) + frame(DATA, 0, 1, MESSAGE[3:]) + END,
        frame(PING, 0, 0, b"12345678") + BEGIN + frame(99, 7, 1, b"unheard of") + FINE + END,
        BEGIN + frame(WINDOW_UPDATE, 0, 77, b"\0\0\0\1") + frame(RST_STREAM, 0, 77, bytes(4)) + FINE + END,
        ANSWER + frame(RST_STREAM, 0, 1, bytes(4)),
        frames.settings((INITIAL_WINDOW_SIZE, 10)) + ANSWER,
        ANSWER + frame(GOAWAY, 0, 0, struct.pack(">II", 1, 0)),
    ],
    ids=["plain", "padded", "continued", "in pieces", "ping", "others", "reset after", "settings", "leaving"],
)
def test_whatever_http_allows_around_an_answer_is_an_answer(answer: bytes) -> None:
    block, story = told(answer)
    assert (len(block.latencies), block.errors) == (1, 0)
    assert all(flags & ACK for _, flags, _, _ in story.of(PING))


@pytest.mark.parametrize(
    "answer",
    [
        BEGIN + END,
        BEGIN + FINE + frame(DATA, END_STREAM, 1),
        BEGIN + FINE + frame(HEADERS, END_HEADERS | END_STREAM, 1, frames.block(("grpc-status", "x"))),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, frames.block((":status", "404"))),
        BEGIN + FINE + frame(RST_STREAM, 0, 1, b"\0\0\0\7"),
        frame(GOAWAY, 0, 0, struct.pack(">II", 0, 11)),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff\xff\xff\xff\xff\xff"),
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=["no message", "no trailers", "no number", "HTTP 404", "reset", "left", "no headers", "HTTP/1.1"],
)
def test_whatever_is_no_answer_is_an_error(answer: bytes) -> None:
    block, _ = told(answer)
    assert (len(block.latencies), block.errors) == (0, 1)
    assert block.seconds < TIMEOUT, "it is not waited for"


@given(window=st.integers(1, 300), frame_size=st.integers(16_384, 20_000), size=st.integers(0, 40_000))
@settings(max_examples=25, deadline=None)
def test_no_more_is_sent_than_the_server_has_opened_its_window_for(
    window: int, frame_size: int, size: int
) -> None:
    size = min(size, window * 100)
    content = bytes(range(256)) * (size // 256 + 1)
    first = frames.settings((INITIAL_WINDOW_SIZE, window), (MAX_FRAME_SIZE, frame_size))
    block, story = told(ANSWER, first, content[:size])
    assert (len(block.latencies), block.errors) == (1, 0)
    sent = story.of(DATA)
    assert b"".join(payload for *_, payload in sent) == prepared(content[:size])[0]
    assert max(len(payload) for *_, payload in sent) <= window


def test_a_window_that_never_opens_is_a_timeout() -> None:
    first = frames.settings((INITIAL_WINDOW_SIZE, 4))
    with frames.serving(first=first, opens=False) as story, Load([story.url], 1) as load:
        block = load.send_closed_loop([prepared(b"ask")])
    assert block.errors == 1
    assert [payload for *_, payload in story.of(DATA)] == [prepared(b"ask")[0][:4]]


def test_settings_are_acknowledged_before_they_are_used() -> None:
    """grpcio ends the connection of who sends a larger frame before it has said that it knows it may."""
    _, story = told(
        ANSWER, frames.settings((MAX_FRAME_SIZE, 1 << 20), (INITIAL_WINDOW_SIZE, 1 << 20)), bytes(50_000)
    )
    kinds = [(kind, flags & ACK) for kind, flags, _, _ in story.received if kind in (SETTINGS, DATA)]
    assert kinds == [(SETTINGS, 0), (SETTINGS, ACK), (DATA, END_STREAM)]


# Open loop, replicas


def test_open_loop_sends_at_the_scheduled_time_over_idle_connections() -> None:
    with serving() as server, Load([server.url], 10, 8) as load:
        block = load.send_open_loop([prepared(b"ask")] * 20, 200, Random(1))
    assert (len(block.latencies), block.errors, block.sent) == (20, 0, (20,))
    assert block.seconds > 0.02


def test_open_loop_counts_the_time_in_the_queue() -> None:
    def work(server: GrpcServing, request: bytes, context: grpc.ServicerContext) -> bytes:
        time.sleep(0.05)
        return b"fine"

    with serving(finally_=work) as server, Load([server.url], 10) as load:
        block = load.send_open_loop([prepared(b"ask")] * 5, 10_000, Random(1))
    assert block.latencies[-1] >= 0.2


def test_replicas_take_turns_also_where_one_speaks_rest() -> None:
    with serving() as one, scripted.serving() as other, Load([one.url, other.url], 10) as load:
        block = load.send_closed_loop([load.prepare(BODY)] * 6)
    assert (block.errors, block.sent, len(one.requests), len(other.requests)) == (0, (3, 3), 3, 3)


def test_a_request_cannot_be_made_for_a_server_that_is_not_there() -> None:
    with (
        Load([f"grpc://127.0.0.1:{free_port()}/v1/models/net"], 10) as load,
        pytest.raises(ServerError, match="does not answer over gRPC"),
    ):
        load.prepare(BODY)
