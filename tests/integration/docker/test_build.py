"""build.devel, build.optimized and build.embedded as a person types them, on a real Docker Engine.

The Dockerfiles are small stand-ins that end in seconds: what is tested is what the tasks do around the
build. What the real ones make is tested with the upstream stand-in.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.docker import engine

ROOT = Path(__file__).resolve().parents[3]

SERVER = "/usr/local/bin/tensorflow_model_server"
FACTS = "/usr/local/share/tensorflow_model_server"

DEVEL = f"""\
ARG BASE_IMAGE
FROM $BASE_IMAGE AS source
ARG TF_SERVING_SOURCE
ARG TF_SERVING_TAG
RUN echo "fetching $TF_SERVING_SOURCE at $TF_SERVING_TAG"
FROM source
ARG TF_SERVING_TAG
ARG TF_SERVING_BUILD_OPTIONS=--config=nativeopt
ARG BUILD_MEMORY_MB
ARG BUILD_JOBS
RUN echo "[1 / 2] Compiling one.cc; $BUILD_MEMORY_MB MB, $BUILD_JOBS jobs" >&2
RUN mkdir -p {FACTS} /usr/local/bin && echo compiled > {SERVER} && echo "\
{{\\"tag\\": \\"$TF_SERVING_TAG\\", \\"commit\\": \\"0123abc\\", \
\\"build_options\\": \\"$TF_SERVING_BUILD_OPTIONS\\", \\"instruction_sets\\": [\\"avx2\\", \\"fma\\"]}}" \
> {FACTS}/build.json
"""
OPTIMIZED = f"""\
ARG BASE_IMAGE
ARG TF_SERVING_BUILD_IMAGE
FROM $TF_SERVING_BUILD_IMAGE AS built
FROM $BASE_IMAGE
COPY --from=built {SERVER} {SERVER}
ARG SERVING_TAG
ARG BUILD_OPTIONS
ARG INSTRUCTION_SETS
LABEL io.tensorflow-serving-suite.tag=$SERVING_TAG \\
      io.tensorflow-serving-suite.build-options=$BUILD_OPTIONS \\
      io.tensorflow-serving-suite.instruction-sets=$INSTRUCTION_SETS
"""
EMBEDDED = """\
ARG BASE_IMAGE
FROM $BASE_IMAGE
COPY requirements.lock /srv/
"""


def images_of(host: str) -> list[str]:
    told = docker(host, "images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")
    return sorted(told.split("\n")) if told else []


def docker(host: str, *words: str) -> str:
    return subprocess.run(
        ["docker", "--host", host, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


class Project:
    """A copy of the suite with Dockerfiles of its own, and images under a name of its own."""

    def __init__(self, folder: Path, host: str, base: str) -> None:
        self.folder, self.host, self.base = folder, host, base
        self.started: list[subprocess.Popen[str]] = []
        shutil.copytree(ROOT / "tasks", folder / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("tasks.py", "invoke.yaml"):
            shutil.copy(ROOT / name, folder)
        (folder / "docker" / "embedded").mkdir(parents=True)
        (folder / "docker" / ".dockerignore").write_text("embedded\n")
        (folder / "docker" / "embedded" / "requirements.lock").write_text("one==1\n")
        self.write("Dockerfile.devel", DEVEL)
        self.write("Dockerfile", OPTIMIZED)
        self.write("Dockerfile.embedded", EMBEDDED)
        self.user = f"test-{os.getpid()}-{folder.parent.name.replace('_', '-').strip('-').lower()}"

    def write(self, name: str, text: str) -> None:
        (self.folder / "docker" / name).write_text(text)

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "invoke", *words],
            cwd=self.folder,
            env={
                **os.environ,
                "DOCKER_HOST": self.host,
                "DOCKER_BUILDKIT": "0",
                "INVOKE_BUILD_USER": self.user,
                "INVOKE_BUILD_DISK_GB": "0.1",
                "INVOKE_BUILD_BASE_IMAGE": self.base,
                "INVOKE_BUILD_SERVING_BASE_IMAGE": self.base,
                "INVOKE_BUILD_EMBEDDED_BASE_IMAGE": self.base,
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *words: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, f"{out}\n{err}"
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def labels(self, repository: str) -> dict[str, str]:
        told = docker(self.host, "image", "inspect", f"{self.user}/{repository}:2.20.0")
        labels: dict[str, str] = json.loads(told)[0]["Config"]["Labels"]
        return labels

    def image(self, repository: str) -> str:
        return docker(self.host, "images", "--quiet", "--no-trunc", f"{self.user}/{repository}")

    def containers(self) -> list[str]:
        return docker(self.host, "ps", "--all", "--quiet").split()

    def log(self, kind: str) -> str:
        path = self.folder / ".state" / "logs" / f"build.{kind}.log"
        return path.read_text() if path.exists() else ""


PROGRAMS = ("sh", "cat", "echo", "env", "mkdir", "sleep")


@pytest.fixture(scope="module")
def small_image(docker_host: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A base image with a shell and little more, made from this machine's own programs in a second."""
    root = tmp_path_factory.mktemp("root")
    for program in PROGRAMS:
        found = Path(str(shutil.which(program, path="/bin:/usr/bin"))).resolve()
        libraries = subprocess.run(["ldd", found], capture_output=True, text=True, check=True).stdout
        targets = {found: root / "bin" / program}
        targets |= {Path(one): root / one[1:] for one in re.findall(r"/\S+", libraries)}
        for source, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    name = f"suite-test-base-{os.getpid()}:1"
    archive = ["tar", "--directory", str(root), "--create", "."]
    with subprocess.Popen(archive, stdout=subprocess.PIPE) as packing:
        subprocess.run(
            ["docker", "--host", docker_host, "import", "-", name],
            stdin=packing.stdout,
            check=True,
            capture_output=True,
        )
    yield name
    docker(docker_host, "image", "rm", "--force", name)


