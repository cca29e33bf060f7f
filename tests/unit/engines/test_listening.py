"""tasks.lib.engines.listening, without containers; tests/integration/docker has those."""

from __future__ import annotations

import os
import socket

import pytest

from tasks.lib.engines import listening


@pytest.fixture(autouse=True)
def no_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")


def test_the_process_behind_an_address_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listening.processes(f"http://127.0.0.1:{port}/v1/models/m") == (os.getpid(),)
        assert listening.processes(f"http://192.0.2.1:{port}/v1/models/m") == ()
    assert listening.processes(f"http://127.0.0.1:{port}/v1/models/m") == ()


def test_an_address_without_a_port_is_not_looked_for() -> None:
    assert listening.processes("http://localhost/v1/models/m") == ()
