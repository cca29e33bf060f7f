"""tasks.lib.client.rest: one question, one answer, and every way of not getting one."""

from __future__ import annotations

import json
import math

import pytest

from tasks.lib.client.rest import Client
from tasks.lib.common.errors import RequestRefused, ServerError, SuiteError
from tests.helpers.scripted import answer, chunked, free_port, keep_silent, say, say_and_close, serving

STATUS = {"model_version_status": [{"version": "7", "state": "AVAILABLE", "status": {"error_code": "OK"}}]}


def test_it_asks_as_tensorflow_serving_is_asked() -> None:
    body = b'{"instances": [[1.5]]}'
    answers = [STATUS, {"metadata": {}}, {"predictions": [[2.5]]}]
    with serving(*(say(answer(json.dumps(each).encode())) for each in answers)) as server:
        client = Client(server.url + "/")
        assert client.status() == STATUS["model_version_status"]
        assert client.metadata() == {"metadata": {}}
        assert client.predict(body) == {"predictions": [[2.5]]}
    lines = [request.partition(b"\r\n")[0].decode() for request in server.requests]
    assert lines == [
        "GET /v1/models/net HTTP/1.1",
        "GET /v1/models/net/metadata HTTP/1.1",
        "POST /v1/models/net:predict HTTP/1.1",
    ]
    assert server.requests[2].endswith(b"\r\n\r\n" + body)


def test_nan_and_infinity_are_read_as_tensorflow_serving_writes_them() -> None:
    with serving(say(answer(b'{"predictions": [[NaN, Infinity, -Infinity]]}'))) as server:
        values = Client(server.url).predict(b"{}")["predictions"][0]
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf]


def test_chunked_answers_are_read() -> None:
    with serving(say(chunked(b'{"predictions"', b": [1]}"))) as server:
        assert Client(server.url).predict(b"{}") == {"predictions": [1]}


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503, 504])
def test_an_error_of_the_server_is_told_in_its_words(status: int) -> None:
    with (
        serving(say(answer(b'{"error": "Malformed request: 7"}', status))) as server,
        pytest.raises(RequestRefused) as told,
    ):
        Client(server.url).predict(b"{}")
    assert told.value.status == status
    assert told.value.message == "Malformed request: 7"
    assert f"HTTP {status}: Malformed request: 7" in told.value.problem
    assert "serve.logs" in told.value.remedy
    assert told.value.exit_code == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>Bad Gateway</html>", "<html>Bad Gateway</html>"),
        (b"word " * 1000, "word " * 58 + "word [...]"),
        (b"[1, 2]", "[1, 2]"),
        (b'{"detail": "no"}', "{'detail': 'no'}"),
        (b"", ""),
    ],
    ids=["html", "long", "list", "another key", "empty"],
)
def test_an_error_of_another_user_is_told_as_it_is(body: bytes, message: str) -> None:
    with serving(say(answer(body, 502))) as server, pytest.raises(RequestRefused) as told:
        Client(server.url).status()
    assert (told.value.status, told.value.message) == (502, message)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>hello</html>",
        b"",
        b"[]",
        b'"text"',
        b'{"error": "odd"}',
        b"\xff\xfe",
        b"9" * 5000,
        b"[" * 100_000,
    ],
    ids=["html", "empty", "list", "text", "error", "no text", "large number", "deep"],
)
def test_an_answer_that_is_not_the_contracts_is_told(body: bytes) -> None:
    with serving(say(answer(body))) as server, pytest.raises(ServerError) as told:
        Client(server.url).metadata()
    assert not isinstance(told.value, RequestRefused)
    assert "does not answer as TensorFlow Serving does" in told.value.problem


@pytest.mark.parametrize("body", [b"{}", b'{"model_version_status": "fine"}', b'{"status": "ok"}'])
def test_a_status_without_versions_is_told(body: bytes) -> None:
    with serving(say(answer(body))) as server, pytest.raises(ServerError, match="TensorFlow Serving"):
        Client(server.url).status()


def test_where_nothing_listens_this_is_told() -> None:
    url = f"http://127.0.0.1:{free_port()}/v1/models/net"
    with pytest.raises(ServerError) as told:
        Client(url).status()
    assert told.value.problem == f"{url} does not answer (ConnectionError)."
    assert "serve.status" in told.value.remedy


@pytest.mark.parametrize("cut", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", b"SSH-2.0\r\n"])
def test_an_answer_that_breaks_off_is_told(cut: bytes) -> None:
    with serving(say_and_close(cut)) as server, pytest.raises(ServerError, match="does not answer"):
        Client(server.url).predict(b"{}")


def test_silence_is_told_after_the_timeout() -> None:
    with serving(keep_silent) as server, pytest.raises(ServerError, match=r"does not answer \(ReadTimeout\)"):
        Client(server.url, timeout=0.1).predict(b"{}")


@pytest.mark.parametrize("url", ["no address", "http://[", "ftp://127.0.0.1/"])
def test_what_is_no_address_is_told(url: str) -> None:
    with pytest.raises(SuiteError):
        Client(url).status()


def test_proxies_in_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = f"http://127.0.0.1:{free_port()}"
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, closed)
    with serving(say(answer(json.dumps(STATUS).encode()))) as server:
        assert Client(server.url).status() == STATUS["model_version_status"]
