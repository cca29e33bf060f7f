"""A client that says exactly what it is told, byte by byte, right or wrong."""

from __future__ import annotations

import contextlib
import json
import select
import socket
from dataclasses import dataclass
from typing import Any

from running import PATIENCE


@dataclass(frozen=True)
class Response:
    """What came back. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON, which it must be."""
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The message of an error, which the answer must be."""
        document = self.document
        assert list(document) == ["error"], document
        return str(document["error"])


class Raw:
    """A connection; as a context manager it is closed on exit."""

    def __init__(self, port: int, receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self._received = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *pieces: bytes) -> None:
        self.socket.sendall(b"".join(pieces))

    def response(self, body: bool = True) -> Response | None:
        """The next response, None where the server closed the connection instead. body: whether it has one.

        Interim responses (100 Continue) are left out.
        """
        while b"\r\n\r\n" not in self._received:
            if not self._receive():
                assert not self._received, "the head of the response is cut off"
                return None
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        version, status = status_line.split(" ")[:2]
        assert version == "HTTP/1.1"
        if status == "100":
            return self.response(body)
        headers = dict(line.lower().split(": ", 1) for line in lines)
        length = int(headers["content-length"]) if body else 0
        while len(self._received) < length:
            assert self._receive(), "the body of the response is cut off"
        content, self._received = self._received[:length], self._received[length:]
        return Response(int(status), headers, content)

    def is_closed(self) -> bool:
        """Whether the server closes the connection, with nothing more to say."""
        return not self._received and not self._receive()

    def is_reset(self) -> bool:
        """Whether the server gives up the connection. Reads nothing."""
        poll = select.poll()
        poll.register(self.socket, select.POLLHUP)  # and errors, which are always told
        return bool(poll.poll(PATIENCE * 1000))

    def reset(self) -> None:
        """Go away rudely."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def _receive(self) -> bool:
        with contextlib.suppress(ConnectionResetError):
            more = self.socket.recv(2**18)
            self._received += more
            return bool(more)
        return False


def request(method: str, path: str, body: bytes | None = None, *headers: str) -> bytes:
    """The bytes of a request; Content-Length is added where there is a body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def ask(port: int, data: bytes) -> Response:
    """Send bytes on a connection of their own. Returns the response, which there must be."""
    with Raw(port) as client:
        client.send(data)
        response = client.response()
        assert response is not None
        return response
