"""Errors of the embedded server.

StartError                    the server cannot start: one sentence for whoever typed the command
ServingError                  a request failed; `code` is gRPC's, `http_status` is what REST answers
├── InvalidArgument      400  the request is wrong
├── FailedPrecondition   400  the model cannot do that now
├── OutOfRange           400
├── NotFound             404  no such model or version
├── Conflict             409  aborted, or already there
├── TooLarge             413  the request body is over the limit
├── ResourceExhausted    429
├── Internal             500  ours, or the model's
├── Unimplemented        501
├── Unavailable          503
└── DeadlineExceeded     504

The statuses are those of TensorFlow Serving (model_servers/http_server.cc, ToHTTPStatusCode); it has no
limit on the size of a body, so 413 is ours.
"""

from __future__ import annotations

from typing import ClassVar


class StartError(Exception):
    """The server cannot start; the message is one sentence on what is wrong."""


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


class Conflict(ServingError):
    """An operation of the model was aborted, or made what exists already."""

    code = "ABORTED"
    http_status = 409


class TooLarge(ServingError):
    """The request body is larger than the server takes."""

    code = "INVALID_ARGUMENT"
    http_status = 413


class ResourceExhausted(ServingError):
    """Out of memory, or a queue is full."""

    code = "RESOURCE_EXHAUSTED"
    http_status = 429


class Internal(ServingError):
    """Something broke that the client cannot mend."""

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
