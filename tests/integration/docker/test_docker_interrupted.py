"""Whatever step a call is interrupted or killed in, nothing of that step is left."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator

import pytest

from tests.integration.conftest import Suite
from tests.integration.docker import engine
from tests.integration.docker.conftest import LABEL, containers, put_model


@pytest.fixture
def calls() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def running(docker_host: str) -> list[str]:
    return containers(docker_host, "status=running")


def starting(suite: Suite, docker_host: str, *words: str) -> subprocess.Popen[str]:
    """A call whose server runs but never answers."""
    put_model(suite, "hang")
    process = suite.start("serve", *words)
    engine.wait_for(lambda: running(docker_host))
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_it_loads(
    suite: Suite, docker_host: str, calls: list[subprocess.Popen[str]], number: signal.Signals
) -> None:
    call = starting(suite, docker_host)
    calls.append(call)
    call.send_signal(number)
    _, err = call.communicate(timeout=60)
    assert call.returncode == 130, err
    assert "Traceback" not in err
    assert containers(docker_host) == []


def test_while_it_pulls(
    suite: Suite, docker_host: str, stock: str, calls: list[subprocess.Popen[str]]
) -> None:
    engine.docker(docker_host, "rmi", "--force", stock)
    call = suite.start("serve")
    calls.append(call)
    assert call.stderr is not None
    for line in call.stderr:
        if line.startswith("pulling "):
            call.send_signal(signal.SIGINT)
            break
    _, err = call.communicate(timeout=60)
    assert call.returncode == 130, err
    assert containers(docker_host) == []
    suite.run("serve")  # pulls what is missing, and works


def test_while_it_measures(suite: Suite, docker_host: str, calls: list[subprocess.Popen[str]]) -> None:
    suite.run("serve")
    busy = suite.with_environment(INVOKE_BENCHMARK_MAX_SECONDS="600", INVOKE_BENCHMARK_CI_WIDTH="0")
    call = busy.start("benchmark", "--candidate", "stock-no-onednn")
    calls.append(call)
    engine.wait_for(lambda: len(running(docker_host)) == 2)
    call.send_signal(signal.SIGINT)
    _, err = call.communicate(timeout=60)
    assert call.returncode == 130, err
    assert len(containers(docker_host)) == 1, "the one that was up before stays"


def test_what_a_killed_call_leaves_is_found(
    suite: Suite, docker_host: str, calls: list[subprocess.Popen[str]]
) -> None:
    call = starting(suite, docker_host)
    calls.append(call)
    assert len(suite.run("serve.status", "--format", "csv").stdout.splitlines()) == 2, "it is waited for"
    call.kill()
    call.wait()
    assert len(running(docker_host)) == 1
    put_model(suite)
    done = suite.run("serve")
    assert "was left behind by a call that was killed; ending it" in done.stderr
    assert f":{suite.added['INVOKE_SERVE_REST_PORT']}/" in done.stdout, "and so is its port"
    assert len(containers(docker_host)) == 1


def test_what_a_killed_benchmark_has_started_is_found(
    suite: Suite, docker_host: str, calls: list[subprocess.Popen[str]]
) -> None:
    suite.run("serve")
    call = suite.with_environment(INVOKE_BENCHMARK_MAX_SECONDS="600", INVOKE_BENCHMARK_CI_WIDTH="0").start(
        "benchmark", "--candidate", "stock-no-onednn"
    )
    calls.append(call)
    assert call.stderr is not None
    for line in call.stderr:
        if line.startswith("measuring "):
            break
    call.kill()
    call.wait()
    assert len(running(docker_host)) == 2
    done = suite.run("serve.status", "--format", "csv")
    assert "was left behind by a call that was killed; ending it" in done.stderr
    assert len(running(docker_host)) == 1, "a person's own server stays"
    assert "stock-no-onednn" not in done.stdout


def test_stopped_by_another_call_while_it_loads(
    suite: Suite, docker_host: str, calls: list[subprocess.Popen[str]]
) -> None:
    call = starting(suite, docker_host)
    calls.append(call)
    assert "stopped stock net@1" in suite.run("serve.stop").stdout
    _, err = call.communicate(timeout=60)
    assert call.returncode == 1
    assert "while it was loading" in err
    assert containers(docker_host) == []


def test_removed_by_another_user_while_it_loads(
    suite: Suite, docker_host: str, calls: list[subprocess.Popen[str]]
) -> None:
    call = starting(suite, docker_host)
    calls.append(call)
    engine.docker(docker_host, "rm", "--force", *running(docker_host))
    _, err = call.communicate(timeout=60)
    assert call.returncode == 1
    assert "was removed while it was loading, by another call or another program" in err


def test_removed_by_another_user_while_it_runs(suite: Suite, docker_host: str) -> None:
    suite.run("serve")
    engine.docker(docker_host, "rm", "--force", *running(docker_host))
    assert "nothing is running" in suite.run("serve.status").stderr
    assert suite.run("teardown").stdout.strip() == "nothing is running"
    suite.run("serve")


def test_one_that_ended_by_itself_leaves_its_log(suite: Suite, docker_host: str) -> None:
    suite.run("serve")
    engine.docker(docker_host, "kill", *running(docker_host))
    assert "has ended by itself" in suite.run("serve.status").stderr
    assert containers(docker_host) == []
    [log] = (suite.folder / "state" / "servers" / "ended").iterdir()
    assert "Exporting HTTP/REST API" in log.read_text()


def test_one_that_ignores_sigterm_is_killed_after_the_grace(suite: Suite, docker_host: str) -> None:
    put_model(suite, "stubborn")
    suite.run("serve")
    stopped = suite.with_environment(INVOKE_SERVE_STOP_GRACE="1").run("serve.stop")
    assert "stopped stock net@1" in stopped.stdout
    assert containers(docker_host) == []


def test_killed_between_stopping_and_removing(suite: Suite, docker_host: str) -> None:
    """A container that was stopped but not removed is removed by the next call."""
    suite.run("serve")
    [container] = running(docker_host)
    form = f'{{{{index .Config.Labels "{LABEL}.server"}}}}'
    server = engine.docker(docker_host, "inspect", "--format", form, container)
    engine.docker(docker_host, "rename", container, f"serving-suite-{server}-stopping")
    engine.docker(docker_host, "stop", "--time", "1", container)
    assert "nothing is running" in suite.run("serve.status").stderr
    assert containers(docker_host) == []


def test_two_calls_at_once_start_one(suite: Suite, docker_host: str) -> None:
    both = [threading.Thread(target=suite.run, args=("serve",)) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert len(containers(docker_host)) == 1
    assert os.listdir(suite.folder / "state" / "locks")
