"""The build tasks where no Docker Engine answers, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.commandline import CommandLine


@pytest.fixture
def nowhere(tmp_path: Path) -> dict[str, str]:
    """An environment in which no Docker Engine answers."""
    return {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}


def test_devel_has_nothing_to_do_on_the_local_engine(invoke: CommandLine, nowhere: dict[str, str]) -> None:
    for words in (["build.devel"], ["build.devel", "--engine", "local"]):
        done = invoke.run(*words, **nowhere)
        assert done.returncode == 0
        assert done.stdout == ""
        assert "build.devel: nothing to do on the local engine" in done.stderr


def test_auto_says_why_it_is_local(invoke: CommandLine, nowhere: dict[str, str]) -> None:
    done = invoke.run("build.devel", **nowhere)
    assert done.stderr.startswith("engine: local (No Docker Engine answers at ")


@pytest.mark.parametrize("task", ["build.devel", "build.optimized", "build.embedded", "build"])
def test_docker_was_asked_for_and_is_not_there(
    invoke: CommandLine, nowhere: dict[str, str], task: str
) -> None:
    done = invoke.run(task, "--engine", "docker", **nowhere)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "error: " in done.stderr


@pytest.mark.parametrize("task", ["build.devel", "build.optimized", "build.embedded", "build"])
def test_an_engine_that_does_not_exist(invoke: CommandLine, task: str) -> None:
    done = invoke.run(task, "--engine", "podman")
    assert done.returncode == 1
    assert "error: There is no engine 'podman'.\nChoose one of: auto, local, docker." in done.stderr


def test_embedded_on_auto_is_the_environment(invoke: CommandLine, nowhere: dict[str, str]) -> None:
    done = invoke.run("--dry", "build.embedded", **nowhere)
    assert done.returncode == 0
    assert "build.embedded makes the local engine's virtual environment" in done.stderr
    assert "-m venv" in done.stderr


def test_what_is_for_the_local_engine_is_checked_there(invoke: CommandLine, nowhere: dict[str, str]) -> None:
    done = invoke.run("build.optimized", "--precision", "int4", **nowhere)
    assert done.returncode == 1
    assert "There is no precision 'int4'" in done.stderr


def test_own_requests_are_read_before_anything_is_made(invoke: CommandLine, nowhere: dict[str, str]) -> None:
    done = invoke.run("build.optimized", "--inputs", "missing.jsonl", **nowhere)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "error: There is no file or folder 'missing.jsonl'.\nName a photo, " in done.stderr
