"""--rest_api_enable_cors_support: what a browser asks before a page may use the REST interface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from raw import Raw, Response, ask, request
from running import Server

PREDICT, STATUS = "/v1/models/module:predict", "/v1/models/module"
ORIGIN = "Origin: https://page.test"
ALLOWED = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "get, post",  # the client writes all in lower case
    "access-control-allow-headers": "content-type, content-encoding",
}


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with Server(
        "--model_name=module",
        f"--model_base_path={models / 'module'}",
        "--rest_api_enable_cors_support",
        "--max_request_bytes=1000",
    ) as server:
        yield server


def allowed(response: Response | None) -> dict[str, str]:
    assert response is not None
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-")}


def test_a_preflight_and_the_request_that_follows(server: Server) -> None:
    asked = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type")
    with Raw(server.port) as client:
        client.send(request("OPTIONS", PREDICT, None, ORIGIN, *asked))
        response = client.response()
        assert response is not None
        assert (response.status, response.body) == (200, b"")
        assert allowed(response) == ALLOWED
        body = b'{"instances": [[1, 2]]}'
        client.send(request("POST", PREDICT, body, ORIGIN, "Content-Type: application/json"))
        response = client.response()
        assert response is not None
        assert response.document == {"predictions": [[4.0, 1.0]]}
        assert allowed(response) == ALLOWED


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request("GET", STATUS, None, ORIGIN), 200),
        (request("GET", "/monitoring/prometheus/metrics", None, ORIGIN), 200),
        (request("POST", PREDICT, b"{", ORIGIN), 400),
        (request("GET", "/nothing", None, ORIGIN), 404),
        (request("POST", PREDICT, b" " * 1001, ORIGIN), 413),
        (b"nonsense\r\n\r\n", 400),
    ],
)
def test_a_page_can_read_every_answer(server: Server, data: bytes, status: int) -> None:
    response = ask(server.port, data)
    assert response.status == status
    assert allowed(response) == ALLOWED


def test_without_the_flag_there_is_nothing_of_it(module_server: Server) -> None:
    response = ask(module_server.port, request("OPTIONS", PREDICT, None, ORIGIN))
    assert response.status == 400
    assert response.error == f"Malformed request: OPTIONS {PREDICT}"
    for data in (request("GET", STATUS, None, ORIGIN), b"nonsense\r\n\r\n"):
        assert not allowed(ask(module_server.port, data))
