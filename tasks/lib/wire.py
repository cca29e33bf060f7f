"""HTTP/1.1 connections to a predict address that never block: what the load generator sends through."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from tasks.lib.errors import ServerError

RECEIVE_SIZE = 1 << 16


class Replica:
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
        self.idle: list[Wire] = []
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


class Wire:
    """One HTTP/1.1 connection to a replica. Its methods raise OSError or httptools' parser errors."""

    def __init__(self, replica: Replica, selector: selectors.BaseSelector) -> None:
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
