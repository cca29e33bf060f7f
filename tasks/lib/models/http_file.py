"""A file on an HTTP server, read once from its start to its end.

A connection that breaks is resumed where it broke, so that the reader does not notice:
with Range and If-Range where the server knows them, else by reading the beginning again and
checking that it is the same (RFC 9110, sections 13.1.5 and 14).
"""

from __future__ import annotations

import hashlib
import io
import random
import re
import socket
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
import urllib3

from tasks.lib.common import console
from tasks.lib.common.errors import DownloadError, Unreachable
from tasks.lib.common.settings import Download

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK = 64 << 10
"""Bytes asked of a connection at once; what a broken one may lose."""
_PROGRESS = 64 << 10
"""Bytes after which a connection counts as a good one, and attempts are counted from zero again."""
_LONGEST_PAUSE = 60.0
"""Seconds. A server that asks for more patience than this is asked again all the same."""
_CONNECT_TIMEOUT = 10.0
"""Seconds. An address that drops packets must not hold up a call for long."""
_TRANSIENT = (408, 429, 500, 502, 503, 504)
"""HTTP statuses that may be gone a moment later."""


class Changed(DownloadError):
    """The file on the server is no longer the one whose transfer was begun."""


class _Broken(Exception):
    """One attempt failed. `asked` is how long the server wants to be left alone, in seconds."""

    def __init__(
        self, reason: str, *, answered: bool = False, hopeless: bool = False, asked: float | None = None
    ):
        super().__init__(reason)
        self.reason = reason
        self.answered = answered
        self.hopeless = hopeless
        self.asked = asked


def public(text: str) -> str:
    """`text` without the names and passwords of the URLs in it: fit for records and messages."""
    return re.sub(r"(?<=://)[^/?#\s]*@", "", text)


