"""Calls over gRPC: as much of HTTP/2 as one call at a time on a connection needs.

grpcio is no client to measure with: it adds 0.18 ms to what h2load reports of a call on two cores, where
this adds 0.03 (tests/benchmarks/grpc_overhead.py), and over several connections it hands every completion
from one thread to another besides. Here a call is one write and one read in the load generator's own
thread, as over REST, so that the two can be compared.

A call is one stream: HEADERS, the message in DATA frames as fast as the server's flow control lets them
go, and the answer in HEADERS, DATA and the trailers that say how it went. Sources: RFC 9113 (HTTP/2),
RFC 7541 (HPACK; the hpack package), and gRPC's own protocol, doc/PROTOCOL-HTTP2.md in its repository.
"""

from __future__ import annotations

import selectors
import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from urllib.parse import unquote

from tasks.lib.client.wire import Replica, Wire

PORT = 8500
"""TensorFlow Serving's, where an address names none."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
"""Types of frames (RFC 9113, section 6)."""
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
"""Flags of frames."""
HEADER_TABLE_SIZE, ENABLE_PUSH, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 2, 4, 5
"""Settings (RFC 9113, section 6.5.2)."""
DEFAULT_WINDOW, DEFAULT_FRAME, LARGEST_WINDOW = 65_535, 16_384, 2**31 - 1
MESSAGE_HEAD = struct.Struct(">BI")
"""Before each message of gRPC: whether it is compressed, and its length."""


class NotGrpc(ConnectionError):
    """What listens there speaks something else."""


def frame(kind: int, flags: int, stream: int, payload: bytes | memoryview = b"") -> bytes:
    """One frame of HTTP/2."""
    return b"".join((struct.pack(">I", len(payload) << 8 | kind), struct.pack(">BI", flags, stream), payload))


class GrpcReplica(Replica):
    """One method of the service at grpc://HOST:PORT."""

    def __init__(self, number: int, url: str, method: str) -> None:
        from hpack import Encoder, NeverIndexedHeaderTuple

        super().__init__(number, url, PORT)
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": self.netloc,
            "content-type": "application/grpc",
            "te": "trailers",
        }
        # Never indexed: so the same bytes mean the same on every connection, at any time.
        self.head: bytes = Encoder().encode([NeverIndexedHeaderTuple(*field) for field in fields.items()])
        """The header block of a call."""

    def request(self, body: bytes) -> bytes:
        """What is sent of a protobuf message."""
        return MESSAGE_HEAD.pack(0, len(body)) + body

    def wire(self, selector: selectors.BaseSelector) -> GrpcWire:
        return GrpcWire(self, selector)


