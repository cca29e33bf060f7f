"""tasks.lib.measure.load: open loop."""

from __future__ import annotations

import math
import socket
import threading
import time
from random import Random
from typing import Any

import numpy as np
import pytest

from tasks.lib.measure.load import Block, Load
from tests.helpers.loads import BODY, Evenly, Gate, arriving, measured
from tests.helpers.scripted import (
    Act,
    Scripted,
    answer,
    keep_silent,
    say,
    say_and_close,
    serving,
)


def test_arrivals_are_a_seeded_poisson_process(monkeypatch: pytest.MonkeyPatch) -> None:
    schedules: list[Any] = []
    nothing = Block(np.array([]), 0.0, 0, (0,))
    monkeypatch.setattr(Load, "_run", lambda load, requests, when: schedules.append(when) or nothing)
    with serving() as server, Load([server.url], 10) as load:
        for seed in (1, 1, 2):
            load.send_open_loop([load.prepare(BODY)] * 20_000, 50, Random(seed))
    first, same, other = (np.array(schedule) for schedule in schedules)
    assert (first == same).all()
    assert (first != other).any()
    gaps = np.diff(first, prepend=0)
    assert gaps.min() >= 0
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.05)
    assert gaps.std() == pytest.approx(1 / 50, rel=0.05)  # as large as the mean: exponential
    assert np.median(gaps) == pytest.approx(math.log(2) / 50, rel=0.05)


def test_requests_are_not_sent_before_their_time() -> None:
    with serving() as server:
        block = arriving(server, 5, rate=20)
    assert (len(block.latencies), block.errors) == (5, 0)
    assert block.seconds >= 0.25


def test_open_loop_counts_the_time_in_the_queue() -> None:
    """Ten requests at once to a server that needs 50 ms for each: the last one waits for all others."""

    def work(server: Scripted, connection: socket.socket) -> bool:
        time.sleep(0.05)
        connection.sendall(answer())
        return True

    with serving(finally_=work) as server:
        block = arriving(server, 10, rate=10_000)
        closed = measured(server, 10)
    assert list(block.latencies) == sorted(block.latencies)
    assert block.latencies[-1] >= 0.45
    assert sum(block.latencies) > 2 * block.seconds, "each counts the time of those before it"
    assert sum(closed.latencies) <= closed.seconds


def test_open_loop_does_not_wait_for_answers_while_there_are_connections() -> None:
    gate = Gate(4)
    with serving(finally_=gate) as server:
        block = arriving(server, 8, rate=1000, connections=4)
    assert (len(block.latencies), block.errors) == (8, 0)
    assert gate.most == 4  # and no more
    assert server.connections == 4


def test_open_loop_opens_only_as_many_connections_as_it_needs() -> None:
    with serving() as server:
        arriving(server, 3, rate=2, connections=3)
    assert server.connections < 3, "half a second apart, they need one"


def test_in_open_loop_the_timeout_counts_from_the_scheduled_time() -> None:
    """Three requests at once over one connection: while the first times out, so do those behind it."""
    with serving(finally_=keep_silent) as server:
        block = arriving(server, 3, rate=100_000, timeout=0.4)
    assert (len(block.latencies), block.errors, block.sent) == (0, 3, (1,))
    assert block.seconds >= 0.4


@pytest.mark.parametrize("bad", [say(answer(b"{}", 500)), say_and_close(b""), keep_silent])
def test_failures_in_open_loop_are_counted(bad: Act) -> None:
    with serving(say(), bad, say(), bad) as server:
        block = arriving(server, 20, rate=200, timeout=1.5, connections=4)
    assert (len(block.latencies), block.errors, block.sent) == (18, 2, (20,))


def test_an_idle_connection_that_the_server_closes_in_open_loop_is_no_error() -> None:
    with serving(finally_=say_and_close(answer())) as server:
        block = arriving(server, 3, rate=2)
    assert (len(block.latencies), block.errors, server.connections) == (3, 0, 3)


def test_a_pause_that_closed_loop_hides_shows_in_open_loop() -> None:
    """A server that stops for half a second at each hundredth request."""

    def pausing() -> Act:
        one_at_a_time = threading.Lock()
        seen: list[bool] = []

        def act(server: Scripted, connection: socket.socket) -> bool:
            with one_at_a_time:
                seen.append(True)
                if len(seen) % 100 == 0:
                    time.sleep(0.5)
                connection.sendall(answer())
            return True

        return act

    with serving(finally_=pausing()) as server:
        closed = measured(server, 199)
    with serving(finally_=pausing()) as server, Load([server.url], 10, 64) as load:
        opened = load.send_open_loop([load.prepare(BODY)] * 199, 100, Random(1))
    assert closed.errors == opened.errors == 0
    # A client that waits for answers meets the pause once; otherwise some 25 requests wait for half of it.
    assert np.sum(closed.latencies > 0.25) < 10 <= np.sum(opened.latencies > 0.25)


def test_open_loop_deals_to_the_replicas_in_turn() -> None:
    with serving() as one, serving() as other, Load([one.url, other.url], 10, 4) as load:
        # So far apart that neither has both its connections taken, on a busy machine either.
        block = load.send_open_loop([load.prepare(BODY)] * 6, 5, Evenly())
    assert (len(block.latencies), block.errors, block.sent) == (6, 0, (3, 3))
