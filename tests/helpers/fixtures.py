"""Fixtures of unit and process tests: settings with folders of their own, a file server, the command line."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import hypothesis
import pytest
from invoke.config import Config

from tasks.lib.common.settings import Download, Paths, Settings, read
from tests.helpers.commandline import ROOT, CommandLine
from tests.helpers.fileserver import Server

# How long an example takes depends on the machine, and on what else it does.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _no_proxy_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")


@pytest.fixture(autouse=True)
def _no_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unit tests see no Docker Engine, whether one runs here or not; `auto` is then local."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")


@functools.cache
def default_settings() -> Settings:
    """Those of invoke.yaml."""
    config = Config(project_location=str(ROOT))
    config.load_project()
    return read(config, ROOT)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """invoke.yaml's settings, with every folder below `tmp_path` and hardly a pause between attempts."""
    folders = {name: tmp_path / name for name in ("models", "state", "environment", "results")}
    return replace(
        default_settings(), paths=Paths(ROOT, **folders), download=Download(timeout=5, retries=3, pause=0.001)
    )


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def closed_url() -> str:
    """A URL where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return f"http://127.0.0.1:{port}/model.tar.gz"


@pytest.fixture
def invoke(settings: Settings) -> Iterator[CommandLine]:
    line = CommandLine(settings.paths)
    yield line
    for process in line.started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, bytes], Path]:
    """Writes a file of the test's own."""

    def write(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write
