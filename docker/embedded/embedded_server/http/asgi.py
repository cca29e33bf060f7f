"""The ASGI application: reads a request, has it answered in a thread, and sends the answer.

A request is read on the event loop; all else (unpacking, parsing, executing, writing) is one call in a
thread, so that no request holds up another.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from embedded_server.common.errors import (
    DeadlineExceeded,
    InvalidArgument,
    ServingError,
    Unavailable,
    error_document,
    retry_after,
)
from embedded_server.common.limits import Body, Limits, Memory
from embedded_server.http.connection import Connection
from embedded_server.http.rest import Answer, RestApi
from embedded_server.http.workers import Workers

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

_PIECE = 2**20  # bytes that are unpacked at once

CORS_HEADERS = [
    ("access-control-allow-origin", "*"),
    ("access-control-allow-methods", "GET, POST"),
    ("access-control-allow-headers", "Content-Type, Content-Encoding"),
]
"""In every answer, with --rest_api_enable_cors_support: they let web pages of any origin use REST."""


class HttpApp:
    """What uvicorn calls, for each request of a Connection.

    api: answers. workers: where requests are executed. timeout: seconds from a request's last byte to its
    answer. answers_preflights: whether browsers are told that they may ask (CORS).
    """

    def __init__(
        self,
        api: RestApi,
        workers: Workers,
        memory: Memory,
        limits: Limits,
        timeout: float,
        answers_preflights: bool = False,
    ) -> None:
        self._api = api
        self._workers = workers
        # Who only asks how the server is does not stand in the queue: a full server is alive and ready.
        self._desk = Workers(1, limits.queued_requests)
        self._memory = memory
        self._limits = limits
        self._timeout = timeout
        self._answers_preflights = answers_preflights
        self._leaving = False
        self.cut_off = 0  # requests given up because the server ended

    def leave(self) -> None:
        """The server is about to end: say that it is not ready, and close connections with their answers."""
        self._leaving = self._api.leaving = True

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        connection: Connection = scope["connection"]
        try:
            body = await self._receive(connection, receive)
            if self._answers_preflights and scope["method"] == "OPTIONS":
                body.release()
                answer = Answer(200, b"", b"text/plain")
            else:
                answer = await self._execute(scope, connection, body)
        except ServingError as error:
            answer = Answer(error.http_status, error_document(error))
        except _Disconnected:
            return
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", b"%d" % len(answer.body)),
            *retry_after(answer.status),
        ]
        if self._leaving:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _receive(self, connection: Connection, receive: _Receive) -> Body:
        """The whole body. Raises Unavailable where there is no memory for it, or _Disconnected."""
        body = Body(self._memory)
        message: _Message = {"more_body": True}
        try:
            while message["more_body"]:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Disconnected
                body.append(message["body"])
        except ServingError as error:
            body.release()
            if message["more_body"]:  # what is still to come is not wanted
                connection.refuse(error)
                raise _Disconnected from error
            raise
        except _Disconnected:
            body.release()
            raise
        return body

    async def _execute(self, scope: _Message, connection: Connection, body: Body) -> Answer:
        # Load balancers ask by HEAD as well. uvicorn sends the answer without its body.
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        path = scope["raw_path"].decode("latin-1")
        encoding = _content_encoding(scope)
        expired = False
        data: bytes | None = None

        def work() -> Answer:
            if connection.gone:
                return Answer(499, b"")  # no client is left to read it; the status is nginx's for that
            nonlocal data
            try:
                if data is None:  # not the second time, if the call was postponed
                    data = _unpack(body, encoding, self._limits)
            except ServingError as error:
                return Answer(error.http_status, error_document(error))
            return self._api.answer(method, path, data)

        def expire() -> None:
            nonlocal expired
            expired = True
            call.answer.cancel()

        try:
            # The body's memory counts until the call is over.
            call = (self._desk if method == "GET" else self._workers).submit(work, body.release)
        except ServingError:
            body.release()
            raise
        # asyncio.wait_for and asyncio.wait do the same in twice the time.
        timer = asyncio.get_running_loop().call_later(self._timeout, expire)
        try:
            return await call.answer
        except asyncio.CancelledError:
            call.give_up()
            if expired:
                raise DeadlineExceeded(f"not answered within {self._timeout:g} s") from None
            self.cut_off += not connection.gone
            raise Unavailable("the server was shut down before it had the answer") from None
        finally:
            timer.cancel()


class _Disconnected(Exception):
    """The client went away before its request was complete, or was refused."""


def _content_encoding(scope: _Message) -> str:
    """Content-Encoding; "" for none. That of several headers is what one with commas would say."""
    values = [value for header, value in scope["headers"] if header == b"content-encoding"]
    return b", ".join(values).decode("latin-1").strip().lower() if values else ""


def _unpack(body: Body, encoding: str, limits: Limits) -> bytes:
    """The body as it was before it was packed. Raises InvalidArgument, TooLarge or Unavailable."""
    packed = body.read()
    if encoding in ("", "identity"):
        return packed
    if encoding != "gzip":
        raise InvalidArgument(f"Content-Encoding {encoding} is not supported; gzip is")
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # 16: with a gzip header
    pieces: list[bytes] = []
    size = 0
    while packed and not unpacker.eof:
        try:
            piece = unpacker.decompress(packed, _PIECE)
        except zlib.error as error:
            raise InvalidArgument(f"the request body is not valid gzip: {error}") from error
        size += len(piece)
        limits.check_size(size)
        body.claim(len(piece))
        pieces.append(piece)
        packed = unpacker.unconsumed_tail
    if not unpacker.eof:
        raise InvalidArgument("the request body is not valid gzip: it ends early")
    if unpacker.unused_data:
        raise InvalidArgument("the request body is not valid gzip: something follows its end")
    return b"".join(pieces)
