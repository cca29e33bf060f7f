"""The load generator: prepared requests to one service over kept-alive connections, timed, in one thread.

`requests` costs 0.8 ms a call and http.client 0.3 ms, of which a fast server's answer is a good part.
This one sends bytes that were made before the clock started, waits for all connections at once and
reads the answers with a parser in C.

    Load       which request goes to which replica and when, and what became of it
    _Replica   one address of the service and its idle connections
    _Wire      one connection: connects, sends and receives without ever blocking
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import selectors
import socket
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tasks.lib.errors import ServerError

if TYPE_CHECKING:
    import numpy as np

RECEIVE_SIZE = 1 << 16

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
    """Requests that failed: another status than 200, a broken connection, or a timeout."""
    sent: tuple[int, ...]
    """Requests given to each address, in the order of the addresses.

    Fewer in all than succeeded and failed where some timed out in open loop before they had a connection.
    """


class Load:
    """Load on one service: at most `connections` requests at a time, over connections that are kept alive.

    `urls` are the model's addresses without ":predict", several if they are replicas of one service.
    Replicas take turns, but none has more than its share of `connections` (rounded up) in flight: with
    as many connections as replicas or more, each replica keeps its connections busy, and in closed loop
    a slow one gets fewer requests (and one that fails at once gets more); with a single connection, all
    replicas get equally many, each over a connection of its own but one request at a time in all.

    `timeout` is in seconds, for a whole exchange; in open loop it counts from the scheduled time. Names
    are looked up once. Raises ServerError for an address that is not http:// or has no valid port.
    """

    def __init__(self, urls: Sequence[str], timeout: float, connections: int = 1) -> None:
        if not urls or connections < 1:
            raise ValueError(f"{len(urls)} addresses and {connections} connections make no load")
        self._replicas = [_Replica(number, url) for number, url in enumerate(urls)]
        self._timeout = timeout
        self._connections = connections
        self._share = math.ceil(connections / len(urls))
        self._turn = 0
        self._busy: dict[_Wire, None] = {}
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

    def closed(self, requests: Sequence[Prepared]) -> Block:
        """Closed loop: each connection sends its next request as soon as its last one is answered.

        Raises ServerError if this process may not open so many connections.
        """
        return self._block(requests, None)

    def open(self, requests: Sequence[Prepared], rate: float, random: Random) -> Block:
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
        import httptools
        import numpy as np

        failures = (OSError, httptools.HttpParserError, httptools.HttpParserUpgrade)
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
                except failures as failure:
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
                    wire.discard()  # an idle connection stirs when the server closes it: no request's fault
                    continue
                try:
                    status = wire.proceed(events)
                except failures as failure:
                    self._raise_if_ours(failure)
                    errors += 1
                    self._release(wire, False)
                    continue
                if status == 200:
                    latencies.append(clock() - wire.began)
                elif status:
                    errors += 1
                if status:
                    self._release(wire, wire.reusable)
        return Block(np.array(latencies), clock() - start, errors, tuple(sent))

    def _take(self) -> _Wire:
        """A connection, perhaps still to be made, to the next replica that has one to spare."""
        while True:
            replica = self._replicas[self._turn]
            self._turn = (self._turn + 1) % len(self._replicas)
            if replica.in_flight < self._share:
                break
        # The one that was used last: the others may rest so long that the server closes them.
        wire = replica.idle.pop() if replica.idle else _Wire(replica, self._selector)
        replica.in_flight += 1
        self._busy[wire] = None
        return wire

    def _release(self, wire: _Wire, reusable: bool) -> None:
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

    def _ready(self, wanted: int, requests: int) -> None:
        """Connect before the clock starts, also where the server closed an idle connection.

        `wanted` is the number of connections to each replica. What cannot be connected now is tried
        again when a request needs it, and then counts.
        """
        for key, _ in self._selector.select(0):
            key.data.discard()
        wanted = min(wanted, math.ceil(requests / len(self._replicas)))
        connecting = [
            _Wire(replica, self._selector)
            for replica in self._replicas
            for _ in range(wanted - len(replica.idle))
        ]
        for wire in connecting:
            with self._forgiving(wire):
                wire.connect()
        deadline = time.perf_counter() + self._timeout
        while any(wire.connecting for wire in connecting) and (left := deadline - time.perf_counter()) > 0:
            for key, events in self._selector.select(left):
                if not key.data.connecting:
                    key.data.discard()  # the server closes it again
                    continue
                with self._forgiving(key.data):
                    key.data.proceed(events)
        for wire in connecting:
            if wire.connected:
                wire.replica.idle.append(wire)
            else:
                wire.close()

    @contextlib.contextmanager
    def _forgiving(self, wire: _Wire) -> Iterator[None]:
        """A connection that fails here is closed, and no request has failed."""
        try:
            yield
        except OSError as failure:
            self._raise_if_ours(failure)
            wire.discard()

    def _raise_if_ours(self, failure: Exception) -> None:
        """A limit of this process is no failure of the server."""
        if isinstance(failure, OSError) and failure.errno in (errno.EMFILE, errno.ENFILE):
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


class _Replica:
    """One address of the service."""

    def __init__(self, number: int, url: str) -> None:
        parts = urlsplit(url.rstrip("/"))
        try:
            port = parts.port
        except ValueError:
            raise ServerError(f"{url} has no valid port.", "Give it a port between 1 and 65535.") from None
        if parts.scheme != "http" or not parts.hostname:
            raise ServerError(
                f"{url} is no address that can be measured.", "Give an address that begins with http://."
            )
        self.number = number
        """Its place among the replicas."""
        self.in_flight = 0
        self.idle: list[_Wire] = []
        """Connected and ready, the one that was used last at the end."""
        self._host, self._port = parts.hostname, port or 80
        self._head = (
            f"POST {parts.path}:predict HTTP/1.1\r\n"
            f"Host: {parts.netloc}\r\n"
            "Content-Type: application/json\r\n"
        )
        self._addresses: list[tuple[socket.AddressFamily, Any]] = []

    def request(self, body: bytes) -> bytes:
        return f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def addresses(self) -> list[tuple[socket.AddressFamily, Any]]:
        """What the host's name stands for. Raises OSError if nobody knows it."""
        if not self._addresses:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            self._addresses = [(family, address) for family, _, _, _, address in found]
        return self._addresses


