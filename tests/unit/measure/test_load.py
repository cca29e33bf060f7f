"""tasks.lib.measure.load: the load generator, against real servers that misbehave on order."""

from __future__ import annotations

import resource
import select
import signal
import socket
import threading
import time

import pytest

from tasks.lib.client.wire import RECEIVE_SIZE
from tasks.lib.common.errors import ServerError
from tasks.lib.measure.load import Load
from tests.helpers.loads import BODY, Evenly, Gate, hung_up, measured, once
from tests.helpers.scripted import (
    SILENCE,
    Act,
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


def test_a_block_sends_each_request_once_over_one_connection() -> None:
    with serving() as server, Load([server.url], 10) as load:
        bodies = [b"one", b"two", b"three"]
        block = load.send_closed_loop([load.prepare(body) for body in bodies])
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
    with serving() as server, Load([server.url + "/"], 10) as load:
        load.send_closed_loop([load.prepare(BODY)])
    assert server.requests[0].startswith(b"POST /v1/models/net:predict ")


def test_latencies_are_the_time_of_each_exchange() -> None:
    arrived: list[float] = []

    def pause_after_the_answer(server: Scripted, connection: socket.socket) -> bool:
        connection.sendall(answer())
        select.select([connection], [], [], 10)  # the next request is there
        arrived.append(time.perf_counter())
        time.sleep(0.1)
        return True

    with serving(pause_after_the_answer, say(), dribble(answer(), 0.1, piece=len(answer()) - 1)) as server:
        begun = time.perf_counter()
        block = measured(server, 3)
    assert block.latencies[0] <= arrived[0] - begun, "it ended before the next request was sent"
    assert block.latencies[1] > 0.09, "the server paused before it read the request"
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
    with serving(say(), say_and_close(answer())) as server, Load([server.url], 10) as load:
        requests = [load.prepare(BODY)] * 2
        assert load.send_closed_loop(requests).errors == 0
        until(lambda: hung_up(load))
        block = load.send_closed_loop(requests)
    assert (len(block.latencies), block.errors, server.connections) == (2, 0, 2)


def test_a_connection_is_used_again_in_the_next_block() -> None:
    with serving() as server, Load([server.url], 10) as load:
        for _ in range(3):
            load.send_closed_loop([load.prepare(BODY)])
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
        block = measured(server, 2, timeout=1)
    assert (len(block.latencies), block.errors, server.connections) == (1, 1, 2)
    assert 1 <= block.seconds < SILENCE


def test_the_timeout_is_for_the_whole_exchange() -> None:
    # Every piece comes soon, the whole would take four seconds.
    with serving(dribble(answer(b"x" * 40), 0.1, piece=2)) as server:
        block = measured(server, 1, timeout=0.25)
    assert block.errors == 1, "with a timeout for each piece it would have succeeded"
    assert block.seconds >= 0.25


def test_the_timeout_does_not_begin_again_with_each_piece() -> None:
    whole = answer(b"x" * 40)
    script = [dribble(whole, 0.35, piece=len(whole) // 3)]  # at 0, 0.35 and 0.7 seconds
    with serving(*script) as server:
        block = measured(server, 1, timeout=0.4)
    assert block.errors == 1, "with a timeout that begins again it would have succeeded"


def test_an_interim_answer_is_waited_out() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    script = [dribble(interim + answer(), 0.05, piece=len(interim))]
    with serving(*script) as server:
        block = measured(server, 2)
    assert (len(block.latencies), block.errors, server.connections) == (2, 0, 1)


def test_where_nothing_listens_every_request_is_an_error() -> None:
    with Load([f"http://127.0.0.1:{free_port()}/v1/models/net"], 10) as load:
        block = load.send_closed_loop([load.prepare(BODY)] * 3)
    assert (len(block.latencies), block.errors) == (0, 3)


def test_a_server_that_comes_back_is_found_within_the_block() -> None:
    with serving(say_and_close(b""), say_and_close(b""), say()) as server:
        block = measured(server, 3)
    assert (len(block.latencies), block.errors) == (1, 2)


def test_closing_twice_or_before_anything_was_sent_is_fine() -> None:
    load = Load(["http://127.0.0.1:1/v1/models/net"], 1)
    load.close()
    load.close()


@pytest.mark.parametrize("url", ["https://host/v1/models/net", "host:8501", "http://", "/v1/models/net"])
def test_an_address_that_cannot_be_measured_is_told(url: str) -> None:
    with pytest.raises(ServerError) as told:
        Load([url], 1)
    assert url in told.value.problem
    assert "http://" in told.value.remedy


@pytest.mark.parametrize("url", ["http://host:abc/v1/models/net", "http://host:70000/v1/models/net"])
def test_a_port_that_is_none_is_told(url: str) -> None:
    with pytest.raises(ServerError, match="port"):
        Load([url], 1)


def test_a_block_knows_how_long_it_took() -> None:
    with serving() as server, Load([server.url], 10) as load:
        load.send_closed_loop([load.prepare(BODY)])
        before = time.perf_counter()
        block = load.send_closed_loop([load.prepare(BODY)] * 20)
        around = time.perf_counter() - before
    assert sum(block.latencies) <= block.seconds <= around


# Several connections


def test_as_many_requests_are_in_flight_as_there_are_connections() -> None:
    gate = Gate(4)
    with serving(finally_=gate) as server:
        block = measured(server, 20, connections=4)
    assert (len(block.latencies), block.errors, block.sent) == (20, 0, (20,))
    assert gate.most == 4
    assert server.connections == 4


def test_a_connection_goes_on_while_another_one_waits() -> None:
    """Not in batches: nine requests go over one connection, while the tenth keeps the other busy."""
    script: list[Act] = [once(lambda: len(server.requests) == 10)]
    with serving(*script) as server:
        block = measured(server, 10, connections=2)
    assert (len(block.latencies), block.errors, server.connections) == (10, 0, 2)


def test_connections_are_used_again_in_the_next_block() -> None:
    with serving(finally_=Gate(3)) as server, Load([server.url], 10, 3) as load:
        for _ in range(3):
            load.send_closed_loop([load.prepare(BODY)] * 6)
    assert server.connections == 3


def test_no_more_connections_are_made_than_there_are_requests() -> None:
    with serving() as server:
        measured(server, 2, connections=8)
    assert server.connections <= 2


@pytest.mark.parametrize(
    ("bad", "reconnects"),
    [
        (say(answer(b"{}", 503)), 0),
        (say_and_close(b""), 5),
        (say_and_close(answer()[:-1]), 5),
        (say(b"SSH-2.0-OpenSSH_9.2\r\n"), 5),
        (keep_silent, 5),
    ],
    ids=["status", "hung up", "broken off", "another protocol", "silence"],
)
def test_every_kind_of_failure_is_counted_at_several_connections(bad: Act, reconnects: int) -> None:
    with serving(say(), bad, bad, say(), bad, bad, bad) as server:
        block = measured(server, 40, timeout=1, connections=4)
    assert (len(block.latencies), block.errors, block.sent) == (35, 5, (40,))
    assert server.connections <= 4 + reconnects


def test_the_others_go_on_while_one_times_out() -> None:
    with serving(keep_silent) as server:
        block = measured(server, 200, timeout=1, connections=2)
    assert (len(block.latencies), block.errors) == (199, 1)
    assert 1 <= block.seconds < SILENCE


def test_large_requests_are_sent_piece_by_piece() -> None:
    body = bytes(4_000_000)
    with serving() as server, Load([server.url], 10, 2) as load:
        block = load.send_closed_loop([load.prepare(body)] * 4)
    assert (len(block.latencies), block.errors, server.connections) == (4, 0, 2)
    assert all(request.endswith(b"\r\n\r\n" + body) for request in server.requests)


def test_after_an_answer_to_half_a_request_the_connection_is_given_up() -> None:
    kept: list[socket.socket] = []

    def hasty(listener: socket.socket) -> None:
        """Reads no more than the beginning, so that no request can have been sent as a whole."""
        for _ in range(2):
            connection, _ = listener.accept()
            kept.append(connection)
            connection.recv(1000)
            connection.sendall(answer(b"{}", 413))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=hasty, args=(listener,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/models/net"
        with Load([url], 10) as load:
            block = load.send_closed_loop([load.prepare(bytes(50_000_000))] * 2)
        thread.join(10)
    for connection in kept:
        connection.close()
    assert (block.errors, len(kept)) == (2, 2)


def test_an_answer_that_no_one_asked_for_does_not_pass_for_the_next_one() -> None:
    with serving(say(answer() + answer(b"{}", 500)), say()) as server:
        block = measured(server, 2)
    assert (len(block.latencies), block.errors, server.connections) == (2, 0, 2)


def test_a_block_of_nothing_is_possible() -> None:
    with serving() as server:
        block = measured(server, 0)
    assert (len(block.latencies), block.errors, block.sent) == (0, 0, (0,))


# When it ends early


def interrupt_main() -> None:
    """What Ctrl-C does."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


@pytest.mark.parametrize("rate", [None, 1000], ids=["closed", "open"])
def test_an_interrupt_closes_every_connection(rate: float | None) -> None:
    asked, hung_up = [], []

    def interrupt(server: Scripted, connection: socket.socket) -> bool:
        asked.append(True)
        if len(asked) == 3:
            interrupt_main()
        if not connection.recv(1):
            hung_up.append(True)
        return False

    with serving(finally_=interrupt) as server:
        load = Load([server.url], 30, 3)
        requests = [load.prepare(BODY)] * 9
        with pytest.raises(KeyboardInterrupt), load:
            load.send_closed_loop(requests) if rate is None else load.send_open_loop(requests, rate, Evenly())
        until(lambda: len(hung_up) == 3)


def test_after_an_interrupt_nothing_old_is_taken_for_an_answer() -> None:
    def interrupt_and_answer(server: Scripted, connection: socket.socket) -> bool:
        interrupt_main()
        until(lambda: interrupted.is_set())
        connection.sendall(answer(b"{}", 500))
        return True

    interrupted = threading.Event()
    with serving(interrupt_and_answer) as server, Load([server.url], 10) as load:
        requests = [load.prepare(BODY)]
        with pytest.raises(KeyboardInterrupt):
            load.send_closed_loop(requests)
        interrupted.set()
        block = load.send_closed_loop(requests)
    assert (len(block.latencies), block.errors, server.connections) == (1, 0, 2)


def test_too_few_files_for_the_connections_are_told() -> None:
    """It is no fault of the server, so it must not be counted as one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Load([f"http://127.0.0.1:{free_port()}/v1/models/net"], 1, 4) as load:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            with pytest.raises(ServerError, match="may not open 4 connections") as told:
                load.send_closed_loop([load.prepare(BODY)] * 4)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "ulimit -n" in told.value.remedy
