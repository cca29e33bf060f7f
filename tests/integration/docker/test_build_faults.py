"""Image builds that fail, are interrupted or killed, or cannot begin, on a real Docker Engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from tests.helpers.docker_builds import DEVEL, EMBEDDED, Project, docker, shown_command
from tests.integration.docker import engine


@pytest.mark.parametrize("buildkit", ["0", "1"])
def test_a_failed_build_ends_with_the_step_and_the_lines_that_matter(project: Project, buildkit: str) -> None:
    require_buildkit(project, buildkit)
    project.write(
        "Dockerfile.devel",
        DEVEL + 'RUN i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo "[$i / 50] Compiling"; done; '
        "echo 'ERROR: one.cc:1:1: Compiling one.cc failed'; echo 'one.cc:3: error: no such thing'; exit 3\n",
    )
    told = project.run("build.devel", code=1, **engine.builder(buildkit)).stderr
    assert "build.devel failed at step" in told
    end = told[told.rindex("build.devel failed at step") - 400 :]
    assert "  ERROR: one.cc:1:1: Compiling one.cc failed\n  one.cc:3: error: no such thing\n" in end
    assert "exit code: 3" in end
    assert ".state/logs/build.devel.log" in end
    assert "[49 / 50]" not in end
    assert "[49 / 50]" in project.log("devel")
    assert project.image("tensorflow-serving-devel") == ""


@pytest.mark.parametrize("buildkit", ["0", "1"])
def test_an_out_of_memory_kill_is_answered_with_what_to_set(project: Project, buildkit: str) -> None:
    require_buildkit(project, buildkit)
    project.write("Dockerfile.devel", DEVEL + "RUN sh -c 'kill -9 $$'\n")
    told = project.run(
        "build.devel",
        code=1,
        INVOKE_BUILD_MEMORY_MB="6000",
        INVOKE_BUILD_JOBS="4",
        **engine.builder(buildkit),
    ).stderr
    assert "error: build.devel ran out of memory.\n" in told
    assert "It had INVOKE_BUILD_MEMORY_MB=6000 and INVOKE_BUILD_JOBS=4: set them to 4000 and 2" in told


@pytest.mark.parametrize("buildkit", ["0", "1"])
def test_both_builders_make_the_same_image(project: Project, buildkit: str) -> None:
    require_buildkit(project, buildkit)
    done = project.run("build.devel", "build.optimized", **engine.builder(buildkit))
    assert "--config=nativeopt, avx2 fma" in done.stdout
    assert "Compiling one.cc" in project.log("devel")


@pytest.mark.parametrize(("number", "buildkit"), [(signal.SIGINT, "0"), (signal.SIGTERM, "1")])
def test_an_interrupted_build_leaves_nothing_running(
    project: Project, number: signal.Signals, buildkit: str
) -> None:
    require_buildkit(project, buildkit)
    process = slow_build(project, buildkit)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert not commands_of(project)
    wait_until(lambda: not sleepers(), "the step that was running has ended")
    assert project.image("tensorflow-serving-devel") == ""
    project.write("Dockerfile.devel", DEVEL)
    project.run("build.devel")


@pytest.mark.parametrize("buildkit", ["0", "1"])
def test_after_a_kill_the_next_call_works(project: Project, buildkit: str) -> None:
    require_buildkit(project, buildkit)
    process = slow_build(project, buildkit)
    process.kill()
    process.communicate()
    assert commands_of(project)  # what the next call has to find
    project.write("Dockerfile.devel", DEVEL)
    project.run("build.devel")
    assert not commands_of(project)
    wait_until(lambda: not sleepers(), "the killed call's step has ended")


def test_the_container_that_a_killed_call_left_is_removed_by_the_next(project: Project) -> None:
    left = docker(project.host, "run", "--detach", project.base, "sleep", SLEEP)
    log = project.folder / ".state" / "logs" / "build.embedded.log"
    log.parent.mkdir(parents=True)
    log.write_text(f"Step 1/1 : RUN sleep {SLEEP}\n ---> Running in {left[:12]}\n")
    project.run("build.embedded", "--engine", "docker")
    assert left[:12] not in project.containers()
    assert not sleepers()


def test_two_calls_at_once_build_once(project: Project) -> None:
    project.write("Dockerfile.embedded", EMBEDDED + "RUN sleep 2\n")
    calls = [project.start("build.embedded", "--engine", "docker") for _ in range(2)]
    told = [call.communicate(timeout=60) for call in calls]
    assert [call.returncode for call in calls] == [0, 0], told
    assert sum("already built" in out for out, _ in told) == 1
    assert sum("waiting for another call" in err for _, err in told) == 1


def test_proxies_reach_the_build_and_stay_out_of_the_line(project: Project) -> None:
    project.write("Dockerfile.embedded", EMBEDDED + 'RUN echo "asked: $HTTPS_PROXY $https_proxy"\n')
    done = project.run(
        "build.embedded",
        "--engine",
        "docker",
        HTTPS_PROXY="http://me:secret@proxy.invalid:3128",
        https_proxy="http://lower.invalid:3128",
    )
    assert "--build-arg HTTPS_PROXY --build-arg https_proxy" in shown_command(done.stderr)
    assert "secret" not in done.stderr
    log = project.log("embedded")
    assert "asked: http://me:secret@proxy.invalid:3128 http://lower.invalid:3128" in log
    assert "secret" not in json.dumps(project.labels("tensorflow-serving-embedded"))


def test_too_small_a_disk_is_told_before_anything_is_done(project: Project) -> None:
    told = project.run("build.devel", code=1, INVOKE_BUILD_DISK_GB="1000000").stderr
    assert "error: build.devel needs 1e+06 GB" in told or "error: build.devel needs 1000000 GB" in told
    assert "are free" in told
    assert "INVOKE_BUILD_DISK_GB" in told
    assert "$ docker build" not in told


def test_a_user_without_permission_is_told(project: Project) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    # Imported first: another user may not even read the interpreter's own files.
    code = (
        "import os, docker.client, docker.context, requests, tasks.lib.images.daemon as daemon\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "daemon.connect()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.folder,
        env={**os.environ, "DOCKER_HOST": project.host},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "You may not use the Docker Engine: permission denied at" in done.stderr


SLEEP = "7219"
"""Seconds for which no other process sleeps: it finds the build's own process on this machine."""


def slow_build(project: Project, buildkit: str) -> subprocess.Popen[str]:
    """A build that has come to a step which does not end."""
    project.write("Dockerfile.devel", DEVEL + f"RUN sleep {SLEEP}\n")
    process = project.start("build.devel", **engine.builder(buildkit))
    wait_until(lambda: bool(sleepers()) or process.poll() is not None, "the slow step runs")
    assert process.poll() is None, process.communicate()
    return process


def sleepers() -> list[Any]:
    import psutil

    return [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", SLEEP]]


def commands_of(project: Project) -> list[Any]:
    """The docker commands that build this project's images."""
    import psutil

    tag = f"{project.user}/tensorflow-serving-devel:2.20.0"
    return [p for p in psutil.process_iter(["cmdline"]) if tag in (p.info["cmdline"] or [])]


def wait_until(condition: Any, what: str, timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        pause.wait(0.05)


def require_buildkit(project: Project, wanted: str) -> None:
    if wanted == "1" and "buildx" not in docker(project.host, "info"):
        version = subprocess.run(
            [engine.old_docker(), "--version"], capture_output=True, text=True, check=True
        ).stdout
        if "version 20." not in version:
            pytest.skip("this docker command has no BuildKit")
