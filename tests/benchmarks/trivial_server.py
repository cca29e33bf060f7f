"""A server that costs next to nothing: what is measured against it is the client.

Run as a program it prints its port and answers every request with the same few bytes, in one thread,
until it is terminated. `running` starts it as another process.
"""

from __future__ import annotations

import os
import re
import selectors
import socket
import subprocess
import sys
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass

BODY = b'{"predictions": [1]}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


@dataclass
class Peer:
    socket: socket.socket
    missing: int = 0
    """Bytes of the request's body that are still to come."""

    def answer(self) -> bool:
        """Whether the connection goes on. A head comes whole, as this suite's client sends it."""
        try:
            received = self.socket.recv(1 << 18)
        except ConnectionResetError:  # wrk ends like this
            return False
        if not received:
            return False
        if not self.missing:
            head, _, rest = received.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            self.missing = int(length[1] if length else 0)
            received = rest
        self.missing -= len(received)
        if not self.missing:
            self.socket.sendall(ANSWER)
        return True


def serve() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.data is None:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(connection, selectors.EVENT_READ, Peer(connection))
            elif not key.data.answer():
                selector.unregister(key.data.socket)
                key.data.socket.close()


@contextmanager
def running(cpus: Set[int] | None = None) -> Iterator[str]:
    """The address of a model it serves for as long as the block lasts, on `cpus` only."""
    server = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    try:
        if cpus:
            os.sched_setaffinity(server.pid, cpus)
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1/models/net"
    finally:
        server.kill()
        server.communicate()


if __name__ == "__main__":
    serve()
