"""A real HTTP server for files that breaks off, lies and refuses as a test orders."""

from __future__ import annotations

import socket
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Resource:
    """One file of the server, and how it is to be served."""

    content: bytes
    etag: str | None = '"first"'
    last_modified: str | None = None
    content_type: str = "application/gzip"
    ranges: bool = True
    """Whether Range is understood."""
    obeys_if_range: bool = True
    announces_length: bool = True
    announced_extra: int = 0
    """How many more bytes are announced than there are."""
    shift: int = 0
    """By how much a 206 lies about where its part begins."""
    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Answers to give first, one for each request."""
    cuts: list[int] = field(default_factory=list)
    """The connection is closed after this many bytes of the body: one for each answer, in turn."""
    resets: bool = False
    """Whether it is reset instead, which also loses bytes that are on their way."""
    hold_after: int | None = None
    """After this many bytes the server waits for `release`, once, having set `held`."""
    held: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    then: Callable[[Resource], None] | None = None
    """Called after each answer: may change what the next one finds."""
    requests: list[dict[str, str]] = field(default_factory=list)
    """The headers of every request so far."""


class Server:
    """An HTTP server on a free port of the loopback."""

    def __init__(self) -> None:
        self.resources: dict[str, Resource] = {}
        resources = self.resources

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                resource = resources.get(self.path)
                if resource is None:
                    self.send_error(404)
                    return
                resource.requests.append(dict(self.headers))
                try:
                    self._answer(resource)
                except OSError:
                    self.close_connection = True  # the client has gone
                finally:
                    if resource.then is not None:
                        resource.then(resource)

            def _answer(self, resource: Resource) -> None:
                if resource.statuses:
                    status, headers = resource.statuses.pop(0)
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                start = self._start(resource)
                total = len(resource.content)
                if start >= total > 0:
                    self.send_response(416)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body = resource.content[start:]
                self.send_response(206 if start else 200)
                if start:
                    shown = start + resource.shift
                    self.send_header("Content-Range", f"bytes {shown}-{total - 1}/{total}")
                if resource.announces_length:
                    self.send_header("Content-Length", str(len(body) + resource.announced_extra))
                else:
                    self.send_header("Connection", "close")
                    self.close_connection = True
                if resource.etag:
                    self.send_header("ETag", resource.etag)
                if resource.last_modified:
                    self.send_header("Last-Modified", resource.last_modified)
                self.send_header("Content-Type", resource.content_type)
                self.end_headers()
                cut = resource.cuts.pop(0) if resource.cuts else None
                self._send(resource, body if cut is None else body[:cut])
                if cut is not None or resource.announced_extra:
                    self.close_connection = True
                if cut is not None and resource.resets:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

            def _start(self, resource: Resource) -> int:
                asked = self.headers.get("Range")
                if asked is None or not resource.ranges:
                    return 0
                validator = self.headers.get("If-Range")
                if resource.obeys_if_range and validator not in (
                    None,
                    resource.etag,
                    resource.last_modified,
                ):
                    return 0
                return int(asked.removeprefix("bytes=").rstrip("-"))

            def _send(self, resource: Resource, body: bytes) -> None:
                hold, resource.hold_after = resource.hold_after, None
                if hold is not None and hold < len(body):
                    self.wfile.write(body[:hold])
                    self.wfile.flush()
                    resource.held.set()
                    resource.release.wait(30)
                    body = body[hold:]
                self.wfile.write(body)
                self.wfile.flush()

        class Threads(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                if not isinstance(sys.exc_info()[1], OSError):  # those are clients that hung up
                    super().handle_error(request, client_address)  # type: ignore[arg-type]

        self._server = Threads(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def serve(self, path: str, content: bytes, **options: Any) -> tuple[str, Resource]:
        """Serve `content` at `path`; return its URL and the resource, which can be changed any time."""
        resource = self.resources[path] = Resource(content, **options)
        return f"http://127.0.0.1:{self._server.server_port}{path}", resource

    def close(self) -> None:
        for resource in self.resources.values():
            resource.release.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
