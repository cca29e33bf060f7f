"""How much the server takes on, and the memory of requests' bodies.

Nothing waits for room: what does not fit is refused with 503 (TensorFlow Serving's UNAVAILABLE, its answer
to a full batching queue), so that a client learns at once that it has to come back later.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from embedded_server.common.errors import TooLarge, Unavailable


@dataclass(frozen=True)
class Limits:
    """What one client, and all of them together, may take; see flags.parse_flags. Sizes in bytes."""

    request_bytes: int
    total_request_bytes: int
    queued_requests: int
    connections: int
    client_timeout: float  # seconds

    def check_size(self, size: int) -> None:
        """Raise TooLarge for a body of more bytes than one request may have."""
        if size > self.request_bytes:
            raise TooLarge(
                f"the request body has more than {self.request_bytes} bytes, the most that "
                "--max_request_bytes allows"
            )


class Memory:
    """The bytes that all requests together may hold. May be used from several threads."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Raise Unavailable where there is not as much left."""
        with self._lock:
            if size > self._free:
                raise Unavailable("the requests in progress hold all the memory that the server has for them")
            self._free -= size

    def give_back(self, size: int) -> None:
        with self._lock:
            self._free += size


class Body:
    """The body of one request, as it arrives. Its bytes count until it is released."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._pieces: list[bytes] = []
        self._size = 0

    def append(self, piece: bytes) -> None:
        """Raise Unavailable where there is no memory for it."""
        self.claim(len(piece))
        self._pieces.append(piece)

    def claim(self, size: int) -> None:
        """Count more bytes, of what is made of the body. Raise Unavailable where there are none left."""
        self._memory.take(size)
        self._size += size

    def read(self) -> bytes:
        """All of it. To be called once."""
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def release(self) -> None:
        """Forget it; to be called last, whether it was read or not."""
        self._pieces = []
        self._memory.give_back(self._size)
        self._size = 0
