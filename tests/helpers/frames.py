"""An HTTP/2 server that sends the very frames a test has written down: what grpcio never sends, but might."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from hpack import Encoder, NeverIndexedHeaderTuple

from tasks.lib.client.grpc_wire import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)

Frame = tuple[int, int, int, bytes]
"""Type, flags, stream, payload."""


def block(*fields: tuple[str, str]) -> bytes:
    """A header block that means the same at any time."""
    encoded: bytes = Encoder().encode([NeverIndexedHeaderTuple(*each) for each in fields])
    return encoded


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


BEGIN = frame(HEADERS, END_HEADERS, 1, block((":status", "200"), ("content-type", "application/grpc")))
MESSAGE = struct.pack(">BI", 0, 2) + b"ok"
FINE = frame(DATA, 0, 1, MESSAGE)
OK = block(("grpc-status", "0"))
END = frame(HEADERS, END_HEADERS | END_STREAM, 1, OK)
ANSWER = BEGIN + FINE + END


@dataclass
class Frames:
    """One connection's story."""

    url: str
    received: list[Frame] = field(default_factory=list)

    def of(self, kind: int) -> list[Frame]:
        """What came of one type."""
        return [one for one in self.received if one[0] == kind]


@contextmanager
def serving(answer: bytes = ANSWER, first: bytes = settings(), *, opens: bool = True) -> Iterator[Frames]:
    """Takes one connection; says `first`, and `answer` once the first request has come.

    Its window opens by what it has received, unless it does not open.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        story = Frames(f"grpc://127.0.0.1:{listener.getsockname()[1]}/v1/models/net")
        thread = threading.Thread(target=_serve, args=(listener, story, answer, first, opens))
        thread.start()
        try:
            yield story
        finally:
            thread.join(10)


def _serve(listener: socket.socket, story: Frames, answer: bytes, first: bytes, opens: bool) -> None:
    connection, _ = listener.accept()
    with connection, connection.makefile("rb") as stream:
        assert stream.read(len(PREFACE)) == PREFACE
        connection.sendall(first)
        while head := stream.read(9):
            payload = stream.read(int.from_bytes(head[:3], "big"))
            one = head[3], head[4], int.from_bytes(head[5:], "big"), payload
            story.received.append(one)
            if one[0] == DATA and one[1] & END_STREAM:
                connection.sendall(answer)
            elif one[0] == DATA and opens:
                size = struct.pack(">I", len(payload))
                connection.sendall(frame(WINDOW_UPDATE, 0, 0, size) + frame(WINDOW_UPDATE, 0, one[2], size))
