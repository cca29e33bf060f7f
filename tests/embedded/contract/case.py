"""What a case is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

JSON_TENSOR = "util/json_tensor.cc"
HANDLER = "model_servers/http_rest_api_handler.cc"
UTIL = "model_servers/http_rest_api_util.cc"
RAPIDJSON = "rapidjson, with kParseNanAndInfFlag (util/json_tensor.cc)"
PREDICT_UTIL = "servables/tensorflow/predict_util.cc"
GUIDE = "g3doc/api_rest.md"
MODULE, HALF = "module", "half_plus_two"
"""Models: saved_models.write_module, and that of TensorFlow Serving's own guide (test_half_plus.write)."""


@dataclass(frozen=True)
class Rest:
    """A request over HTTP, and the answer.

    answer: the JSON document; None where only the status counts. message: part of the error. only: the backend
    that it is for; empty for both.
    """

    name: str
    source: str
    method: str
    path: str
    body: bytes | None
    status: int
    answer: Any = None
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """Whose path it is."""
        return HALF if HALF in self.path else MODULE


@dataclass(frozen=True)
class Grpc:
    """A call, and the answer.

    request: makes the message. code: gRPC's; OK where it is answered. check: what holds for the answer.
    """

    name: str
    source: str
    method: str
    request: Callable[[], Any]
    code: str = "OK"
    message: str = ""
    check: Callable[[Any], bool] = lambda answer: True
    model: str = MODULE


def asked(
    name: str, body: object, answer: Any = None, *, message: str = "", source: str = JSON_TENSOR,
    signature: str = "", status: int = 0, path: str = f"/v1/models/{MODULE}:predict",
) -> Rest:  # fmt: skip
    """A predict request; `body` is JSON text, bytes, or what becomes JSON, with the signature put into it."""
    if isinstance(body, dict):
        body = json.dumps({"signature_name": signature, **body} if signature else body)
    elif isinstance(body, str) and signature:
        body = body.replace("{", f'{{"signature_name": "{signature}", ', 1)
    data = body if isinstance(body, bytes) else str(body).encode()
    status = status or (400 if message else 200)
    return Rest(name, source, "POST", path, data, status, answer, message)
