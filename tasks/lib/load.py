"""The benchmark's hot loop: requests over one kept-alive connection, timed.

`requests` costs 0.8 ms a call and http.client 0.3 ms, of which a fast server's answer is a good part.
This loop sends bytes that were made before the clock started and reads the answer with a parser in C.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tasks.lib.errors import ServerError

if TYPE_CHECKING:
    import numpy as np

RECEIVE_SIZE = 1 << 16


@dataclass(frozen=True)
class Block:
    """What one contestant did in one go."""

    latencies: np.ndarray[Any, Any]
    """Seconds from the first byte sent to the last one received, of the requests that succeeded.

    Connecting anew counts too, where the answer before ended the connection.
    """
    seconds: float
    """How long the block took, failed requests included."""
    errors: int
    """Requests that failed: another status than 200, a broken connection, or a timeout."""


class Connection:
    """One HTTP/1.1 connection to a model's predict address, kept alive.

    `url` is the model's address without ":predict"; `timeout` is in seconds, for a whole exchange.
    """

    def __init__(self, url: str, timeout: float) -> None:
        parts = urlsplit(url.rstrip("/"))
        try:
            port = parts.port
        except ValueError:
            raise ServerError(f"{url} has no valid port.", "Give it a port between 1 and 65535.") from None
        if parts.scheme != "http" or not parts.hostname:
            raise ServerError(
                f"{url} is no address that can be measured.", "Give an address that begins with http://."
            )
        self._address = (parts.hostname, port or 80)
        self._url = url
        self._head = (
            f"POST {parts.path}:predict HTTP/1.1\r\n"
            f"Host: {parts.netloc}\r\n"
            "Content-Type: application/json\r\n"
        )
        self._timeout = timeout
        self._socket: socket.socket | None = None

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def prepare(self, body: bytes) -> bytes:
        """The whole request around a JSON body, ready to be sent."""
        return f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def exchange(self, request: bytes) -> int:
        """Send a prepared request, read the whole answer, return its status.

        Raises OSError (also for a timeout) or httptools' parser errors; the connection is then closed.
        """
        deadline = time.monotonic() + self._timeout
        connected = self._socket or self._connect()
        answer = _Answer()
        try:
            connected.settimeout(self._timeout)
            connected.sendall(request)
            while not answer.status:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError("the answer took too long")
                connected.settimeout(left)
                received = connected.recv(RECEIVE_SIZE)
                if not received:
                    raise ConnectionError("closed before the answer was complete")
                answer.parser.feed_data(received)
        except BaseException:
            self.close()
            raise
        if not answer.keeps_alive:
            self.close()
        return answer.status

    def _connect(self) -> socket.socket:
        self._socket = socket.create_connection(self._address, self._timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    def _ready(self) -> None:
        """Connect, or connect anew where the server closed an idle connection: no request's fault."""
        if self._socket is not None and select.select([self._socket], [], [], 0)[0]:
            self.close()
        if self._socket is None:
            self._connect()

    def block(self, requests: Sequence[bytes]) -> Block:
        """Send prepared `requests` one after the other, each when the one before is answered."""
        import httptools
        import numpy as np

        failures = (OSError, httptools.HttpParserError, httptools.HttpParserUpgrade)
        latencies: list[float] = []
        errors = 0
        with contextlib.suppress(OSError):
            self._ready()
        clock = time.perf_counter
        start = clock()
        for request in requests:
            sent = clock()
            try:
                status = self.exchange(request)
            except failures:
                status = 0
            if status == 200:
                latencies.append(clock() - sent)
            else:
                errors += 1
        return Block(np.array(latencies), clock() - start, errors)


class _Answer:
    """Collects what httptools tells of one response."""

    def __init__(self) -> None:
        import httptools

        self.status = 0
        """0 until the answer is complete."""
        self.keeps_alive = False
        self.parser = httptools.HttpResponseParser(self)

    def on_message_complete(self) -> None:
        status = self.parser.get_status_code()
        if status >= 200:  # below it is an interim one; the answer is still to come
            self.status = int(status)
            # Only now: the parser has forgotten it as soon as this returns.
            self.keeps_alive = self.parser.should_keep_alive()
