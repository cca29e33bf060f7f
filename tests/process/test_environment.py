"""The embedded environment is made with the real venv and pip, from a lock that names one tiny package."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest

from tasks.lib.common import processes
from tasks.lib.common.errors import EnvironmentBuildError
from tasks.lib.common.settings import Settings
from tasks.lib.embedded import environment
from tests.helpers.environments import Project
from tests.helpers.standin import ROOT, wait_for


def test_it_is_built_once(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    python = environment.ensure(project.settings)
    assert python.is_file()
    assert project.installed() == "1.0"
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "-m venv --without-pip environment" in shown.err
    assert "-r docker/embedded/requirements.lock" in shown.err
    monkeypatch.setattr(subprocess, "Popen", None)  # no process is started
    assert environment.ensure(project.settings) == python
    assert capsys.readouterr().err == ""


def test_another_lock_is_another_environment(project: Project) -> None:
    environment.ensure(project.settings)
    project.lock("2.0")
    assert not environment.is_built(project.settings)
    environment.ensure(project.settings)
    assert project.installed() == "2.0"


def test_a_half_built_one_is_built_again(project: Project) -> None:
    environment.ensure(project.settings)
    folder = project.settings.paths.environment
    (folder / environment.SIGN).write_text("being built")
    (folder / "rest").touch()
    environment.ensure(project.settings)
    assert environment.is_built(project.settings)
    assert not (folder / "rest").exists()


def test_one_whose_python_is_gone_is_built_again(project: Project) -> None:
    environment.ensure(project.settings)
    python = environment.python(project.settings)
    python.unlink()
    python.symlink_to("/nonexistent/python")
    assert not environment.is_built(project.settings)
    environment.ensure(project.settings)
    assert project.installed() == "1.0"


def test_packages_elsewhere_do_not_count(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = project.folder / "elsewhere"
    with zipfile.ZipFile(project.wheels / "tiny-1.0-py3-none-any.whl") as archive:
        archive.extractall(elsewhere)
    monkeypatch.setenv("PYTHONPATH", str(elsewhere))
    monkeypatch.setenv("PIP_TARGET", str(elsewhere))
    monkeypatch.setenv("PIP_USER", "1")
    environment.ensure(project.settings)
    monkeypatch.delenv("PYTHONPATH")
    assert project.installed() == "1.0"


def test_a_wrong_digest_is_refused(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.lock("1.0", digest="0" * 64)
    with pytest.raises(EnvironmentBuildError, match="DO NOT MATCH THE HASHES") as caught:
        environment.ensure(project.settings)
    assert "pip cache purge" in caught.value.remedy
    assert not project.settings.paths.environment.exists()
    assert "THESE PACKAGES DO NOT MATCH" in capsys.readouterr().err


def test_no_network(
    project: Project, monkeypatch: pytest.MonkeyPatch, closed_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", closed_url)
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(EnvironmentBuildError, match="No matching distribution found for tiny") as caught:
        environment.ensure(project.settings)
    assert "Check the network" in caught.value.remedy
    assert not project.settings.paths.environment.exists()


@pytest.mark.parametrize(
    ("log", "problem", "remedy"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n\n",
            "No space left on device",
            "Free 3 GB",
        ),
        ("Error: [Errno 28] No space left on device: 'lib'\n", "No space left on device", "Free 3 GB"),
        (
            "The virtual environment was not created\nensurepip is not available.\n",
            "ensurepip",
            "apt install",
        ),
        ("WARNING: Retrying after connection broken by 'ProxyError'\nERROR: No\n", "No", "proxy"),
        ("something\nunheard of\n", "unheard of", "The lines above"),
        ("", "ended with status 2 and said nothing", "The whole log"),
    ],
)
def test_what_pip_says_becomes_a_sentence(settings: Settings, log: str, problem: str, remedy: str) -> None:
    file = settings.paths.state / "logs" / "environment.log"
    file.parent.mkdir(parents=True)
    file.write_text(log)
    error = environment._failure(settings, 2, file)
    assert problem in error.problem
    assert remedy in error.remedy
    assert error.problem.endswith(".")
    assert "\n" not in error.problem


def test_a_full_disk(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file may grow beyond 1 KiB: the first one that does fails as on a full disk."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        with pytest.raises(EnvironmentBuildError):
            environment.ensure(project.settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not project.settings.paths.environment.exists()


@pytest.fixture
def stuck(project: Project, server: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """pip waits for an index that does not go on; returns what makes it find the wheels again."""
    page = b"<!doctype html><html><body>nothing</body></html>"
    url, _ = server.serve("/tiny/", page, content_type="text/html", hold_after=5, etag=None)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", url.removesuffix("/tiny/"))
    return lambda: monkeypatch.setenv("PIP_NO_INDEX", "1")


def installing(project: Project) -> bool:
    log = project.settings.paths.state / "logs" / "environment.log"
    return bool(project.jobs()) and "Looking in indexes" in processes.tail(log)


@pytest.mark.usefixtures("stuck")
def test_ctrl_c_leaves_nothing(project: Project) -> None:
    def interrupt() -> None:
        wait_for(lambda: installing(project))
        os.kill(os.getpid(), signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()
    with pytest.raises(KeyboardInterrupt):
        environment.ensure(project.settings)
    other.join()
    assert not project.settings.paths.environment.exists()
    assert project.jobs() == []


def test_what_a_killed_call_left_is_built_again(project: Project, stuck: Callable[[], None]) -> None:
    code = (
        "import pickle, sys; from tasks.lib.embedded import environment;"
        "environment.ensure(pickle.load(sys.stdin.buffer))"
    )
    import pickle

    settings = replace(project.settings, variants={})
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as call:
        assert call.stdin is not None
        call.stdin.write(pickle.dumps(settings))
        call.stdin.close()
        wait_for(lambda: installing(project))
        call.kill()
    assert project.jobs(), "pip goes on without the call that started it"
    assert not environment.is_built(project.settings)
    stuck()
    environment.ensure(project.settings)
    assert project.jobs() == []
    assert project.installed() == "1.0"


def test_two_calls_build_it_once(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(environment.ensure, [project.settings] * 2)
    assert first == second
    shown = capsys.readouterr().err
    assert shown.count("pip --python") == 1


def test_a_folder_that_is_not_ours_is_left_alone(project: Project) -> None:
    folder = project.settings.paths.environment
    folder.mkdir()
    (folder / "thesis.txt").touch()
    for act in (environment.ensure, environment.remove):
        with pytest.raises(EnvironmentBuildError, match="is not an environment of this suite"):
            act(project.settings)
    assert (folder / "thesis.txt").exists()


def test_a_link_to_another_disk_stays(project: Project) -> None:
    elsewhere = project.folder / "another disk"
    elsewhere.mkdir()
    project.settings.paths.environment.symlink_to(elsewhere)
    environment.ensure(project.settings)
    assert (elsewhere / "bin").is_dir()
    environment.remove(project.settings)
    assert list(elsewhere.iterdir()) == []
    assert project.settings.paths.environment.is_symlink()


def test_links_inside_are_not_followed(project: Project) -> None:
    keep = project.folder / "keep"
    keep.mkdir()
    (keep / "file").touch()
    environment.ensure(project.settings)
    (project.settings.paths.environment / "link").symlink_to(keep)
    environment.remove(project.settings)
    environment.remove(project.settings)
    assert not project.settings.paths.environment.exists()
    assert (keep / "file").exists()


def test_an_unsupported_python(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PYTHONS", ((2, 6), (2, 7)))
    with pytest.raises(EnvironmentBuildError, match="no package for Python 3") as caught:
        environment.ensure(project.settings)
    assert "Python 2.6 to 2.7" in caught.value.remedy


def test_a_runner_without_pip_lets_venv_bring_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(environment, "version", missing)
    make, install = environment._commands(settings)
    assert make[1:3] == ["-m", "venv"]
    assert "--without-pip" not in make
    assert install[0] == str(environment.python(settings))


@pytest.mark.parametrize(
    ("version", "able"), [("22.2.1", False), ("22.3", True), ("23.0.1", True), ("x", False)]
)
def test_pip_can_serve_other_environments_from_22_3(
    monkeypatch: pytest.MonkeyPatch, version: str, able: bool
) -> None:
    monkeypatch.setattr(environment, "version", lambda name: version)
    assert environment._pip_serves_others() is able
