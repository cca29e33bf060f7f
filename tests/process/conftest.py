"""Fixtures of the tests with processes; those for all tests are in tests/helpers/fixtures.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.lib.common import processes
from tasks.lib.common.settings import Settings
from tests.helpers.environments import Project
from tests.helpers.fixtures import *  # noqa: F403
from tests.helpers.fixtures import _no_docker, _no_proxy_for_loopback  # noqa: F401
from tests.helpers.local_servers import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    workspace = Workspace(tmp_path)
    yield workspace
    for process in workspace.processes():
        processes.terminate(process, 0)


@pytest.fixture
def project(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = Project(tmp_path, settings)
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(project.wheels))
    return project
