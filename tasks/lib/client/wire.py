"""Connections that never block: what the load generator sends through.

    Replica    one address of the service and its idle connections
    Wire       one TCP connection to it, whatever is spoken over it

tasks.lib.client.rest_wire and tasks.lib.client.grpc_wire say what is spoken.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from tasks.lib.common.errors import ServerError

RECEIVE_SIZE = 1 << 16


class Replica(ABC):
    """One address of the service."""

    def __init__(self, number: int, url: str, default_port: int) -> None:
        parts = urlsplit(url.rstrip("/"))
        try:
            port = parts.port
        except ValueError:
            raise ServerError(f"{url} has no valid port.", "Give it a port between 1 and 65535.") from None
        if not parts.hostname:
            raise ServerError(
                f"{url} is not an address that can be measured.",
                "Give an address that begins with http:// or grpc:// and names a host.",
            )
        self.number = number
        """Its place among the replicas."""
        self.in_flight = 0
        self.idle: list[Wire] = []
        """Connected and ready, the one that was used last at the end."""
        self.netloc = parts.netloc
        self.path = parts.path
        self._host, self._port = parts.hostname, port or default_port
        self._addresses: list[tuple[socket.AddressFamily, Any]] = []

    @abstractmethod
    def request(self, body: bytes) -> bytes:
        """What is sent of a predict request whose JSON text is `body`, made before any clock starts."""

    @abstractmethod
    def wire(self, selector: selectors.BaseSelector) -> Wire:
        """A new connection, still to be made."""

    def addresses(self) -> list[tuple[socket.AddressFamily, Any]]:
        """The addresses of the host's name. Raises OSError if it has none."""
        if not self._addresses:
            resolved = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            self._addresses = [(family, address) for family, _, _, _, address in resolved]
        return self._addresses


class Wire(ABC):
    """One connection to a replica, with one request in flight at a time.

    Its methods raise OSError for whatever ends the exchange: a broken connection, or one that answers in
    another language. What is received goes to `_received`, which sets `succeeded` and `reusable` once
    the answer is complete.
    """

    def __init__(self, replica: Replica, selector: selectors.BaseSelector) -> None:
        self.replica = replica
        self.began = 0.0
        """When the clock of the request in flight started (time.perf_counter)."""
        self.succeeded: bool | None = None
        """Whether the answer is what was asked for; None until it is complete."""
        self.reusable = False
        """After an answer: whether the next request can go the same way."""
        self.connecting = False
        """From `connect` on until a request can be sent."""
        self._dialling = False
        self._selector = selector
        self._socket: socket.socket | None = None
        self._untried: Iterator[tuple[socket.AddressFamily, Any]] = iter(())
        self._unsent: bytes | memoryview = b""
        self._write_blocked = False

    @property
    def connected(self) -> bool:
        return self._socket is not None and not self.connecting

    def connect(self) -> None:
        """Begin to connect; `proceed` goes on with it."""
        self._untried = iter(self.replica.addresses())
        self._try_next(ConnectionError("the name has no address"))

    def send(self, request: bytes, began: float) -> None:
        """Send a prepared request, or as much as goes out at once; `proceed` does the rest."""
        self.began, self.succeeded = began, None
        self._compose(request)
        if self._socket is None:
            self.connect()

    def proceed(self, events: int) -> bool | None:
        """Do what the socket is ready for. Whether the request succeeded, once that is known."""
        assert self._socket is not None, "nothing happens on a closed connection"
        if self._dialling:
            self._finish_dialling(self._socket)
            return None
        if events & selectors.EVENT_WRITE and self._unsent:
            self._write(self._socket)
        if events & selectors.EVENT_READ:
            try:
                received = self._socket.recv(RECEIVE_SIZE)
            except BlockingIOError:
                return None
            if not received:
                raise ConnectionError("closed before the answer was complete")
            self._received(received)
        return self.succeeded

    @abstractmethod
    def rest(self, events: int) -> None:
        """The socket stirs while no request is in flight."""

    def close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(KeyError):  # what was interrupted may not have come so far
                self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None
        self.connecting = self._dialling = False

    def discard(self) -> None:
        """Close it, and never take it for an idle one."""
        self.close()
        if self in self.replica.idle:
            self.replica.idle.remove(self)

    @abstractmethod
    def _opened(self) -> None:
        """The connection is there: say what must be said first. Ends `connecting`, now or later."""

    @abstractmethod
    def _compose(self, request: bytes) -> None:
        """Say the request, at once or as soon as it may be said."""

    @abstractmethod
    def _received(self, data: bytes) -> None:
        """Understand what the server says."""

    def _say(self, data: bytes) -> None:
        """Send this behind what is still unsent; where there is no connection yet, once there is one."""
        self._unsent = b"".join((self._unsent, data)) if self._unsent else data
        if self._socket is not None and not self._dialling and not self._write_blocked:
            self._write(self._socket)

    def _try_next(self, failure: OSError) -> None:
        """Begin to connect to the next address there is; raises the last one's failure after the last."""
        for family, address in self._untried:
            self.close()
            try:
                self._socket = socket.socket(family, socket.SOCK_STREAM)
                self._socket.setblocking(False)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._selector.register(self._socket, selectors.EVENT_WRITE, self)
                self.connecting = self._dialling = True
                with contextlib.suppress(BlockingIOError):
                    self._socket.connect(address)
            except OSError as reason:
                failure = reason
            else:
                return
        raise failure

    def _finish_dialling(self, connection: socket.socket) -> None:
        code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._try_next(OSError(code, os.strerror(code)))
            return
        self._dialling = self._write_blocked = False
        self._selector.modify(connection, selectors.EVENT_READ, self)
        self._opened()
        if self._unsent and not self._write_blocked:
            self._write(connection)

    def _write(self, connection: socket.socket) -> None:
        try:
            sent = connection.send(self._unsent)
        except BlockingIOError:
            sent = 0
        blocked = sent < len(self._unsent)
        self._unsent = memoryview(self._unsent)[sent:] if blocked else b""
        if blocked != self._write_blocked:
            self._write_blocked = blocked
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if blocked else 0)
            self._selector.modify(connection, events, self)
