"""What goes wrong on Docker is said in a sentence, and leaves nothing behind."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, Suite
from tests.integration.docker import engine
from tests.integration.docker.conftest import LABEL, containers, put_model

FOREVER = "500"
"""Seconds to wait for a server that will never answer: nearly as long as a command has in these tests."""


def refused(suite: Suite, *words: str, **added: str) -> tuple[str, str]:
    """What is said, and what to do, of a call that fails."""
    done = suite.with_environment(**added).run(*words, code=1)
    assert done.stdout == ""
    problem, remedy = done.stderr.strip().splitlines()[-2:]
    assert problem.startswith("error: "), done.stderr
    return problem.removeprefix("error: "), remedy


@pytest.mark.parametrize(
    ("wish", "problem", "remedy"),
    [
        ("load-error", "the model cannot be loaded (NOT_FOUND: Op type not registered", "Check the model"),
        ("illegal", "illegal instruction", "invoke build.devel build.optimized"),
        ("memory", "ran out of memory while loading; it may take 64.0 MiB", "docker.memory"),
    ],
)
def test_a_server_that_dies(suite: Suite, docker_host: str, wish: str, problem: str, remedy: str) -> None:
    put_model(suite, wish)
    said = refused(suite, "serve", INVOKE_DOCKER_MEMORY="64m", INVOKE_SERVE_READY_TIMEOUT=FOREVER)
    assert problem in said[0]
    assert remedy in said[1]
    assert containers(docker_host) == []


def test_a_server_that_never_answers(suite: Suite, docker_host: str) -> None:
    put_model(suite, "hang")
    problem, remedy = refused(suite, "serve", INVOKE_SERVE_READY_TIMEOUT="2")
    assert "has not answered a predict within 2 s" in problem
    assert "INVOKE_SERVE_READY_TIMEOUT" in remedy
    assert containers(docker_host) == []


def test_a_mount_that_never_loads_is_not_waited_for(suite: Suite, docker_host: str) -> None:
    wrong = suite.folder / "wrong.yaml"
    variant = {"docker": {"image": "stock", "environment": {"MODEL_BASE_PATH": "/nowhere"}}}
    wrong.write_text(json.dumps({"variants": {"wrong": variant}}))
    never = {"INVOKE_SERVE_READY_TIMEOUT": FOREVER}
    problem, remedy = refused(suite, "-f", str(wrong), "serve", "--variant", "wrong", **never)
    assert "will never answer: it finds no version of the model" in problem
    assert "Check that the model's folder is a number" in remedy
    assert containers(docker_host) == []


def test_a_model_that_others_may_not_read(suite: Suite) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root runs servers as another user")
    put_model(suite).chmod(0o700)
    problem, remedy = refused(suite, "serve")
    assert "may not read the model" in problem
    assert "chmod" in remedy


def test_a_missing_tag(suite: Suite, registry: str) -> None:
    problem, remedy = refused(suite, "serve", INVOKE_DOCKER_IMAGE=f"{registry}/tensorflow/serving:0.0.0")
    assert problem == f"The registry has no image {registry}/tensorflow/serving:0.0.0."
    assert "docker.image" in remedy


def test_a_registry_that_no_one_runs(suite: Suite) -> None:
    problem, _ = refused(suite, "serve", INVOKE_DOCKER_IMAGE="127.0.0.1:9/tensorflow/serving:1")
    assert problem.startswith("The registry of 127.0.0.1:9/tensorflow/serving:1 cannot be reached")


def test_an_image_name_that_is_none(suite: Suite) -> None:
    problem, remedy = refused(suite, "serve", INVOKE_DOCKER_IMAGE="Not A Name")
    assert "Not A Name" in problem
    assert "docker.image" in remedy


def test_a_registry_with_credentials(suite: Suite, docker_host: str, stock: str, tmp_path: Path) -> None:
    folder = tmp_path / "secured"
    folder.mkdir()
    with engine.registry(folder, secured=True) as secured:
        image = f"{secured}/tensorflow/serving:2.20.0"
        login = {"DOCKER_CONFIG": str(tmp_path / "login")}
        engine.docker(docker_host, "login", "-u", engine.USER, "-p", engine.PASSWORD, secured, **login)
        engine.docker(docker_host, "tag", stock, image)
        engine.docker(docker_host, "push", image, **login)
        engine.docker(docker_host, "rmi", image)

        problem, remedy = refused(suite, "serve", INVOKE_DOCKER_IMAGE=image)
        assert problem == f"The registry refuses to hand out {image}: the credentials are missing or wrong."
        assert remedy == f"Log in: docker login {secured}."

        wrong = tmp_path / "wrong"
        wrong.mkdir()
        text = (tmp_path / "login" / "config.json").read_text()
        (wrong / "config.json").write_text(re.sub(r'"auth": "[^"]+"', '"auth": "c3VpdGU6d3Jvbmc="', text))
        problem, _ = refused(suite, "serve", INVOKE_DOCKER_IMAGE=image, DOCKER_CONFIG=str(wrong))
        assert "credentials are missing or wrong" in problem

        suite.with_environment(INVOKE_DOCKER_IMAGE=image, **login).run("serve")
        suite.run("teardown")
        engine.docker(docker_host, "rmi", image)


def test_no_daemon(suite: Suite) -> None:
    problem, remedy = refused(suite, "serve", DOCKER_HOST="unix:///nowhere.sock")
    assert problem == "No Docker Engine answers at /nowhere.sock."
    assert "--engine local" in remedy


def test_a_daemon_elsewhere(suite: Suite) -> None:
    for elsewhere in ("tcp://192.0.2.1:2375", "ssh://someone@192.0.2.1"):
        problem, remedy = refused(suite, "serve", DOCKER_HOST=elsewhere)
        assert "may be on another machine" in problem
        assert "--engine local" in remedy


def test_a_socket_that_one_may_not_use(docker_host: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    code = (
        "import os, docker, docker.context, requests; from tasks.lib.images import daemon;"
        "from tasks.lib.common.errors import DockerError\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: daemon.connect()\nexcept DockerError as error: print(error)"
    )
    # The socket's folder is open to all: what must stop them is the socket itself.
    Path(docker_host.removeprefix("unix://")).parent.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "DOCKER_HOST": docker_host},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("You may not use the Docker Engine: permission denied"), done.stdout
    assert "usermod -aG docker" in done.stdout


def test_an_image_compiled_for_another_cpu(suite: Suite, docker_host: str, stock: str) -> None:
    name = f"serving-suite-tests/native:{os.getpid()}"
    dockerfile = f"FROM {stock}\nLABEL {LABEL}.instruction-sets='fpu avx9000'\n"
    subprocess.run(
        ["docker", "build", "--tag", name, "-"], input=dockerfile.encode(), check=True, capture_output=True,
        env={**os.environ, "DOCKER_HOST": docker_host},
    )  # fmt: skip
    try:
        problem, remedy = refused(suite, "serve", INVOKE_DOCKER_IMAGE=name)
        assert problem == f"The image {name} was compiled for another CPU: this one has no avx9000."
        assert "invoke build.devel build.optimized" in remedy
    finally:
        engine.docker(docker_host, "rmi", "--force", name)


def test_an_image_for_another_processor(suite: Suite, docker_host: str) -> None:
    name = f"serving-suite-tests/foreign:{os.getpid()}"
    subprocess.run(
        ["docker", "load"], input=foreign_image(name), check=True, capture_output=True,
        env={**os.environ, "DOCKER_HOST": docker_host},
    )  # fmt: skip
    try:
        problem, remedy = refused(suite, "serve", INVOKE_DOCKER_IMAGE=name)
        assert problem == f"The image {name} does not exist for this machine's processor."
        assert "x86-64 only" in remedy
    finally:
        engine.docker(docker_host, "rmi", "--force", name)


def foreign_image(name: str) -> bytes:
    """An image for s390x with one empty layer, as `docker save` writes it."""
    from hashlib import sha256

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w"):
        pass
    digest = sha256(layer.getvalue()).hexdigest()
    config = json.dumps(
        {
            "architecture": "s390x", "os": "linux", "config": {"Cmd": ["/server"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]}, "history": [{"created_by": "x"}],
        }
    ).encode()  # fmt: skip
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {
        "config.json": config, "layer.tar": layer.getvalue(), "manifest.json": json.dumps(manifest).encode(),
    }  # fmt: skip
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def test_an_image_that_is_no_server(suite: Suite, docker_host: str, base: str) -> None:
    problem, remedy = refused(suite, "serve", INVOKE_DOCKER_IMAGE=base)
    assert f"The image {base} is not a server image" in problem
    assert "invoke.yaml" in remedy
    assert containers(docker_host) == []


def test_the_optimized_image_is_not_there(suite: Suite) -> None:
    problem, remedy = refused(suite, "serve", "--optimized")
    assert "no-one-builds-this/tensorflow-serving:" in problem
    assert "is not built yet" in problem
    assert "invoke build.devel build.optimized" in remedy
    assert "hours" in remedy


def test_a_variant_of_the_other_engine(suite: Suite) -> None:
    problem, remedy = refused(suite, "serve", "--variant", "stock-bf16", "--engine", "local")
    assert problem == "The variant 'stock-bf16' is not for the local engine."
    assert "--engine docker" in remedy


def test_no_space(suite: Suite, stock: str, tmp_path: Path) -> None:
    """A daemon of its own whose whole disk is smaller than the image."""
    reason = engine.missing()
    if reason is not None:
        pytest.skip(reason)
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", disk], check=True)
    try:
        with engine.daemon(disk) as address:
            problem, remedy = refused(suite, "serve", DOCKER_HOST=address)
            assert problem == f"There is no space left for the image {stock}."
            assert "Free disk space" in remedy
    finally:
        subprocess.run(["umount", disk], check=True)