class _Wire:
    """One HTTP/1.1 connection to a replica. Its methods raise OSError or httptools' parser errors."""

    def __init__(self, replica: _Replica, selector: selectors.BaseSelector) -> None:
        self.replica = replica
        self.began = 0.0
        """When the clock of the request in flight started (time.perf_counter)."""
        self.reusable = False
        """After an answer: whether the next request can go the same way."""
        self.connecting = False
        self._selector = selector
        self._socket: socket.socket | None = None
        self._untried: Iterator[tuple[socket.AddressFamily, Any]] = iter(())
        self._unsent: bytes | memoryview = b""
        self._status = 0
        """0 until the answer is complete."""
        self._parser: Any = None

    @property
    def connected(self) -> bool:
        return self._socket is not None and not self.connecting

    def connect(self) -> None:
        """Begin to connect; `proceed` goes on with it."""
        self._untried = iter(self.replica.addresses())
        self._try_next(ConnectionError("the name stands for no address"))

    def send(self, request: bytes, began: float) -> None:
        """Send a prepared request, or as much as goes out at once; `proceed` does the rest."""
        self.began, self._unsent, self._status = began, request, 0
        if self._socket is None:
            self.connect()
        else:
            self._write(self._socket)

    def proceed(self, events: int) -> int:
        """Do what the socket is ready for. The status of the answer once it is complete, 0 before."""
        assert self._socket is not None, "nothing happens on a closed connection"
        if self.connecting:
            self._finish_connecting(self._socket)
            return 0
        if events & selectors.EVENT_WRITE and self._unsent:
            self._write(self._socket)
        if not events & selectors.EVENT_READ:
            return 0
        try:
            received = self._socket.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return 0
        if not received:
            raise ConnectionError("closed before the answer was complete")
        self._parser.feed_data(received)
        return self._status

    def on_message_complete(self) -> None:
        """Called by the parser."""
        status = int(self._parser.get_status_code())
        if status >= 200:  # below it is an interim one; the answer is still to come
            # Asked only now: the parser has forgotten it as soon as this returns. After an answer that
            # nobody asked for, or that came before the whole request was sent, nothing would fit any more.
            self.reusable = not (self._status or self._unsent) and self._parser.should_keep_alive()
            self._status = self._status or status

    def close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(KeyError):  # what was interrupted may not have come so far
                self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = self._parser = None
        self.connecting = False

    def discard(self) -> None:
        """Close it, and let nobody take it for an idle one."""
        self.close()
        if self in self.replica.idle:
            self.replica.idle.remove(self)

    def _try_next(self, failure: OSError) -> None:
        """Begin to connect to the next address there is; raises the last one's failure after the last."""
        import httptools

        for family, address in self._untried:
            self.close()
            try:
                self._socket = socket.socket(family, socket.SOCK_STREAM)
                self._socket.setblocking(False)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._selector.register(self._socket, selectors.EVENT_WRITE, self)
                self.connecting = True
                self._parser = httptools.HttpResponseParser(self)
                with contextlib.suppress(BlockingIOError):
                    self._socket.connect(address)
            except OSError as reason:
                failure = reason
            else:
                return
        raise failure

    def _finish_connecting(self, connection: socket.socket) -> None:
        code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._try_next(OSError(code, os.strerror(code)))
            return
        self.connecting = False
        self._selector.modify(connection, selectors.EVENT_READ, self)
        if self._unsent:
            self._write(connection)

    def _write(self, connection: socket.socket) -> None:
        waited = isinstance(self._unsent, memoryview)
        try:
            sent = connection.send(self._unsent)
        except BlockingIOError:
            sent = 0
        if sent == len(self._unsent):
            self._unsent = b""
            if waited:
                self._selector.modify(connection, selectors.EVENT_READ, self)
        else:
            self._unsent = memoryview(self._unsent)[sent:]
            if not waited:
                self._selector.modify(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, self)