@pytest.fixture
def project(docker_host: str, small_image: str, tmp_path: Path) -> Iterator[Project]:
    folder = tmp_path / "suite"
    folder.mkdir()
    one = Project(folder, docker_host, small_image)
    before = set(one.containers())
    yield one
    for process in one.started:
        if process.poll() is None:
            process.kill()
        process.communicate()
    assert set(one.containers()) <= before
    for repository in ("tensorflow-serving", "tensorflow-serving-devel", "tensorflow-serving-embedded"):
        for image in one.image(repository).split():
            docker(docker_host, "image", "rm", "--force", image)


def shown_command(err: str) -> str:
    [line] = [line for line in err.splitlines() if line.startswith("$ docker build")]
    return line


def test_devel_then_optimized(project: Project) -> None:
    done = project.run("build.devel", "build.optimized")
    devel, optimized = done.stdout.splitlines()
    assert devel.startswith(f"devel image: {project.user}/tensorflow-serving-devel:2.20.0 (")
    assert optimized.startswith(f"optimized image: {project.user}/tensorflow-serving:2.20.0 (")
    assert "--config=nativeopt, avx2 fma" in optimized
    assert "memory: " in done.stderr
    assert "disk: " in done.stderr
    labels = project.labels("tensorflow-serving")
    ours = "io.tensorflow-serving-suite."
    assert labels[f"{ours}kind"] == "optimized"
    assert labels[f"{ours}tag"] == "2.20.0"
    assert labels[f"{ours}build-options"] == "--config=nativeopt"
    assert labels[f"{ours}instruction-sets"] == "avx2 fma"
    assert project.labels("tensorflow-serving-devel")[f"{ours}kind"] == "devel"
    assert "fetching https://github.com/tensorflow/serving.git at 2.20.0" in project.log("devel")
    assert "[1 / 2] Compiling one.cc" in project.log("devel")


def test_what_is_there_for_the_same_inputs_is_not_built_again(project: Project) -> None:
    project.run("build.devel", "build.optimized")
    first = project.image("tensorflow-serving-devel"), project.image("tensorflow-serving")
    again = project.run("build.devel", "build.optimized", INVOKE_BUILD_MEMORY_MB="5000")
    assert again.stdout.count("already built from the same inputs") == 2
    assert "$ docker" not in again.stderr
    # The devel image is tens of gigabytes: who removed it still has what was made from it.
    docker(project.host, "image", "rm", "--no-prune", f"{project.user}/tensorflow-serving-devel:2.20.0")
    alone = project.run("build.optimized")
    assert "already built" in alone.stdout
    assert project.image("tensorflow-serving") == first[1]


def test_other_inputs_are_built_and_the_old_image_is_removed(project: Project) -> None:
    project.run("build.embedded", "--engine", "docker")
    first = project.image("tensorflow-serving-embedded")
    (project.folder / "docker" / "embedded" / "requirements.lock").write_text("one==2\n")
    done = project.run("build.embedded", "--engine", "docker")
    assert "was made from other inputs" in done.stderr
    assert project.image("tensorflow-serving-embedded") != first
    assert first not in docker(project.host, "images", "--all", "--quiet", "--no-trunc").split()


