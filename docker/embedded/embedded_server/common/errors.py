"""Errors of the embedded server.

StartError                    the server cannot start: one sentence for the person who typed the command
Postponed                     what a request needs is being loaded; it is executed afterwards
ServingError                  a request failed; `code` is gRPC's, `http_status` is what REST answers
├── InvalidArgument      400  the request is wrong
├── FailedPrecondition   400  the model cannot do that now
├── OutOfRange           400
├── NotFound             404  no such model or version
├── TooSlow              408  the client did not send its request in time
├── Conflict             409  aborted, or already there
├── TooLarge             413  the request body is over the limit
├── ResourceExhausted    429
├── HeadTooLarge         431  the path and the headers are over the limit
├── Internal             500  ours, or the model's
├── Unimplemented        501
├── Unavailable          503
└── DeadlineExceeded     504

The statuses are those of TensorFlow Serving (model_servers/http_server.cc, ToHTTPStatusCode); it has no
limit on what clients send or on how long they take, so 408, 413 and 431 are ours.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, ClassVar

import orjson

_RETRY_AFTER = 1  # seconds; a server that is full for a moment, or leaving with another in its place


class StartError(Exception):
    """The server cannot start; the message is one sentence on what is wrong."""


class Postponed(Exception):
    """A request needs something that is being loaded; it can be executed from the beginning afterwards.

    ready: done when the loading has ended, well or not.
    """

    def __init__(self, ready: Future[Any]) -> None:
        super().__init__("what the request needs is being loaded")
        self.ready = ready


class ServingError(Exception):
    """A request failed; raise one of the subclasses."""

    code: ClassVar[str] = "UNKNOWN"
    http_status: ClassVar[int] = 500


class InvalidArgument(ServingError):
    """The request is wrong in itself."""

    code = "INVALID_ARGUMENT"
    http_status = 400


class FailedPrecondition(ServingError):
    """The model is not in a state to do this."""

    code = "FAILED_PRECONDITION"
    http_status = 400


class OutOfRange(ServingError):
    """A value lies outside of what an operation of the model takes."""

    code = "OUT_OF_RANGE"
    http_status = 400


class NotFound(ServingError):
    """There is no such model or version."""

    code = "NOT_FOUND"
    http_status = 404


class TooSlow(ServingError):
    """The client did not send its request, or all of it, in time."""

    code = "DEADLINE_EXCEEDED"
    http_status = 408


class Conflict(ServingError):
    """An operation of the model was aborted, or made what exists already."""

    code = "ABORTED"
    http_status = 409


class TooLarge(ServingError):
    """The request body is larger than the server takes."""

    code = "INVALID_ARGUMENT"
    http_status = 413


class HeadTooLarge(ServingError):
    """The path and the headers are larger than the server takes."""

    code = "INVALID_ARGUMENT"
    http_status = 431

    def __init__(self, limit: int) -> None:
        super().__init__(f"the path and the headers of the request have more than {limit} bytes")


class ResourceExhausted(ServingError):
    """Out of memory, or a queue is full."""

    code = "RESOURCE_EXHAUSTED"
    http_status = 429


class Internal(ServingError):
    """Something broke that the client cannot fix."""

    code = "INTERNAL"
    http_status = 500


class Unimplemented(ServingError):
    """Part of the contract that this server, or TensorFlow Serving itself, does not do."""

    code = "UNIMPLEMENTED"
    http_status = 501


class Unavailable(ServingError):
    """Not now; the same request may succeed later."""

    code = "UNAVAILABLE"
    http_status = 503


class DeadlineExceeded(ServingError):
    """The request took longer than --rest_api_timeout_in_ms."""

    code = "DEADLINE_EXCEEDED"
    http_status = 504


def error_document(error: ServingError) -> bytes:
    """The JSON that REST answers."""
    # Messages can quote what the client sent, half surrogate pairs included.
    return orjson.dumps({"error": str(error).encode(errors="backslashreplace").decode()})


def retry_after(http_status: int) -> list[tuple[bytes, bytes]]:
    """The header that says when to try again, for the statuses that a second try can overcome."""
    return [(b"retry-after", b"%d" % _RETRY_AFTER)] if http_status in (429, 503) else []
