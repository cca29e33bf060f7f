"""The REST interface of TensorFlow Serving (model_servers/http_rest_api_handler.cc).

There is no framework: two patterns for the path are TensorFlow Serving's own routing, and each layer would
cost time on every request.
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote

import orjson

from embedded_server.common.errors import (
    Internal,
    InvalidArgument,
    NotFound,
    Postponed,
    ServingError,
    Unavailable,
    error_document,
)
from embedded_server.common.metrics import Metrics
from embedded_server.config.versions import LARGEST_VERSION
from embedded_server.execution.inference import Inference
from embedded_server.execution.servable import Models
from embedded_server.wire.decoding import decode_predict
from embedded_server.wire.encoding import encode_classes, encode_predict, encode_values
from embedded_server.wire.examples import decode_examples
from embedded_server.wire.metadata import metadata_document, status_document
from embedded_server.wire.parsing import parse_request

_MODEL = r"/v1/models(?:/(?P<name>[^/:]+))?(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST_PATH = re.compile(_MODEL + r":(?P<method>classify|regress|predict)", re.IGNORECASE | re.ASCII)
_GET_PATH = re.compile(_MODEL + r"(?:/(?P<metadata>metadata))?", re.IGNORECASE | re.ASCII)

_log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What is sent back."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"


class RestApi:
    """Answers requests for the models. All methods may be called from several threads at once.

    models: what is served. inference: executes it. metrics: what is counted; metrics_path: where that can be
    read, None for nowhere.
    """

    def __init__(
        self, models: Models, inference: Inference, metrics: Metrics, metrics_path: str | None
    ) -> None:
        self._models = models
        self._inference = inference
        self._metrics = metrics
        self._metrics_path = metrics_path
        self.leaving = False  # the server is about to end: not ready any more, though it still serves

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Answer one request. Blocks; raises Postponed alone."""
        if path == self._metrics_path and method == "GET":
            return Answer(200, self._metrics.page(), b"text/plain")
        began = time.perf_counter()
        call, status = _Call(), "OK"
        try:
            return Answer(200, self._process(method, path, body, call))
        except ServingError as error:
            status = error.code
            return Answer(error.http_status, error_document(error))
        except Postponed:
            call.action = ""  # not answered yet
            raise
        except Exception as error:  # a bug of ours must not take the connection down with it
            _log.exception("%s %s failed", method, path)
            status = Internal.code
            return Answer(500, error_document(Internal(f"{type(error).__name__}: {error}")))
        finally:
            if call.action:
                self._metrics.answered(call.model, call.action, "REST", status, time.perf_counter() - began)

    def _process(self, method: str, path: str, body: bytes, call: _Call) -> bytes:
        pattern = {"POST": _POST_PATH, "GET": _GET_PATH}.get(method)
        match = pattern.fullmatch(path) if pattern else None
        # Paths in any case, methods in lower case only: TensorFlow Serving compares them by themselves.
        is_method = method != "POST" or (match is not None and match["method"] == match["method"].lower())
        if match is None or not is_method or (method == "POST" and match["name"] is None):
            if not path.lower().startswith("/v1/"):
                raise NotFound(f"nothing is served at {path}")
            raise InvalidArgument(f"Malformed request: {method} {path}")
        if match["name"] is None:
            raise InvalidArgument("Missing model name in request.")
        name = unquote(match["name"])
        if method == "POST":
            call.model, call.action = name, match["method"]
        label = None if match["label"] is None else unquote(match["label"])
        version = _version(match["version"])
        if call.action == "predict":
            return self._predict(name, version, label, body)
        if call.action:
            return self._judge(call.action, name, version, label, body)
        # In any case of letters it is found, but only in small ones it is meant.
        if match["metadata"] == "metadata":
            with self._models.use(name, version, label) as servable:
                return orjson.dumps(metadata_document(servable))
        if self.leaving:
            # By the status alone: that is all that load balancers look at.
            raise Unavailable("the server is shutting down")
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


def _version(digits: str | None) -> int | None:
    if digits is None:
        return None
    # Compared by length first: int() refuses thousands of digits.
    if len(digits.lstrip("0")) > 19 or int(digits) > LARGEST_VERSION:
        raise InvalidArgument(f"Failed to convert version: {digits} to numeric.")
    return int(digits)
