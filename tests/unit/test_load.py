"""tasks.lib.load: the hot loop, against a real server that misbehaves on order."""

from __future__ import annotations

import select
import time

import pytest

from tasks.lib.errors import ServerError
from tasks.lib.load import RECEIVE_SIZE, Block, Connection
from tests.unit.scripted import (
    Scripted,
    answer,
    chunked,
    dribble,
    free_port,
    keep_silent,
    say,
    say_and_close,
    serving,
    until,
)

BODY = b'{"instances":[1]}'


def measured(server: Scripted, count: int, timeout: float = 10) -> Block:
    with Connection(server.url, timeout) as connection:
        return connection.block([connection.prepare(BODY)] * count)


def hung_up(connection: Connection) -> bool:
    """Whether the server's end of the connection is closed."""
    return connection._socket is not None and bool(select.select([connection._socket], [], [], 0)[0])


def test_a_block_sends_each_request_once_over_one_connection() -> None:
    with serving() as server, Connection(server.url, 10) as connection:
        bodies = [b"one", b"two", b"three"]
        block = connection.block([connection.prepare(body) for body in bodies])
    assert [request.partition(b"\r\n\r\n")[2] for request in server.requests] == bodies
    assert server.connections == 1
    assert (len(block.latencies), block.errors) == (3, 0)


def test_requests_are_what_tensorflow_serving_takes() -> None:
    with serving() as server:
        measured(server, 1)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    assert first == "POST /v1/models/net:predict HTTP/1.1"
    assert set(fields) == {
        f"Host: 127.0.0.1:{server.port}",
        "Content-Type: application/json",
        f"Content-Length: {len(BODY)}",
    }
    assert body == BODY


def test_a_slash_at_the_end_of_the_address_does_no_harm() -> None:
    with serving() as server, Connection(server.url + "/", 10) as connection:
        connection.block([connection.prepare(BODY)])
    assert server.requests[0].startswith(b"POST /v1/models/net:predict ")


def test_latencies_are_the_time_of_each_exchange() -> None:
    late = dribble(answer(), 0.1, piece=1000)  # all of it at once, and then a pause
    with serving(late, say(), dribble(answer(), 0.1, piece=len(answer()) - 1)) as server:
        block = measured(server, 3)
    assert block.latencies[0] < 0.1
    assert block.latencies[1] > 0.05  # the server was still pausing
    assert block.latencies[2] > 0.09


@pytest.mark.parametrize(
    "whole",
    [
        answer(b"x" * (3 * RECEIVE_SIZE + 17)),
        chunked(b"x" * 1000, b"y" * RECEIVE_SIZE, b"z"),
        chunked(),
        answer(b""),
        answer(b"{}", head="connection: keep-alive\r\n"),
    ],
    ids=["large", "chunked", "chunked, empty", "empty", "keep-alive said"],
)
def test_whole_answers_leave_the_connection_ready_for_the_next(whole: bytes) -> None:
    with serving(finally_=say(whole)) as server:
        block = measured(server, 5)
    assert (len(block.latencies), block.errors, server.connections) == (5, 0, 1)


def test_an_answer_in_small_pieces_is_whole_in_the_end() -> None:
    with serving(dribble(chunked(b"ab", b"c"), 0.001)) as server:
        block = measured(server, 2)
    assert (len(block.latencies), block.errors, server.connections) == (2, 0, 1)


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503, 201])
def test_any_status_but_200_is_an_error_and_no_latency(status: int) -> None:
    with serving(say(), say(answer(b'{"error": "no"}', status)), say()) as server:
        block = measured(server, 3)
    assert (len(block.latencies), block.errors) == (2, 1)
    assert server.connections == 1  # the refusal was a whole answer


def test_a_server_that_announces_the_end_of_the_connection_is_followed() -> None:
    with serving(finally_=say_and_close(answer(head="Connection: close\r\n"))) as server:
        block = measured(server, 3)
    assert (len(block.latencies), block.errors, server.connections) == (3, 0, 3)


def test_a_connection_that_was_closed_between_two_blocks_is_no_error() -> None:
    with serving(say(), say_and_close(answer())) as server, Connection(server.url, 10) as connection:
        requests = [connection.prepare(BODY)] * 2
        assert connection.block(requests).errors == 0
        until(lambda: hung_up(connection))
        block = connection.block(requests)
    assert (len(block.latencies), block.errors, server.connections) == (2, 0, 2)


def test_a_connection_is_used_again_in_the_next_block() -> None:
    with serving() as server, Connection(server.url, 10) as connection:
        for _ in range(3):
            connection.block([connection.prepare(BODY)])
    assert server.connections == 1