def test_an_old_image_that_is_in_use_is_known_by_its_name(project: Project) -> None:
    name = f"{project.user}/tensorflow-serving-embedded"
    project.run("build.embedded", "--engine", "docker")
    first = project.image("tensorflow-serving-embedded")
    user = docker(project.host, "create", first, "echo")
    # A user's own, without a name: it has inherited every label.
    (project.folder / "Dockerfile").write_text(f"FROM {name}:2.20.0\nENV MADE=here\n")
    inherited = docker(project.host, "build", "--quiet", str(project.folder))
    try:
        (project.folder / "docker" / "embedded" / "requirements.lock").write_text("one==2\n")
        project.run("build.embedded", "--engine", "docker")
        replaced = f"{name}:replaced-{first.removeprefix('sha256:')[:12]}"
        told = project.run("--dry", "teardown", "--images").stderr
        assert f"would remove images: {name}:2.20.0 (" in told
        assert replaced in told
        assert inherited.removeprefix("sha256:")[:12] not in told
    finally:
        docker(project.host, "rm", user)
    assert project.run("teardown", "--images").stdout.endswith(f"removed images: {name}:2.20.0, {replaced}\n")
    assert inherited in docker(project.host, "images", "--quiet", "--no-trunc").split()
    docker(project.host, "image", "rm", inherited)


def test_a_change_of_the_embedded_server_does_not_compile_serving_again(project: Project) -> None:
    project.run("build.devel")
    (project.folder / "docker" / "embedded" / "requirements.lock").write_text("one==2\n")
    assert "already built" in project.run("build.devel").stdout


def test_the_printed_line_does_the_same_when_pasted(project: Project) -> None:
    done = project.run("build.embedded", "--engine", "docker")
    line = shown_command(done.stderr).removeprefix("$ ")
    first = project.image("tensorflow-serving-embedded")
    environment = {**os.environ, "DOCKER_HOST": project.host, "DOCKER_BUILDKIT": "0"}
    subprocess.run(["sh", "-c", line], cwd=project.folder, env=environment, check=True, capture_output=True)
    assert project.image("tensorflow-serving-embedded") == first
    assert "already built" in project.run("build.embedded", "--engine", "docker").stdout


def test_dry_prints_and_does_nothing(project: Project) -> None:
    before = images_of(project.host)
    done = project.run("--dry", "build.devel", "build.embedded", "--engine", "docker")
    assert done.stdout == ""
    assert done.stderr.count("$ docker build --file docker/Dockerfile") == 2
    assert images_of(project.host) == before
    assert not (project.folder / ".state").exists()


def test_embedded_says_which_it_makes(project: Project) -> None:
    assert (
        "build.embedded makes the embedded server's image"
        in project.run("--dry", "build.embedded", "--engine", "docker").stderr
    )
    (project.folder / "docker" / "embedded" / "requirements.lock").write_text("")
    told = project.run("--dry", "build.embedded").stderr
    assert "build.embedded makes the local engine's virtual environment" in told
    assert "--engine docker makes the image" in told


def test_auto_takes_docker_for_optimized_only_where_devel_was_built(project: Project) -> None:
    told = project.run("--dry", "build.optimized", "--model", "x", code=1).stderr
    assert "engine: local (the Docker Engine has no" in told
    assert "invoke build.devel" in told
    project.run("build.devel")
    assert "engine: docker (it has" in project.run("--dry", "build.optimized").stderr


def test_optimized_without_devel_names_the_command_that_makes_it(project: Project) -> None:
    told = project.run("build.optimized", "--engine", "docker", code=1).stderr
    assert f"There is no image {project.user}/tensorflow-serving-devel:2.20.0" in told
    assert "Build it with `invoke build.devel`, which takes hours" in told


def test_without_a_daemon_devel_has_nothing_to_do(project: Project) -> None:
    gone = {"DOCKER_HOST": f"unix://{project.folder}/nothing.sock"}
    told = project.run("build.devel", **gone).stderr
    assert "engine: local (No Docker Engine answers at" in told
    assert "nothing to do on the local engine" in told
    told = project.run("build.devel", "--engine", "docker", code=1, **gone).stderr
    assert "error: No Docker Engine answers at" in told


def test_a_remote_daemon_is_refused(project: Project) -> None:
    told = project.run("build.devel", "--engine", "docker", code=1, DOCKER_HOST="tcp://192.0.2.1:2375").stderr
    assert "error: The Docker Engine at tcp://192.0.2.1:2375 may be on another machine" in told


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
