"""The load generator: prepared requests to one service over kept-alive connections, timed, in one thread.

`requests` costs 0.8 ms a call and http.client 0.3 ms, of which a fast server's answer is a good part.
This one sends bytes that were made before the clock started, waits for all connections at once and
reads the answers with a parser in C.

    Load       which request goes to which replica and when, and what became of it
    Replica    one address of the service and its idle connections (tasks.lib.client.wire)
    Wire       one connection: connects, sends and receives without ever blocking, over REST or gRPC
"""

from __future__ import annotations

import contextlib
import errno
import math
import select
import selectors
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tasks.lib.client.rest_wire import RestReplica
from tasks.lib.client.wire import Replica, Wire
from tasks.lib.common.errors import ServerError

if TYPE_CHECKING:
    import numpy as np

WAKE_EARLY = 150e-6
"""Seconds before an arrival from which on the clock is watched instead of slept against.

Linux wakes a sleeper up to 50 µs late (prctl(2), PR_SET_TIMERSLACK), and waking takes as long again on a
virtual machine: requests were sent 0.11 ms late. As latency counts from the scheduled time, that would
be laid at the server's door.
"""

Prepared = tuple[bytes, ...]
"""One whole request as it is sent, in the form for each replica."""


@dataclass(frozen=True)
class Block:
    """What one contestant did in one go."""

    latencies: np.ndarray[Any, Any]
    """Seconds until the last byte was received, of the requests that succeeded, as the answers came.

    Closed loop counts from the first byte sent, open loop from the scheduled time. Connecting counts
    too, where an answer before ended the connection or open loop needs one more.
    """
    seconds: float
    """How long the block took, failed requests included."""
    errors: int
    """Requests that failed: another status than 200 (gRPC: OK), a broken connection, or a timeout."""
    sent: tuple[int, ...]
    """Requests given to each address, in the order of the addresses.

    Fewer in all than succeeded and failed where some timed out in open loop before they had a connection.
    """
    started: float = 0.0
    """On the clock of time.perf_counter."""


