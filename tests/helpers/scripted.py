"""An HTTP server on the loopback that does, request by request, what a test has written down."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Act = Callable[["Scripted", socket.socket], bool]
"""Answers one request on a connection; returns whether the connection stays open."""


SILENCE = 30.0
"""Seconds for which `keep_silent` lasts."""


def answer(body: bytes = b"{}", status: int = 200, head: str = "") -> bytes:
    """The bytes of a whole answer with a fixed length."""
    return f"HTTP/1.1 {status} Told\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body


def chunked(*parts: bytes) -> bytes:
    """The bytes of a whole answer in chunks."""
    chunks = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in (*parts, b""))
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks


def say(content: bytes = answer()) -> Act:
    """Send this, and keep the connection."""

    def act(server: Scripted, connection: socket.socket) -> bool:
        connection.sendall(content)
        return True

    return act


def say_and_close(content: bytes) -> Act:
    """Send this, and hang up without having announced it."""

    def act(server: Scripted, connection: socket.socket) -> bool:
        connection.sendall(content)
        return False

    return act


def keep_silent(server: Scripted, connection: socket.socket) -> bool:
    """Never answer."""
    server.stopping.wait(SILENCE)
    return False


def dribble(content: bytes, pause: float, piece: int = 1) -> Act:
    """Send a piece, pause, send the next."""

    def act(server: Scripted, connection: socket.socket) -> bool:
        for start in range(0, len(content), piece):
            connection.sendall(content[start : start + piece])
            if server.stopping.wait(pause):
                return False
        return True

    return act


class Scripted:
    """Runs `script`, an act for each request in the order they arrive; then `finally_` for ever."""

    def __init__(self, *script: Act, finally_: Act = say()) -> None:  # noqa: B008
        self.stopping = threading.Event()
        self.requests: list[bytes] = []
        """Heads and bodies, as they came."""
        self.connections = 0
        self._script = list(script)
        self._finally = finally_
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1/models/net"
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self.stopping.is_set():
                connection.close()
                return
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            buffered = b""
            while True:
                while (request := _whole(buffered)) is None:
                    received = connection.recv(65536)
                    if not received:
                        return
                    buffered += received
                buffered = buffered[len(request) :]
                with self._lock:
                    self.requests.append(request)
                    act = self._script.pop(0) if self._script else self._finally
                if not act(self, connection):
                    return

    def close(self) -> None:
        self.stopping.set()
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._acceptor.join()
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()


def _whole(buffered: bytes) -> bytes | None:
    """The first request in `buffered`, if all of it is there."""
    head, end, _ = buffered.partition(b"\r\n\r\n")
    if not end:
        return None
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    total = len(head) + 4 + length
    return buffered[:total] if len(buffered) >= total else None


@contextmanager
def serving(*script: Act, finally_: Act = say()) -> Iterator[Scripted]:  # noqa: B008
    """A server for as long as the block lasts."""
    server = Scripted(*script, finally_=finally_)
    try:
        yield server
    finally:
        server.close()


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for it, and fail if it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.001)
