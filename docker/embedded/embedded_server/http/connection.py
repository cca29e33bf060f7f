"""One client's connection: what uvicorn does, and what it leaves out.

uvicorn's own protocol sets no bound on the size of a request's head, waits for ever for a client that stops
sending half-way or does not read its answer, answers what is no HTTP in plain text, and drops the body of a
request that offers an upgrade (as Java's HttpClient does with every request). Here a client has a time for
each thing that the server waits for, and whatever is wrong is answered in JSON.
"""

from __future__ import annotations

import asyncio
import select
import time
from typing import Any

import httptools
import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from embedded_server.common.errors import (
    HeadTooLarge,
    InvalidArgument,
    ServingError,
    TooSlow,
    Unavailable,
    error_document,
    retry_after,
)
from embedded_server.common.limits import Limits

KEEP_ALIVE = 75  # seconds an idle connection stays open; clients reuse theirs for about a minute
MAX_HEAD = 65536  # bytes of the request line and all headers, trailers included
_LOWEST_RATE = 16384  # bytes per second that a client has to send or to take, on average over its timeout
_LINGER = 5.0  # seconds; how long a client that was refused may go on sending
_STILL_USED = 1.0  # seconds; a client that was heard of as lately may be about to send its next request


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with bounds. `look` is to be called about every second, for the clock."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: Limits,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.gone = False  # no client is left to read an answer
        self._limits = limits
        self._refusal: ServingError | None = None  # why nothing is read any more
        self._refused_at: float | None = None
        self._active: RequestResponseCycle | None = None  # the request that the application has now
        self._owed = 0  # requests that are complete and have no answer yet
        self._in_message = False  # some of a request has come, and not all of it
        self._in_body = False
        self._head_bytes = 0  # of this request, in whole headers
        self._token_bytes = 0  # since the parser last made something of what came: a header that does not end
        self._body_bytes = 0
        self._heard = time.monotonic()  # when the client last sent, or was last answered
        self._window_start = self._heard  # see _is_slow
        self._window_bytes = 0
        self._unsent = 0  # bytes of answers that the client had not taken at the last look
        self._unsent_since = 0.0
        self._unsent_at_start = 0

    # What the event loop calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= self._limits.connections and not self._make_room():
            super().connection_made(transport)
            self._refusal = Unavailable(f"too many connections: {self._limits.connections} are open already")
            self._write(self._refusal)
            transport.close()  # at once, for it must not be one of the open ones
            return
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self._unset_keepalive_if_required()  # uvicorn leaves it running after a reset
        self.pipeline.clear()
        if self._active is not None:  # uvicorn tells only the last request that it has read
            self._tell_gone(self._active)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return  # what a client still sends is thrown away, so that it gets to read why
        self._unset_keepalive_if_required()
        self._heard = time.monotonic()
        self._token_bytes += len(data)
        try:
            while data:
                data = self._feed(data)
        except httptools.HttpParserError as error:
            self.refuse(self._refusal or InvalidArgument(f"Malformed request: {_reason(error)}"))
            return
        if self._token_bytes > MAX_HEAD:
            self.refuse(HeadTooLarge(MAX_HEAD))

    def _feed(self, data: bytes) -> bytes:
        """Parse. Returns what is left: nothing, or the same request without its offer of an upgrade."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._without_upgrade() + data[upgrade.args[0] :]
        return b""

    # What the parser calls

    def on_message_begin(self) -> None:
        self._in_message, self._in_body = True, False
        self._head_bytes = self._body_bytes = 0
        self._start_window()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value))
        if not self._in_body:  # trailers say nothing that is of use here
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._token_bytes = 0
        self._in_body = True
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._stop(InvalidArgument("Malformed request: CONNECT"))
            return  # parsed once more, without the offer
        for name, value in self.headers:
            if name == b"content-length":
                self._check_size(int(value))
        self._start_window()
        super().on_headers_complete()
        self.scope["connection"] = self  # type: ignore[typeddict-unknown-key]

    def on_chunk_header(self) -> None:
        self._token_bytes = 0

    def on_body(self, body: bytes) -> None:
        self._token_bytes = 0
        self._body_bytes += len(body)
        self._window_bytes += len(body)
        self._check_size(self._body_bytes)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._token_bytes = 0
        if self.parser.should_upgrade():
            return
        self._in_message = False
        self._owed += 1
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    # What the application's answers call

    def on_response_complete(self) -> None:
        self._heard = time.monotonic()
        if self._owed:
            self._owed -= 1
        self._start_window()  # of a next request, which may have waited for this answer
        super().on_response_complete()
        if self._refusal is not None and not self._owed:
            self._send_refusal()

    def resume_writing(self) -> None:
        self._unsent = 0  # the client has taken what was too much
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    # The clock

    def look(self, now: float) -> None:
        """End what has taken too long. To be called about every second.

        now: time.monotonic(); the event loop's clock has only milliseconds.
        """
        if self._refused_at is not None and now - self._refused_at > _LINGER:
            self.transport.abort()
            return
        if self._takes_nothing(now):
            self.transport.abort()
        elif self._refusal is not None or self._owed:
            pass  # it is our turn
        elif self._in_message and self._is_slow(now):
            self.refuse(TooSlow(f"the request was not complete within {self._limits.client_timeout:g} s"))
        elif self.cycle is None and not self._in_message and now - self._heard > KEEP_ALIVE:
            self._close()

    def leave(self, now: float) -> None:
        """Close, unless a request is being answered or about to come. To be called again and again."""
        if self._refusal is not None and self._refused_at is not None:
            self.transport.abort()
        elif self._owed or self.transport.get_write_buffer_size():
            pass
        elif now - self._heard > _STILL_USED and not self._has_sent():
            self._close()

    @property
    def idle_since(self) -> float | None:
        """When the last answer was sent, as time.monotonic(); None where a request is going on."""
        return None if self._in_message or self._owed or self._refusal else self._heard

    # Refusing

    def refuse(self, error: ServingError) -> None:
        """Answer what is wrong, and close; after the answers to earlier requests on the connection."""
        self._refusal = error
        if self._owed:
            self.flow.pause_reading()
        else:
            self._send_refusal()

    def _send_refusal(self) -> None:
        assert self._refusal is not None
        if self._active is not None and not self._active.response_complete:
            if self._active.response_started:  # the client has to see that its answer is broken off
                self.transport.abort()
                return
            self._tell_gone(self._active)
        self._write(self._refusal)
        # Closed for writing only: were it closed, what is still coming would have the system send a reset,
        # and a client that is busy sending would see that instead of the answer.
        self.transport.write_eof()
        self.flow.resume_reading()
        self._refused_at = time.monotonic()

    @staticmethod
    def _tell_gone(cycle: RequestResponseCycle) -> None:
        """Let the application know that no one waits for this answer any more."""
        if not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()

    def _write(self, error: ServingError) -> None:
        document = error_document(error)
        lines = [
            STATUS_LINE[error.http_status],
            b"content-type: application/json\r\n",
            b"content-length: %d\r\n" % len(document),
            *[
                b"%s: %s\r\n" % header
                for header in (*self.server_state.default_headers, *retry_after(error.http_status))
            ],
            b"connection: close\r\n\r\n",
        ]
        self.transport.write(b"".join([*lines, document]))

    def _stop(self, error: ServingError) -> None:
        """Refuse, from within the parser."""
        self._refusal = error
        raise error  # the parser makes an error of its own of it

    def _count_head(self, size: int) -> None:
        self._token_bytes = 0
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD:
            self._stop(HeadTooLarge(MAX_HEAD))

    def _check_size(self, size: int) -> None:
        try:
            self._limits.check_size(size)
        except ServingError as error:
            self._stop(error)

    def _without_upgrade(self) -> bytes:
        """The head of the present request without the offer to speak another protocol, for a new parser."""
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                value = b"close" if b"close" in value.lower() else b"keep-alive"
            if name != b"upgrade":
                lines.append(b"%s: %s" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join([*lines, b"", b""])

    # Time

    def _start_window(self) -> None:
        self._window_start, self._window_bytes = time.monotonic(), 0

    def _is_slow(self, now: float) -> bool:
        """Whether a request was not complete in time.

        The head has one timeout. A body has it again and again, as long as enough of it comes each time.
        """
        window = self._limits.client_timeout
        if now - self._window_start <= window:
            return False
        if not self._in_body or self._window_bytes < window * _LOWEST_RATE:
            return True
        self._window_start, self._window_bytes = now, 0
        return False

    def _takes_nothing(self, now: float) -> bool:
        """Whether the client takes its answers too slowly, or not at all."""
        unsent = self.transport.get_write_buffer_size()
        window = self._limits.client_timeout
        if not unsent or not self._unsent:
            self._unsent_since, self._unsent_at_start = now, unsent
        elif now - self._unsent_since > window:
            if self._unsent_at_start - unsent < window * _LOWEST_RATE:
                return True
            self._unsent_since, self._unsent_at_start = now, unsent
        self._unsent = unsent
        return False

    def _has_sent(self) -> bool:
        """Whether something has arrived that the event loop has not given us yet."""
        descriptor = self.transport.get_extra_info("socket").fileno()
        if descriptor < 0:
            return False
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))

    def _close(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # close would wait until the client has read it all
        elif not self.transport.is_closing():
            self.transport.close()

    def _make_room(self) -> bool:
        """Close the connection that has been idle for longest. Returns whether there was one."""
        idle = [
            (since, other)
            for other in self.connections
            if isinstance(other, Connection) and (since := other.idle_since) is not None
        ]
        if not idle:
            return False
        _, other = min(idle, key=lambda pair: pair[0])
        self.connections.discard(other)
        other._close()
        return True


def _reason(error: Exception) -> str:
    if isinstance(error, httptools.HttpParserCallbackError):
        return "the path cannot be read"  # the one thing that uvicorn's callbacks stumble over
    return str(error) or type(error).__name__
