"""What gRPC takes on at once, as workers.py has it for REST.

grpcio's synchronous server has a thread wait for each message that was announced, so a few clients that
announce one and send nothing would stop a server with as many threads as it executes requests. Here as
many more threads may wait as requests may be queued, and how many execute is a count of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import wait
from typing import Any

import grpc

from embedded_server.common.errors import Postponed, ServingError
from embedded_server.common.limits import Body, Memory


class _Sent:
    """A message, which holds memory as long as it is referenced."""

    def __init__(self, data: bytes, parse: Callable[[bytes], Any], memory: Memory) -> None:
        self._body = Body(memory)
        self._body.claim(len(data))
        self.message = parse(data)

    def __del__(self) -> None:
        self._body.release()


class Bounds(grpc.ServerInterceptor):  # type: ignore[misc]
    """Bounds the requests of one service that execute at once, and the memory of all that have arrived."""

    def __init__(self, service: str, threads: int, memory: Memory) -> None:
        """service: by its full name; others, such as health, are not held up."""
        self._prefix = f"/{service}/"
        self._free = threading.Semaphore(threads)
        self._memory = memory
        self._bounded: dict[str, Any] = {}

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """The handler of a call; see grpc.ServerInterceptor."""
        if not details.method.startswith(self._prefix):
            return continuation(details)
        handler = self._bounded.get(details.method)
        if handler is None:
            handler = continuation(details)
            if handler is not None:
                handler = self._bounded[details.method] = self._bound(handler)
        return handler

    def _bound(self, handler: Any) -> Any:
        def parse(data: bytes) -> _Sent | ServingError:
            try:
                return _Sent(data, handler.request_deserializer, self._memory)
            except ServingError as error:
                return error

        def answer(sent: _Sent | ServingError, context: grpc.ServicerContext) -> Any:
            if isinstance(sent, ServingError):
                return context.abort(grpc.StatusCode[sent.code], str(sent))  # raises
            while True:
                with self._free:
                    if not context.is_active():  # given up while it waited: never executed
                        context.abort(grpc.StatusCode.CANCELLED, "no one waits for the answer any more")
                    try:
                        return handler.unary_unary(sent.message, context)
                    except Postponed as postponed:
                        ready = postponed.ready
                # Others may execute meanwhile.
                wait([ready], context.time_remaining())

        return grpc.unary_unary_rpc_method_handler(answer, parse, handler.response_serializer)
