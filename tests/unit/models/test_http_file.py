"""tasks.lib.models.http_file: a file over HTTP, whatever happens to the connection."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from dataclasses import replace
from email.utils import formatdate

import pytest

from tasks.lib.common.errors import DownloadError, Unreachable
from tasks.lib.common.settings import Download
from tasks.lib.models.http_file import Changed, RemoteFile, public
from tests.helpers.fileserver import Resource, Server

OPTIONS = Download(timeout=5, retries=3, pause=0.001)
CONTENT = os.urandom(1_000_000)


def fetch(url: str, options: Download = OPTIONS) -> bytes:
    with RemoteFile(url, options) as remote:
        content = remote.read()
        assert content is not None
        assert remote.sha256 == hashlib.sha256(content).hexdigest()
        return content


def ranges(resource: Resource) -> list[str | None]:
    return [request.get("Range") for request in resource.requests]


@pytest.mark.parametrize("announces_length", [True, False])
def test_an_unbroken_transfer_is_one_request(server: Server, announces_length: bool) -> None:
    url, resource = server.serve("/file", CONTENT, announces_length=announces_length)
    with RemoteFile(url, OPTIONS) as remote:
        arrived: list[int] = []
        remote.on_bytes = arrived.append
        assert remote.length == (len(CONTENT) if announces_length else None)
        assert remote.read() == CONTENT
        assert sum(arrived) == len(CONTENT)
    assert ranges(resource) == [None]
    assert resource.requests[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("etag", "last_modified", "validator"),
    [
        ('"strong"', None, '"strong"'),
        ('"strong"', "Sat, 01 Nov 2025 00:00:00 GMT", '"strong"'),
        ('W/"weak"', "Sat, 01 Nov 2025 00:00:00 GMT", "Sat, 01 Nov 2025 00:00:00 GMT"),
    ],
)
def test_a_broken_connection_is_resumed_where_it_broke(
    server: Server, etag: str, last_modified: str | None, validator: str
) -> None:
    url, resource = server.serve(
        "/file", CONTENT, etag=etag, last_modified=last_modified, cuts=[300_000, 1, 0, 200_000]
    )
    assert fetch(url) == CONTENT
    assert len(resource.requests) == 5
    assert {request.get("If-Range") for request in resource.requests[1:]} == {validator}
    starts = [int(text.removeprefix("bytes=").rstrip("-")) for text in ranges(resource)[1:] if text]
    assert starts == sorted(starts)
    assert starts == [300_000, 300_001, 300_001, 500_001]


def test_a_reset_connection_is_resumed(server: Server) -> None:
    url, _ = server.serve("/file", CONTENT, cuts=[300_000, 0, 200_000], resets=True)
    assert fetch(url) == CONTENT


@pytest.mark.parametrize("options", [{"ranges": False}, {"etag": None}, {"etag": 'W/"weak"'}, {"shift": 1}])
def test_where_ranges_cannot_be_had_the_beginning_is_read_again(
    server: Server, options: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    url, resource = server.serve("/file", CONTENT, cuts=[300_000], **options)
    assert fetch(url) == CONTENT
    assert len(resource.requests) == (3 if "shift" in options else 2)
    assert "cannot resume: reading" in capsys.readouterr().err


def replaced(content: bytes, etag: str = '"second"') -> object:
    def act(resource: Resource) -> None:
        resource.content, resource.etag = content, etag

    return act


@pytest.mark.parametrize("options", [{}, {"ranges": False}, {"obeys_if_range": False}])
@pytest.mark.parametrize("content", [os.urandom(1_000_000), os.urandom(2_000_000), CONTENT[:100_000]])
def test_a_file_that_is_replaced_meanwhile_is_noticed(
    server: Server, options: dict[str, object], content: bytes
) -> None:
    url, _ = server.serve("/file", CONTENT, cuts=[300_000], then=replaced(content), **options)
    with pytest.raises(Changed, match="was replaced by another one"):
        fetch(url)


def test_a_new_tag_for_the_same_bytes_is_no_change(server: Server) -> None:
    url, _ = server.serve("/file", CONTENT, cuts=[300_000], then=replaced(CONTENT))
    assert fetch(url) == CONTENT


def test_attempts_are_counted_again_when_bytes_arrive(server: Server) -> None:
    url, resource = server.serve("/file", CONTENT, cuts=[150_000] * 5)
    assert fetch(url, replace(OPTIONS, retries=1)) == CONTENT
    assert len(resource.requests) == 6


def test_a_connection_that_brings_nothing_more_is_given_up(server: Server) -> None:
    url, resource = server.serve("/file", CONTENT, cuts=[300_000, 0, 0, 0, 0, 0])
    with pytest.raises(
        DownloadError, match=r"stopped after .* of 976.6 KiB and could not be resumed"
    ) as caught:
        fetch(url)
    assert not isinstance(caught.value, Unreachable)
    assert len(resource.requests) == 1 + OPTIONS.retries


def test_fewer_bytes_than_announced_are_noticed(server: Server) -> None:
    url, _ = server.serve("/file", CONTENT, announced_extra=10, ranges=False)
    with pytest.raises(DownloadError, match=r"stopped after 976.6 KiB"):
        fetch(url)


def test_a_silent_connection_counts_as_broken(server: Server) -> None:
    url, resource = server.serve("/file", CONTENT, hold_after=300_000)
    assert fetch(url, replace(OPTIONS, timeout=0.2)) == CONTENT
    assert len(resource.requests) == 2


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(
    server: Server, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    url, resource = server.serve("/file", CONTENT, statuses=[(status, {})] * 3)
    assert fetch(url) == CONTENT
    assert len(resource.requests) == 4
    assert f"it answers HTTP {status}" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(server: Server, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    wish = "7" if form == "seconds" else formatdate(time.time() + 8, usegmt=True)
    busy = [(503, {"Retry-After": wish}), (429, {"Retry-After": "86400"})]
    url, _ = server.serve("/file", CONTENT, statuses=busy)
    assert fetch(url) == CONTENT
    waits = [pause for pause in slept if pause >= 1]
    assert waits[0] == pytest.approx(7, abs=1.1)
    assert waits[1] == 60  # no one waits for a day


def test_pauses_grow(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    url, _ = server.serve("/file", CONTENT, statuses=[(503, {})] * 4)
    fetch(url, Download(timeout=5, retries=4, pause=0.5))
    waits = [pause for pause in slept if pause >= 0.3]
    assert [0.75 * 0.5 * 2**n <= pause <= 1.25 * 0.5 * 2**n for n, pause in enumerate(waits)] == [True] * 4


def test_a_server_that_stays_busy_is_given_up(server: Server) -> None:
    url, _ = server.serve("/file", CONTENT, statuses=[(503, {})] * 9)
    with pytest.raises(
        DownloadError, match="is not available: it answers HTTP 503 Service Unavailable"
    ) as caught:
        fetch(url)
    assert not isinstance(caught.value, Unreachable)


@pytest.mark.parametrize("status", [401, 403, 404, 410, 204, 206])
def test_other_answers_are_final(server: Server, status: int) -> None:
    url, resource = server.serve("/file", CONTENT, statuses=[(status, {})])
    with pytest.raises(Unreachable, match=f"{url} answers HTTP {status}"):
        fetch(url)
    assert len(resource.requests) == 1


def test_a_file_that_vanishes_meanwhile_is_told(server: Server) -> None:
    def vanish(resource: Resource) -> None:
        resource.statuses = [(404, {})]

    url, _ = server.serve("/file", CONTENT, cuts=[300_000], then=vanish)
    with pytest.raises(DownloadError, match="answers HTTP 404"):
        fetch(url)


def test_where_nothing_listens(closed_url: str) -> None:
    with pytest.raises(Unreachable, match="cannot be reached: connection refused") as caught:
        fetch(closed_url)
    assert "--path" in caught.value.remedy


def test_a_name_that_no_one_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def unknown(host: object, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(Unreachable, match="its name cannot be resolved"):
        fetch("http://missing.invalid/file")
    assert len(asked) == 2, "one quick second attempt, as nothing has ever answered"


def test_a_server_that_never_answers_is_unreachable(server: Server) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(Unreachable, match="no answer in time"):
            fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/", replace(OPTIONS, timeout=0.2))


def test_a_proxy_that_refuses_means_unreachable(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.serve("/", b"")
    address = server.serve("/x", b"")[0].removesuffix("/x")
    monkeypatch.setenv("https_proxy", address)
    with pytest.raises(Unreachable, match="the proxy does not let it through"):
        fetch("https://models.invalid/file")


@pytest.mark.parametrize("content", [b"", b"x"])
def test_tiny_files(server: Server, content: bytes) -> None:
    assert fetch(server.serve("/file", content)[0]) == content


def test_a_password_in_the_address_stays_out_of_sight(server: Server) -> None:
    url = server.serve("/file", CONTENT)[0]
    with RemoteFile(url.replace("//", "//user:secret@"), OPTIONS) as remote:
        assert remote.url == url
    assert public("https://a:b@host:1/x?y=z") == "https://host:1/x?y=z"
    assert public("https://a:b@c@host/x@1") == "https://host/x@1"
    for unusable in ("http://user:secret@*.x/y", "ftp://user:secret@host/x", "http://user:secret@h:99999/x"):
        with pytest.raises(DownloadError, match="cannot be requested") as told:
            RemoteFile(unusable, OPTIONS)
        assert "secret" not in told.value.problem