class RemoteFile(io.RawIOBase):
    """The bytes at `url`, as the server keeps them (no content coding is undone).

    Raises, when opened and while read: Unreachable if nothing answers at the address at first;
    Changed if the file is replaced under way; DownloadError for an HTTP error, or once `options`
    allow no further attempt. Whatever arrives counts into `sha256`.
    """

    def __init__(self, url: str, options: Download) -> None:
        super().__init__()
        self.url = public(url)
        self.length: int | None = None
        """Bytes in all; None where the server does not say."""
        self.on_bytes: Callable[[int], object] = lambda count: None
        """Called with the number of bytes that have arrived since the last call."""
        self._address = url
        self._options = options
        self._digest = hashlib.sha256()
        self._position = 0
        self._good_until = 0
        self._failures = 0
        self._answered = False
        self._validator: str | None = None
        self._body: requests.Response | None = None
        self._session = requests.Session()
        # A coding that the server adds for the transfer would hide the file's own bytes and length.
        self._session.headers["Accept-Encoding"] = "identity"
        try:
            self._body = self._connected()
        except BaseException:
            self.close()
            raise

    @property
    def sha256(self) -> str:
        """SHA-256, in hex, of everything read so far."""
        return self._digest.hexdigest()

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            self._hang_up()
            self._session.close()
        super().close()

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        while True:
            if self._body is None:
                self._body = self._connected()
            try:
                data = self._receive(self._body, min(len(view), _CHUNK))
                if not data and self.length is not None and self._position < self.length:
                    raise _Broken("the connection was closed early")
            except _Broken as broken:
                self._hang_up()
                self._wait(broken)
                continue
            self._position += len(data)
            if self.length is not None and self._position > self.length:
                raise DownloadError(
                    f"{self.url} sent more than the {self.length} bytes that it had announced.",
                    "Try again later, or fetch the archive from another address with --url.",
                )
            if self._position - self._good_until >= _PROGRESS:
                self._good_until = self._position
                self._failures = 0
            self._digest.update(data)
            self.on_bytes(len(data))
            view[: len(data)] = data
            return len(data)

    def _hang_up(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    @staticmethod
    def _receive(response: requests.Response, count: int) -> bytes:
        try:
            data: bytes = response.raw.read(count, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _Broken(_reason(error)) from error
        return data

    def _connected(self) -> requests.Response:
        """A response whose next byte is the one at our position."""
        while True:
            try:
                return self._attempt()
            except _Broken as broken:
                self._wait(broken)

    def _wait(self, broken: _Broken) -> None:
        """Sleep until the next attempt is due. Raises if there is to be none."""
        self._failures += 1
        self._answered = self._answered or broken.answered
        # Where nothing has ever answered, one quick second attempt is all that makes sense.
        attempts = self._options.retries if self._answered else min(1, self._options.retries)
        if self._failures > attempts or (broken.hopeless and not self._answered):
            raise self._given_up(broken)
        growth = 2 ** (self._failures - 1) * random.uniform(0.75, 1.25)
        pause = min(_LONGEST_PAUSE, self._options.pause * growth if broken.asked is None else broken.asked)
        if self._answered:
            where = f" after {console.size(self._position)}" if self._position else ""
            console.note(
                f"{urlsplit(self.url).hostname}: {broken.reason}{where}; "
                f"attempt {self._failures} of {attempts} to go on, in {pause:.1f} s"
            )
        time.sleep(pause)

    def _given_up(self, broken: _Broken) -> DownloadError:
        if not self._answered:
            return Unreachable(
                f"{self.url} cannot be reached: {broken.reason}.",
                "Check the address and the network (a proxy is taken from HTTPS_PROXY), "
                "or bring the model in with --path FOLDER.",
            )
        if self._position:
            of = f" of {console.size(self.length)}" if self.length is not None else ""
            return DownloadError(
                f"The transfer of {self.url} stopped after {console.size(self._position)}{of} "
                f"and could not be resumed: {broken.reason}.",
                "Try again later; INVOKE_DOWNLOAD_RETRIES allows more attempts.",
            )
        return DownloadError(
            f"{self.url} is not available: {broken.reason}.",
            "Try again later, or fetch the archive from another address with --url.",
        )

    def _attempt(self) -> requests.Response:
        """One request, brought to our position. Raises _Broken if another one may do better."""
        resuming = False
        headers: dict[str, str] = {}
        if self._position and self._validator is not None:
            resuming = True
            headers = {"Range": f"bytes={self._position}-", "If-Range": self._validator}
        response = self._request(headers)
        try:
            if response.status_code == HTTPStatus.OK:
                if self._position:
                    self._skip_to_position(response)
                self._learn(response)
                return response
            if resuming and response.status_code == HTTPStatus.PARTIAL_CONTENT:
                self._check_part(response)
                return response
            if resuming and response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise self._changed()
            raise self._refused(response)
        except BaseException:
            response.close()
            raise

    def _request(self, headers: dict[str, str]) -> requests.Response:
        timeout = (min(_CONNECT_TIMEOUT, self._options.timeout), self._options.timeout)
        try:
            return self._session.get(self._address, headers=headers, stream=True, timeout=timeout)
        except (requests.ConnectionError, requests.Timeout) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise DownloadError(
                    f"The certificate of {urlsplit(self.url).hostname} is not one that this machine trusts.",
                    "If your organisation has a proxy, name its certificate file in REQUESTS_CA_BUNDLE.",
                ) from error
            # A second wait for a host that did not answer the first time is not quick.
            raise _Broken(_reason(error), hopeless=isinstance(error, requests.Timeout)) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError) as error:
            raise DownloadError(
                f"{self.url} cannot be requested: {public(str(error))}.",
                "Check the address: it is an http:// or https:// URL.",
            ) from error

    def _refused(self, response: requests.Response) -> Exception:
        status = response.status_code
        text = f"HTTP {status} {response.reason or ''}".rstrip()
        if status in _TRANSIENT:
            return _Broken(f"it answers {text}", answered=True, asked=_retry_after(response))
        return Unreachable(
            f"{self.url} answers {text}.",
            "Check the address; another one can be given with --url, or a folder with --path.",
        )

    def _learn(self, response: requests.Response) -> None:
        """Take from a whole answer what later ones are held against."""
        self._answered = True
        self.length = _whole_number(response.headers.get("Content-Length"))
        tag = response.headers.get("ETag", "")
        # A weak tag does not promise the same bytes, and must not stand in If-Range.
        self._validator = tag if tag.startswith('"') else response.headers.get("Last-Modified")

    def _check_part(self, response: requests.Response) -> None:
        """See that a 206 is the rest of the very file that was begun."""
        described = re.fullmatch(
            r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip()
        )
        if described is None or int(described[1]) != self._position:
            self._validator = None  # it cannot do ranges properly: the next attempt asks for all of it
            raise _Broken("it answers with another part than asked for")
        total = _whole_number(described[2])
        tag = response.headers.get("ETag")
        if (total is not None and self.length is not None and total != self.length) or (
            tag is not None
            and self._validator is not None
            and self._validator.startswith('"')
            and tag != self._validator
        ):
            raise self._changed()

    def _skip_to_position(self, response: requests.Response) -> None:
        """Read what is there already once more, and see that it is the same."""
        length = _whole_number(response.headers.get("Content-Length"))
        if length != self.length:
            raise self._changed()
        console.note(
            f"{urlsplit(self.url).hostname} cannot resume: reading {console.size(self._position)} again"
        )
        digest = hashlib.sha256()
        remaining = self._position
        while remaining:
            data = self._receive(response, min(remaining, _CHUNK))
            if not data:
                raise _Broken("the connection was closed early")
            digest.update(data)
            remaining -= len(data)
        if digest.digest() != self._digest.digest():
            raise self._changed()

    def _changed(self) -> Changed:
        return Changed(
            f"The file at {self.url} was replaced by another one while it was being downloaded.",
            "Try again when it no longer changes.",
        )


def _whole_number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _retry_after(response: requests.Response) -> float | None:
    """The seconds that a Retry-After header asks for (RFC 9110, 10.2.3: seconds, or a date)."""
    text = response.headers.get("Retry-After", "").strip()
    seconds = _whole_number(text)
    if seconds is not None:
        return float(seconds)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and everything it wraps: requests wraps urllib3, which wraps the system's own."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        link = waiting.pop(0)
        if link in seen:
            continue
        seen.append(link)
        yield link
        inner = [*link.args, getattr(link, "reason", None), link.__cause__, link.__context__]
        waiting += [cause for cause in inner if isinstance(cause, BaseException)]


def _reason(error: BaseException) -> str:
    """What was behind a failed request, in a few words."""
    links = list(_causes(error))

    def any_is(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in links)

    if any_is(requests.exceptions.ProxyError):
        return "the proxy does not let it through"
    if any_is(socket.gaierror):
        return "its name cannot be resolved"
    if any_is(ConnectionResetError, urllib3.exceptions.IncompleteRead):
        return "the connection was closed early"
    for link in reversed(links):
        if isinstance(link, OSError) and link.errno is not None and link.strerror:
            return link.strerror[0].lower() + link.strerror[1:]
    if any_is(TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError):
        return "no answer in time"
    return "the connection failed"
