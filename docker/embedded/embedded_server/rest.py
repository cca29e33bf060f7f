"""The REST interface of TensorFlow Serving (model_servers/http_rest_api_handler.cc) as an ASGI application.

A request is read on the event loop; all else (unpacking, parsing, executing, writing) is one call in a
thread of the pool, so that no request holds up another. There is no framework between: two patterns for
the path are TensorFlow Serving's own routing, and each layer would cost time on every request.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson

from embedded_server.decoding import decode_predict
from embedded_server.encoding import encode_classes, encode_predict, encode_values
from embedded_server.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    ServingError,
    TooLarge,
)
from embedded_server.examples import decode_examples
from embedded_server.inference import Inference
from embedded_server.metadata import metadata_document, status_document
from embedded_server.metrics import Metrics
from embedded_server.parsing import parse_request
from embedded_server.servable import Models

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

MAX_BODY = 256 * 2**20  # bytes of a request body, packed and unpacked; an array takes several times that

_MODEL = r"/v1/models(?:/(?P<name>[^/:]+))?(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST_PATH = re.compile(_MODEL + r":(?P<method>classify|regress|predict)", re.IGNORECASE | re.ASCII)
_GET_PATH = re.compile(_MODEL + r"(?:/(?P<metadata>metadata))?", re.IGNORECASE | re.ASCII)
_LARGEST_VERSION = 2**63 - 1

_log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What is sent back."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"


class RestApi:
    """The ASGI application.

    models: what is served. inference: executes it. metrics: what is counted; metrics_path: where that can be
    read, None for nowhere. executor: where requests are executed. timeout: seconds for each.
    """

    def __init__(
        self,
        models: Models,
        inference: Inference,
        metrics: Metrics,
        metrics_path: str | None,
        executor: Executor,
        timeout: float,
    ) -> None:
        self._models = models
        self._inference = inference
        self._metrics = metrics
        self._metrics_path = metrics_path
        self._executor = executor
        self._timeout = timeout
        self.cut_off = 0  # requests given up because the server was stopping

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            return
        complete = True
        try:
            method, path = scope["method"], scope["raw_path"].decode("latin-1")
            encoding, length = _body_headers(scope)
            if length > MAX_BODY:
                complete = False
                raise TooLarge(f"the request body has {length} bytes, more than {MAX_BODY}")
            body = await _read_body(receive)
            answer = await self._execute(method, path, encoding, body)
        except ServingError as error:
            complete = complete and not isinstance(error, TooLarge)
            answer = Answer(error.http_status, _error_document(error))
        except _Disconnected:
            return
        headers = [(b"content-type", answer.content_type), (b"content-length", b"%d" % len(answer.body))]
        if not complete:
            headers.append((b"connection", b"close"))  # the rest of the body is not wanted
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _execute(self, method: str, path: str, encoding: str, body: bytes) -> Answer:
        loop = asyncio.get_running_loop()
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            future.cancel()

        future = loop.run_in_executor(self._executor, self.answer, method, path, encoding, body)
        # asyncio.wait_for and asyncio.wait do the same in twice the time.
        timer = loop.call_later(self._timeout, expire)
        try:
            return await future
        except asyncio.CancelledError:
            if not expired:
                self.cut_off += 1  # the server is stopping, and the time for that is over
                raise
            raise DeadlineExceeded(f"not answered within {self._timeout:g} s") from None
        finally:
            timer.cancel()

    def answer(self, method: str, path: str, encoding: str, body: bytes) -> Answer:
        """Answer one request. Blocks; raises nothing."""
        if path == self._metrics_path and method == "GET":
            return Answer(200, self._metrics.page(), b"text/plain")
        began = time.perf_counter()
        call, status = _Call(), "OK"
        try:
            return Answer(200, self._process(method, path, _unpack(body, encoding), call))
        except ServingError as error:
            status = error.code
            return Answer(error.http_status, _error_document(error))
        except Exception as error:  # a bug of ours must not take the connection down with it
            _log.exception("%s %s failed", method, path)
            status = Internal.code
            return Answer(500, _error_document(Internal(f"{type(error).__name__}: {error}")))
        finally:
            if call.action:
                self._metrics.answered(call.model, call.action, "REST", status, time.perf_counter() - began)

    def _process(self, method: str, path: str, body: bytes, call: _Call) -> bytes:
        pattern = {"POST": _POST_PATH, "GET": _GET_PATH}.get(method)
        match = pattern.fullmatch(path) if pattern else None
        if match is None or (method == "POST" and match["name"] is None):
            if not path.lower().startswith("/v1/"):
                raise NotFound(f"nothing is served at {path}")
            raise InvalidArgument(f"Malformed request: {method} {path}")
        if match["name"] is None:
            raise InvalidArgument("Missing model name in request.")
        name = unquote(match["name"])
        if method == "POST":
            call.model, call.action = name, match["method"].lower()
        label = None if match["label"] is None else unquote(match["label"])
        version = _version(match["version"])
        if call.action == "predict":
            return self._predict(name, version, label, body)
        if call.action:
            return self._judge(call.action, name, version, label, body)
        if match["metadata"]:
            with self._models.use(name, version, label) as servable:
                return orjson.dumps(metadata_document(servable))
        # TensorFlow Serving takes no notice of a label here and reports every version.
        return orjson.dumps(status_document(self._models.status(name, version)))

    def _predict(self, name: str, version: int | None, label: str | None, body: bytes) -> bytes:
        document = parse_request(body)
        with self._models.use(name, version, label) as servable:
            request = decode_predict(document, servable.backend.signatures)
            outputs = self._inference.predict(servable, request.signature, request.inputs)
        return encode_predict(outputs, request.rows)

    def _judge(self, action: str, name: str, version: int | None, label: str | None, body: bytes) -> bytes:
        """Classify or regress."""
        request = decode_examples(parse_request(body))
        with self._models.use(name, version, label) as servable:
            if action == "regress":
                return encode_values(self._inference.regress(servable, request.signature, request.examples))
            classes = self._inference.classify(servable, request.signature, request.examples)
        return encode_classes(classes.labels, classes.scores)


@dataclass
class _Call:
    """What a request asks for, as soon as that is known."""

    model: str = ""
    action: str = ""
    """predict, classify or regress; empty for anything else, which is not counted."""


class _Disconnected(Exception):
    """The client went away before its request was complete."""


async def _read_body(receive: _Receive) -> bytes:
    """The whole body. Raises TooLarge, or _Disconnected."""
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Disconnected
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY:
            raise TooLarge(f"the request body has more than {MAX_BODY} bytes")
        chunks.append(chunk)
        if not message.get("more_body"):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _body_headers(scope: _Message) -> tuple[str, int]:
    """Content-Encoding ("" for none), and Content-Length (0 where it is not said)."""
    encoding, length = "", 0
    for header, value in scope["headers"]:
        if header == b"content-encoding":
            encoding = value.decode("latin-1").strip().lower()
        elif header == b"content-length":
            length = int(value)  # the HTTP parser has checked that it is a number
    return encoding, length


def _unpack(body: bytes, encoding: str) -> bytes:
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise InvalidArgument(f"Content-Encoding {encoding} is not supported; gzip is")
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # 16: with a gzip header
    try:
        unpacked = unpacker.decompress(body, MAX_BODY)
    except zlib.error as error:
        raise InvalidArgument(f"the request body is not valid gzip: {error}") from error
    if unpacker.unconsumed_tail:
        raise TooLarge(f"the request body has more than {MAX_BODY} bytes unpacked")
    if not unpacker.eof:
        raise InvalidArgument("the request body is not valid gzip: it ends early")
    return unpacked


def _version(digits: str | None) -> int | None:
    if digits is None:
        return None
    # Compared by length first: int() refuses thousands of digits.
    if len(digits.lstrip("0")) > 19 or int(digits) > _LARGEST_VERSION:
        raise InvalidArgument(f"Failed to convert version: {digits} to numeric.")
    return int(digits)


def _error_document(error: ServingError) -> bytes:
    # Messages can quote what the client sent, half surrogate pairs included.
    return orjson.dumps({"error": str(error).encode(errors="backslashreplace").decode()})