@pytest.mark.parametrize(
    "cut",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Le", answer(b"x" * 100)[:-1], chunked(b"abc")[:-5]],
    ids=["nothing", "head", "body", "chunks"],
)
def test_an_answer_that_breaks_off_is_one_error(cut: bytes) -> None:
    with serving(say(), say_and_close(cut), say()) as server:
        block = measured(server, 3)
    assert (len(block.latencies), block.errors, server.connections) == (2, 1, 2)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
    ids=["another protocol", "broken chunk", "upgrade"],
)
def test_what_is_no_answer_is_an_error_and_ends_the_connection(nonsense: bytes) -> None:
    with serving(say(nonsense), say()) as server:
        block = measured(server, 2)
    assert (len(block.latencies), block.errors, server.connections) == (1, 1, 2)


def test_silence_is_an_error_once_the_timeout_is_over() -> None:
    with serving(keep_silent, say()) as server:
        block = measured(server, 2, timeout=0.2)
    assert (len(block.latencies), block.errors, server.connections) == (1, 1, 2)
    assert 0.2 <= block.seconds < 2


def test_the_timeout_is_for_the_whole_exchange() -> None:
    # Every piece comes soon, the whole would take four seconds.
    with serving(dribble(answer(b"x" * 40), 0.1, piece=2)) as server:
        block = measured(server, 1, timeout=0.25)
    assert block.errors == 1
    assert 0.25 <= block.seconds < 2


def test_the_timeout_does_not_begin_anew_with_each_piece() -> None:
    whole = answer(b"x" * 40)
    script = [dribble(whole, 0.35, piece=len(whole) // 3)]  # at 0, 0.35 and 0.7 seconds
    with serving(*script) as server:
        block = measured(server, 1, timeout=0.4)
    assert block.errors == 1
    assert block.seconds < 0.65


def test_an_interim_answer_is_waited_out() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    script = [dribble(interim + answer(), 0.05, piece=len(interim))]
    with serving(*script) as server:
        block = measured(server, 2)
    assert (len(block.latencies), block.errors, server.connections) == (2, 0, 1)


def test_where_nobody_listens_every_request_is_an_error() -> None:
    with Connection(f"http://127.0.0.1:{free_port()}/v1/models/net", 10) as connection:
        block = connection.block([connection.prepare(BODY)] * 3)
    assert (len(block.latencies), block.errors) == (0, 3)


def test_a_server_that_comes_back_is_found_within_the_block() -> None:
    with serving(say_and_close(b""), say_and_close(b""), say()) as server:
        block = measured(server, 3)
    assert (len(block.latencies), block.errors) == (1, 2)


def test_exchange_hands_out_the_status_and_closes_on_failure() -> None:
    script = [say(answer(b"{}", 503)), say_and_close(b"HTTP/1.1 200")]
    with serving(*script) as server, Connection(server.url, 10) as connection:
        request = connection.prepare(BODY)
        assert connection.exchange(request) == 503
        assert connection._socket is not None
        with pytest.raises(ConnectionError, match="before the answer was complete"):
            connection.exchange(request)
        assert connection._socket is None


def test_closing_twice_or_before_anything_was_sent_is_fine() -> None:
    connection = Connection("http://127.0.0.1:1/v1/models/net", 1)
    connection.close()
    connection.close()


@pytest.mark.parametrize("url", ["https://host/v1/models/net", "host:8501", "http://", "/v1/models/net"])
def test_an_address_that_cannot_be_measured_is_told(url: str) -> None:
    with pytest.raises(ServerError) as told:
        Connection(url, 1)
    assert url in told.value.problem
    assert "http://" in told.value.remedy


@pytest.mark.parametrize("url", ["http://host:abc/v1/models/net", "http://host:70000/v1/models/net"])
def test_a_port_that_is_none_is_told(url: str) -> None:
    with pytest.raises(ServerError, match="port"):
        Connection(url, 1)


def test_the_loop_itself_costs_little() -> None:
    """A hot loop as slow as `requests` (0.8 ms) would fail; a busy machine must not."""
    with serving() as server:
        block = measured(server, 300)
    assert sorted(block.latencies)[30] < 0.0003


def test_a_block_knows_how_long_it_took() -> None:
    with serving() as server, Connection(server.url, 10) as connection:
        connection.block([connection.prepare(BODY)])
        before = time.perf_counter()
        block = connection.block([connection.prepare(BODY)] * 20)
        around = time.perf_counter() - before
    assert sum(block.latencies) <= block.seconds <= around
