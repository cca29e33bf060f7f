"""Predict requests over HTTP/1.1."""

from __future__ import annotations

import selectors
from typing import Any

from tasks.lib.client.wire import Replica, Wire


class RestReplica(Replica):
    """A model's REST address: http://HOST:PORT/v1/models/NAME."""

    def __init__(self, number: int, url: str) -> None:
        super().__init__(number, url, default_port=80)
        self._head = (
            f"POST {self.path}:predict HTTP/1.1\r\nHost: {self.netloc}\r\nContent-Type: application/json\r\n"
        )

    def request(self, body: bytes) -> bytes:
        return f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def wire(self, selector: selectors.BaseSelector) -> Wire:
        return RestWire(self, selector)


class RestWire(Wire):
    """One HTTP/1.1 connection."""

    _parser: Any = None

    def rest(self, events: int) -> None:
        self.discard()  # the server closes it, or says what was not asked for

    def close(self) -> None:
        super().close()
        self._parser = None

    def on_message_complete(self) -> None:
        """Called by the parser."""
        status = int(self._parser.get_status_code())
        if status >= 200:  # below it is an interim one; the answer is still to come
            # Asked only now: the parser has forgotten it as soon as this returns. After an answer that
            # no one asked for, or that came before the whole request was sent, nothing would fit any more.
            first = self.succeeded is None
            self.reusable = first and not self._unsent and self._parser.should_keep_alive()
            if first:
                self.succeeded = status == 200

    def _opened(self) -> None:
        import httptools

        self._parser = httptools.HttpResponseParser(self)
        self.connecting = False

    def _compose(self, request: bytes) -> None:
        self._unsent = b""
        self._say(request)

    def _received(self, data: bytes) -> None:
        import httptools

        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise ConnectionError(f"the answer is not HTTP/1.1: {error}") from error
