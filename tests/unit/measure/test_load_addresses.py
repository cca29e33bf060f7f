"""tasks.lib.measure.load: several replicas, and names of hosts."""

from __future__ import annotations

import socket

import pytest

from tasks.lib.measure.load import Load
from tests.helpers.loads import BODY, Gate, once, shares
from tests.helpers.scripted import (
    Scripted,
    free_port,
    serving,
)

# Replicas


@pytest.mark.parametrize(
    ("replicas", "connections", "shares_of_60"),
    [(2, 1, (30, 30)), (3, 1, (20, 20, 20)), (1, 5, (60,))],
)
def test_one_request_at_a_time_goes_to_each_replica_in_turn(
    replicas: int, connections: int, shares_of_60: tuple[int, ...]
) -> None:
    servers = [Scripted() for _ in range(replicas)]
    try:
        assert shares(servers, 60, connections) == shares_of_60
        assert [server.connections for server in servers] == [connections] * replicas
    finally:
        for server in servers:
            server.close()


def test_replicas_take_turns_across_blocks() -> None:
    with serving() as one, serving() as other, Load([one.url, other.url], 10) as load:
        sent = [load.send_closed_loop([load.prepare(BODY)] * 3).sent for _ in range(2)]
    assert sent == [(2, 1), (1, 2)]


def test_connections_are_spread_over_the_replicas() -> None:
    gates = [Gate(2), Gate(2)]
    with serving(finally_=gates[0]) as one, serving(finally_=gates[1]) as other:
        sent = shares([one, other], 40, 4)
        assert sum(sent) == 40
        assert (one.connections, other.connections) == (2, 2)
    assert [gate.most for gate in gates] == [2, 2]


def test_each_replica_is_called_by_its_own_name() -> None:
    with serving() as one, serving() as other:
        shares([one, other], 4, 2)
        for server in (one, other):
            assert all(f"Host: 127.0.0.1:{server.port}\r\n".encode() in each for each in server.requests)


def test_a_slow_replica_gets_no_more_than_its_connections_can_take() -> None:
    with serving() as fast, serving(once(lambda: len(fast.requests) == 9)) as slow:
        assert shares([slow, fast], 10, 2) == (1, 9)


def test_a_replica_that_is_down_fails_with_its_share() -> None:
    with serving() as server:
        down = f"http://127.0.0.1:{free_port()}/v1/models/net"
        with Load([down, server.url], 10) as load:
            block = load.send_closed_loop([load.prepare(BODY)] * 10)
    assert (len(block.latencies), block.errors, block.sent) == (5, 5, (5, 5))


# Names


def test_a_name_with_several_addresses_is_tried_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        addresses = [("127.0.0.1", free_port()), ("127.0.0.1", server.port)]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        with Load(["http://service.example/v1/models/net"], 10, 2) as load:
            block = load.send_closed_loop([load.prepare(BODY)] * 4)
    assert (len(block.latencies), block.errors) == (4, 0)


def test_a_name_that_no_one_knows_fails_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with Load(["http://service.example/v1/models/net"], 10, 2) as load:
        block = load.send_closed_loop([load.prepare(BODY)] * 4)
    assert (len(block.latencies), block.errors) == (0, 4)


@pytest.mark.parametrize(("urls", "connections"), [([], 1), (["http://host/v1/models/net"], 0)])
def test_a_load_needs_an_address_and_a_connection(urls: list[str], connections: int) -> None:
    with pytest.raises(ValueError, match="at least one of each"):
        Load(urls, 1, connections)