class Load:
    """Load on one service: at most `connections` requests at a time, over connections that are kept alive.

    `urls` are the model's addresses without ":predict", several if they are replicas of one service.
    Replicas take turns, but none has more than its share of `connections` (rounded up) in flight: with
    as many connections as replicas or more, each replica keeps its connections busy, and in closed loop
    a slow one gets fewer requests (and one that fails at once gets more); with a single connection, all
    replicas get equally many, each over a connection of its own but one request at a time in all.

    `timeout` is in seconds, for a whole exchange; in open loop it counts from the scheduled time. Names
    are looked up once. Raises ServerError for an address that is neither http:// nor grpc://, or has no
    valid port.
    """

    def __init__(self, urls: Sequence[str], timeout: float, connections: int = 1) -> None:
        if not urls or connections < 1:
            raise ValueError(
                f"{len(urls)} addresses, {connections} connections: at least one of each is needed"
            )
        self.urls = tuple(urls)
        self._replicas = [_replica(number, url) for number, url in enumerate(urls)]
        self._timeout = timeout
        self._connections = connections
        self._share = math.ceil(connections / len(urls))
        self._turn = 0
        self._busy: dict[Wire, None] = {}
        """Connections with a request in flight, the oldest request first: all have the same timeout."""
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Load:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection; no block can be sent after that."""
        self._hang_up()
        self._selector.close()

    def prepare(self, body: bytes) -> Prepared:
        """The whole request around a JSON body, ready to be sent to any replica."""
        return tuple(replica.request(body) for replica in self._replicas)

    def send_closed_loop(self, requests: Sequence[Prepared]) -> Block:
        """Closed loop: each connection sends its next request as soon as its last one is answered.

        Raises ServerError if this process may not open so many connections.
        """
        return self._block(requests, None)

    def send_open_loop(self, requests: Sequence[Prepared], rate: float, random: Random) -> Block:
        """Open loop: requests arrive in a Poisson process of `rate` per second, whatever the server does.

        One that finds all connections busy waits for the first that gets free, and its clock runs. An
        idle connection is used before another one is opened. Raises ServerError if this process may not
        open so many connections.
        """
        return self._block(requests, array("d", accumulate(random.expovariate(rate) for _ in requests)))

    def _block(self, requests: Sequence[Prepared], schedule: Sequence[float] | None) -> Block:
        """Send `requests`, each at its time in `schedule` (seconds from now), or as soon as possible."""
        try:
            self._ready(self._share if schedule is None else 1, len(requests))
            return self._run(requests, schedule)
        except BaseException:
            self._hang_up()  # what is still in flight must not be taken for an answer to the next block
            raise

    def _run(self, requests: Sequence[Prepared], schedule: Sequence[float] | None) -> Block:
        import numpy as np

        clock, busy, count, timeout = time.perf_counter, self._busy, len(requests), self._timeout
        latencies = array("d")  # a list of floats takes four times as much memory
        sent = [0] * len(self._replicas)
        errors = 0
        following = 0  # the request to be sent next

        start = clock()
        while following < count or busy:
            arrival = None
            while following < count and len(busy) < self._connections:
                now = clock()
                began = now if schedule is None else start + schedule[following]
                if began > now:
                    arrival = began
                    break
                request = requests[following]
                following += 1
                if now - began >= timeout:
                    errors += 1  # it has waited too long for a free connection
                    continue
                wire = self._take()
                sent[wire.replica.number] += 1
                try:
                    wire.send(request[wire.replica.number], began)
                except OSError as failure:
                    self._raise_if_ours(failure)
                    errors += 1
                    self._release(wire, False)
                    arrival = now  # the next one is due, but answers must not wait for a row of failures
                    break

            wait = None
            if busy:
                oldest = next(iter(busy))
                wait = oldest.began + timeout - clock()
                if wait <= 0:
                    errors += 1
                    self._release(oldest, False)
                    continue
            elif arrival is None:
                continue  # the last ones have timed out before they were sent

            for key, events in self._events(wait, arrival):
                wire = key.data
                if wire not in busy:
                    wire.rest(events)  # most often the server closes it: no request's fault
                    continue
                try:
                    succeeded = wire.proceed(events)
                except OSError as failure:
                    self._raise_if_ours(failure)
                    errors += 1
                    self._release(wire, False)
                    continue
                if succeeded is None:
                    continue
                if succeeded:
                    latencies.append(clock() - wire.began)
                else:
                    errors += 1
                self._release(wire, wire.reusable)
        return Block(np.array(latencies), clock() - start, errors, tuple(sent), start)

    def _take(self) -> Wire:
        """A connection, perhaps still to be made, to the next replica that has one to spare."""
        while True:
            replica = self._replicas[self._turn]
            self._turn = (self._turn + 1) % len(self._replicas)
            if replica.in_flight < self._share:
                break
        # The one that was used last: the others may rest so long that the server closes them.
        wire = replica.idle.pop() if replica.idle else replica.wire(self._selector)
        replica.in_flight += 1
        self._busy[wire] = None
        return wire

    def _release(self, wire: Wire, reusable: bool) -> None:
        """The request of `wire` has come to its end."""
        del self._busy[wire]
        wire.replica.in_flight -= 1
        if reusable:
            wire.replica.idle.append(wire)
        else:
            wire.close()

    def _events(self, wait: float | None, arrival: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """What has happened on the connections, after at most `wait` seconds and not later than `arrival`."""
        if arrival is None:
            return self._selector.select(wait)
        left = arrival - time.perf_counter() - WAKE_EARLY
        if left > 0:
            # Selectors round up to whole milliseconds; select itself knows microseconds.
            select.select([self._selector], [], [], left if wait is None else min(left, wait))
        return self._selector.select(0)

    def _ready(self, number: int, requests: int) -> None:
        """Connect before the clock starts, also where the server closed an idle connection.

        `wanted` is the number of connections to each replica. What cannot be connected now is tried
        again when a request needs it, and then counts.
        """
        while stirring := self._selector.select(0):
            for key, events in stirring:
                key.data.rest(events)
        number = min(number, math.ceil(requests / len(self._replicas)))
        connecting = [
            replica.wire(self._selector)
            for replica in self._replicas
            for _ in range(number - len(replica.idle))
        ]
        for wire in connecting:
            with self._forgiving(wire):
                wire.connect()
        deadline = time.perf_counter() + self._timeout
        while any(wire.connecting for wire in connecting) and (left := deadline - time.perf_counter()) > 0:
            for key, events in self._selector.select(left):
                if not key.data.connecting:
                    key.data.rest(events)  # the server closes it again, say
                    continue
                with self._forgiving(key.data):
                    key.data.proceed(events)
        for wire in connecting:
            if wire.connected:
                wire.replica.idle.append(wire)
            else:
                wire.close()

    @contextlib.contextmanager
    def _forgiving(self, wire: Wire) -> Iterator[None]:
        """A connection that fails here is closed, and no request has failed."""
        try:
            yield
        except OSError as failure:
            self._raise_if_ours(failure)
            wire.discard()

    def _raise_if_ours(self, failure: OSError) -> None:
        """A limit of this process is no failure of the server."""
        if failure.errno in (errno.EMFILE, errno.ENFILE):
            raise ServerError(
                f"This process may not open {self._connections} connections: {failure.strerror}.",
                "Use fewer connections, or allow more open files with `ulimit -n`.",
            ) from failure

    def _hang_up(self) -> None:
        """Close every connection, whatever it is doing."""
        for key in list((self._selector.get_map() or {}).values()):
            key.data.close()
        self._busy.clear()
        for replica in self._replicas:
            replica.idle.clear()
            replica.in_flight = 0


def _replica(number: int, url: str) -> Replica:
    """The address `url`; its scheme says what is spoken there. Raises ServerError for an unknown one."""
    scheme = url.partition("://")[0]
    if scheme == "http":
        return RestReplica(number, url)
    if scheme == "grpc":
        from tasks.lib.client.grpc import PredictReplica

        return PredictReplica(number, url)
    raise ServerError(
        f"{url} is not an address that can be measured.",
        "Give an address that begins with http:// (REST) or grpc://.",
    )
