"""Paths, methods and headers."""

from __future__ import annotations

import gzip
from typing import Any

from contract.case import GUIDE, HALF, HANDLER, UTIL, Rest

BODY = b'{"instances": [[1.0, 2.0]]}'
DONE = {"predictions": [[4.0, 1.0]]}
OK = {"error_code": "OK", "error_message": ""}


def status_of(version: str) -> dict[str, Any]:
    return {"model_version_status": [{"version": version, "state": "AVAILABLE", "status": OK}]}


def got(name: str, path: str, status: int, answer: Any = None, message: str = "", source: str = UTIL) -> Rest:
    return Rest(name, source, "GET", path, None, status, answer, message)


def posted(
    name: str, path: str, status: int = 200, message: str = "", source: str = UTIL, **more: Any
) -> Rest:
    answer = DONE if status == 200 else None
    return Rest(
        name, source, "POST", path, more.pop("body", BODY), status, answer, message, more.pop("headers", {})
    )


CASES: list[Rest] = [
    posted("predict", "/v1/models/module:predict", source=GUIDE),
    posted("predict of a version", "/v1/models/module/versions/3:predict", source=GUIDE),
    posted("predict of a version with zeros", "/v1/models/module/versions/0003:predict"),
    posted("predict of a label", "/v1/models/module/labels/stable:predict", source=GUIDE),
    posted("a path in capitals", "/V1/MODELS/module:predict"),
    posted("a name with an escape", "/v1/models/m%6Fdule:predict"),
    posted("a label with an escape", "/v1/models/module/labels/st%61ble:predict"),
    posted("a question behind the path", "/v1/models/module:predict?x=1"),
    posted("a method in capitals", "/v1/models/module:PREDICT", 400, "Malformed request: POST /v1/models/module:PREDICT", HANDLER),
    posted("a name in capitals", "/v1/models/MODULE:predict", 404, "Servable not found for request: Latest(MODULE)"),
    posted("a method that is not there", "/v1/models/module:explain", 400, "Malformed request: POST", HANDLER),
    posted("no method", "/v1/models/module", 400, "Malformed request: POST /v1/models/module", HANDLER),
    posted("a method without a name", "/v1/models/:predict", 400, "Malformed request: POST", HANDLER),
    posted("no model", "/v1/models:predict", 400, "Malformed request: POST", HANDLER),
    posted("a version that is no number", "/v1/models/module/versions/x:predict", 400, "Malformed request: POST", HANDLER),
    posted("a negative version", "/v1/models/module/versions/-3:predict", 400, "Malformed request: POST", HANDLER),
    posted("a version without a number", "/v1/models/module/versions/:predict", 400, "Malformed request: POST", HANDLER),
    posted("a version and a label", "/v1/models/module/versions/3/labels/stable:predict", 400, "Malformed request: POST", HANDLER),
    posted("a slash at the end", "/v1/models/module:predict/", 400, "Malformed request: POST", HANDLER),
    posted("a colon in a name", "/v1/models/a:b:predict", 400, "Malformed request: POST", HANDLER),
    posted("metadata by POST", "/v1/models/module/metadata", 400, "Malformed request: POST", HANDLER),
    posted("another version of the API", "/v2/models/module:predict", 404),
    posted("the root", "/", 404),
    posted("a packed body", "/v1/models/module:predict", body=gzip.compress(BODY), headers={"Content-Encoding": "gzip"}, source=GUIDE),
    posted("a body that is not packed", "/v1/models/module:predict", 400, "gzip", body=BODY, headers={"Content-Encoding": "gzip"}),
    posted("a body of another type", "/v1/models/module:predict", headers={"Content-Type": "text/plain"}),
    posted("a body of a form", "/v1/models/module:predict", headers={"Content-Type": "application/x-www-form-urlencoded"}),
    posted("JSON in another alphabet is told, and not looked at", "/v1/models/module:predict", headers={"Content-Type": "application/json; charset=latin-1"}),
    Rest("predict by GET", HANDLER, "GET", "/v1/models/module:predict", None, 400, message="Malformed request: GET /v1/models/module:predict"),
    Rest("predict by PUT", HANDLER, "PUT", "/v1/models/module:predict", BODY, 400, message="Malformed request: PUT"),
    Rest("predict by DELETE", HANDLER, "DELETE", "/v1/models/module:predict", None, 400, message="Malformed request: DELETE"),
    Rest("predict by PATCH", HANDLER, "PATCH", "/v1/models/module:predict", BODY, 400, message="Malformed request: PATCH"),
    Rest("predict by OPTIONS", HANDLER, "OPTIONS", "/v1/models/module:predict", None, 400, message="Malformed request: OPTIONS"),
    got("status", "/v1/models/module", 200, status_of("3"), source=GUIDE),
    got("status of a version", "/v1/models/module/versions/3", 200, status_of("3"), source=GUIDE),
    got("status by a label", "/v1/models/module/labels/stable", 200, status_of("3")),
    got("status in capitals", "/V1/Models/module", 200, status_of("3")),
    got("status with a question", "/v1/models/module?x=1", 200, status_of("3")),
    got("status of another model", f"/v1/models/{HALF}", 200, status_of("123"), source=GUIDE),
    got("status of a version that is not there", "/v1/models/module/versions/7", 404, message="Could not find version 7 of model module"),
    got("status of a model that is not there", "/v1/models/none", 404, message="Could not find any versions of model none"),
    got("status of no model", "/v1/models", 400, message="Missing model name in request."),
    got("status with a slash at the end", "/v1/models/module/", 400, message="Malformed request: GET /v1/models/module/"),
    got("status of a version that is no number", "/v1/models/module/versions/x", 400, message="Malformed request: GET"),
    got("status of a version beyond int64", "/v1/models/module/versions/99999999999999999999", 400, message="Failed to convert version"),
    got("metadata", "/v1/models/module/metadata", 200, source=GUIDE),
    got("metadata of a version", "/v1/models/module/versions/3/metadata", 200, source=GUIDE),
    got("metadata by a label", "/v1/models/module/labels/stable/metadata", 200),
    # The pattern takes any case, and what it found is then compared with "metadata".
    got("metadata in capitals is the status", "/v1/models/module/METADATA", 200, status_of("3")),
    got("metadata of a version that is not there", "/v1/models/module/versions/7/metadata", 404, message="Servable not found for request: Specific(module, 7)"),
    got("metadata of a model that is not there", "/v1/models/none/metadata", 404, message="Servable not found for request: Latest(none)"),
    got("metadata of no model", "/v1/models/metadata", 404, message="Could not find any versions of model metadata"),
    got("something below the metadata", "/v1/models/module/metadata/x", 400, message="Malformed request: GET"),
    got("something else", "/v1/other", 400, message="Malformed request: GET /v1/other"),
    got("another version of the API, read", "/v2/models/module", 404),
]  # fmt: skip
