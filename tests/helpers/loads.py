"""What the tests of tasks.lib.measure.load have in common."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from random import Random

from tasks.lib.measure.load import Block, Load
from tests.helpers.scripted import (
    Act,
    Scripted,
    answer,
    until,
)

BODY = b'{"instances":[1]}'


def measured(server: Scripted, count: int, timeout: float = 10, connections: int = 1) -> Block:
    """Closed loop."""
    with Load([server.url], timeout, connections) as load:
        return load.send_closed_loop([load.prepare(BODY)] * count)


class Evenly(Random):
    """Arrivals at equal distances, where a test must know them."""

    def expovariate(self, lambd: float = 1.0) -> float:
        return 1 / lambd


def arriving(server: Scripted, count: int, rate: float, timeout: float = 10, connections: int = 1) -> Block:
    """Open loop."""
    with Load([server.url], timeout, connections) as load:
        return load.send_open_loop([load.prepare(BODY)] * count, rate, Evenly())


def shares(servers: list[Scripted], count: int, connections: int) -> tuple[int, ...]:
    """What each of several replicas was sent in closed loop."""
    with Load([server.url for server in servers], 10, connections) as load:
        block = load.send_closed_loop([load.prepare(BODY)] * count)
    assert (len(block.latencies), block.errors) == (count, 0)
    assert block.sent == tuple(len(server.requests) for server in servers)
    return block.sent


class Gate:
    """Keeps the first requests until enough of them are there, and knows how many there were at once."""

    def __init__(self, opens_at: int) -> None:
        self._opens_at = opens_at
        self._lock = threading.Lock()
        self._inside = 0
        self.most = 0

    def __call__(self, server: Scripted, connection: socket.socket) -> bool:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        until(lambda: self.most >= self._opens_at)
        with self._lock:
            self._inside -= 1
        connection.sendall(answer())
        return True


def once(condition: Callable[[], bool]) -> Act:
    """Answer as soon as it has come."""

    def act(server: Scripted, connection: socket.socket) -> bool:
        until(condition)
        connection.sendall(answer())
        return True

    return act


def hung_up(load: Load) -> bool:
    """Whether the server has closed an idle connection."""
    return bool(load._selector.select(0))