class GrpcWire(Wire):
    """One HTTP/2 connection with one call at a time.

    The answer's message is thrown away unless `keep_answer` is set.
    """

    replica: GrpcReplica

    def __init__(self, replica: GrpcReplica, selector: selectors.BaseSelector) -> None:
        super().__init__(replica, selector)
        self.keep_answer = False
        self.answer = bytearray()
        """The message, with its head."""
        self.status: int | None = None
        """gRPC's, 0 if it went well; None where the server ended the call without saying it."""
        self.message = ""
        """What the server says of a call that failed."""
        self._unsaid = memoryview(b"")
        """Of the request's message what may not go out yet."""
        self._pending = False
        """Whether a request waits for the connection."""
        self._got = 0
        """Bytes of the answer's message."""
        self._reset()

    def rest(self, events: int) -> None:
        """Settings, pings and windows come at any time; a server that leaves says so."""
        try:
            self.proceed(events)
        except OSError:
            self.discard()
        else:
            if self._leaving:
                self.discard()

    def _reset(self) -> None:
        """What is true of a new connection."""
        self._buffer = b""
        self._block: list[bytes] = []
        """Header block fragments, until the last one is there."""
        self._block_flags = 0
        self._stream = -1
        """The last one used; clients have the odd numbers."""
        self._settled = self._leaving = False
        """Whether the server has told its settings; whether it takes no further request."""
        self._window = self._stream_window = self._initial_window = DEFAULT_WINDOW
        """Bytes of DATA that the server takes: on the connection, on the stream, on a new stream."""
        self._frame_size = DEFAULT_FRAME
        self._taken = 0
        """Bytes of DATA received since the server's own window was last opened."""

    def _opened(self) -> None:
        self._reset()
        settings = struct.pack(
            ">HIHIHI", HEADER_TABLE_SIZE, 0, ENABLE_PUSH, 0, INITIAL_WINDOW_SIZE, LARGEST_WINDOW
        )
        window = struct.pack(">I", LARGEST_WINDOW - DEFAULT_WINDOW)
        first = PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, window)
        self._unsent = b""
        self._say(first)

    def _compose(self, request: bytes) -> None:
        self._unsaid = memoryview(request)
        self._pending = True
        self._got, self.status, self.message, self.answer = 0, None, "", bytearray()
        if self._settled:
            self._begin()

    def _begin(self) -> None:
        """Open a stream and say as much of the request as may be said."""
        self._pending = False
        self._stream += 2
        self._stream_window = self._initial_window
        self._say(
            b"".join((frame(HEADERS, END_HEADERS, self._stream, self.replica.head), *self._data_frames()))
        )

    def _data_frames(self) -> Iterator[bytes]:
        while self._unsaid:
            size = min(self._window, self._stream_window, self._frame_size, len(self._unsaid))
            if size <= 0:
                return  # until the server opens its window
            part, self._unsaid = self._unsaid[:size], self._unsaid[size:]
            self._window -= size
            self._stream_window -= size
            yield frame(DATA, 0 if self._unsaid else END_STREAM, self._stream, part)

    def _received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at = 0
        while len(buffer) - at >= 9:
            length, kind = int.from_bytes(buffer[at : at + 3], "big"), buffer[at + 3]
            if length > DEFAULT_FRAME or not (self._settled or kind == SETTINGS):
                raise NotGrpc("answered in no HTTP/2")
            if len(buffer) - at < 9 + length:
                break
            flags, stream = buffer[at + 4], int.from_bytes(buffer[at + 5 : at + 9], "big") & LARGEST_WINDOW
            payload = buffer[at + 9 : at + 9 + length]
            at += 9 + length
            self._take(kind, flags, stream, payload)
        self._buffer = buffer[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Do what a frame asks for. Frames of streams that are over change only what all share."""
        ours = stream == self._stream and self.succeeded is None
        if kind in (HEADERS, CONTINUATION):
            self._take_headers(kind, flags, payload, ours)
        elif kind == DATA:
            self._take_data(flags, payload, ours)
        elif kind == SETTINGS and not flags & ACK:
            self._take_settings(payload)
        elif kind == WINDOW_UPDATE:
            size = int.from_bytes(payload, "big") & LARGEST_WINDOW
            if stream == 0:
                self._window += size
            elif ours:
                self._stream_window += size
            self._say_on()
        elif kind == PING and not flags & ACK:
            self._say(frame(PING, ACK, 0, payload))
        elif kind == RST_STREAM and ours:
            self.message = f"the server has reset the stream (code {int.from_bytes(payload, 'big')})"
            self._finish(None)
        elif kind == GOAWAY:
            self._leaving = True
            if self.succeeded is None and int.from_bytes(payload[:4], "big") & LARGEST_WINDOW < self._stream:
                raise ConnectionError("the server left before it took the request")

    def _take_settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload[: len(payload) // 6 * 6]):
            if name == INITIAL_WINDOW_SIZE:
                self._stream_window += value - self._initial_window  # RFC 9113, section 6.9.2
                self._initial_window = value
            elif name == MAX_FRAME_SIZE:
                self._frame_size = value
        # Before anything that is only allowed by these settings.
        self._say(frame(SETTINGS, ACK, 0))
        self._settled, self.connecting = True, False
        if self._pending:
            self._begin()
        else:
            self._say_on()

    def _say_on(self) -> None:
        """Send what the server's windows let go now."""
        if self._unsaid and not self._pending:
            frames = b"".join(self._data_frames())
            if frames:
                self._say(frames)

    def _take_headers(self, kind: int, flags: int, payload: bytes, ours: bool) -> None:
        if kind == HEADERS:
            payload = _unpadded(flags, payload)
            self._block = [payload[5:] if flags & PRIORITY else payload]
            self._block_flags = flags
        else:
            self._block.append(payload)
        if flags & END_HEADERS and ours and self._block_flags & END_STREAM:
            fields = _fields(b"".join(self._block))
            status = fields.get("grpc-status", "")
            self.message = unquote(fields.get("grpc-message", "")) or f"HTTP {fields.get(':status', 200)}"
            self._finish(int(status) if status.isdecimal() else None)

    def _take_data(self, flags: int, payload: bytes, ours: bool) -> None:
        self._taken += len(payload)
        if self._taken > LARGEST_WINDOW // 2:
            self._say(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._taken)))
            self._taken = 0
        if not ours:
            return
        payload = _unpadded(flags, payload)
        self._got += len(payload)
        if self.keep_answer:
            self.answer += payload
        if flags & END_STREAM:
            self.message = "the server has said nothing of how the call went"
            self._finish(None)

    def _finish(self, status: int | None) -> None:
        """The call has come to its end; a whole one that went well has brought a message."""
        self.status = status
        self.succeeded = status == 0 and self._got >= MESSAGE_HEAD.size
        # A request that was answered before it was said has left its stream open.
        self.reusable = not (self._unsaid or self._unsent or self._leaving)


@lru_cache(64)
def _fields(block: bytes) -> Mapping[str, str]:
    """What a header block says. Remembered: decoding it would take as long as all the rest of a call.

    It means the same at any time, as the server was told to keep no table of headers (HEADER_TABLE_SIZE).
    """
    from hpack import Decoder, HPACKError

    decoder = Decoder()
    decoder.max_allowed_table_size = 0
    decoder.header_table_size = 0
    try:
        return {str(name): str(value) for name, value in decoder.decode(block)}
    except HPACKError as error:
        raise NotGrpc(f"the answer is not HTTP/2: {error}") from error


def _unpadded(flags: int, payload: bytes) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & PADDED else payload
