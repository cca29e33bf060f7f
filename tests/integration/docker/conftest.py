"""Fixtures of the Docker tests: a Docker Engine, a registry, a stand-in for the published image.

Nothing here is a mock but the server inside the image. No image is called as a real one is, so that
a person's own images stay what they are where their own daemon is used.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.docker_builds import PROGRAMS, Project, docker
from tests.integration.conftest import Suite
from tests.integration.docker import engine

IMAGE = Path(__file__).parent / "image"
LABEL = "io.tensorflow-serving-suite"


@pytest.fixture(scope="session", autouse=True)
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for `docker login` that is not the person's own; no credentials are in it."""
    folder = tmp_path_factory.mktemp("docker-config")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_CONFIG", str(folder))
        yield folder


@pytest.fixture(scope="session")
def docker_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Docker Engine: the one that answers, else one of the tests' own."""
    there = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if there.startswith("unix://") and engine.answers(there):
        yield there
        return
    reason = engine.missing()
    if reason is not None:
        pytest.skip(reason)
    with engine.daemon(tmp_path_factory.mktemp("dockerd")) as address:
        yield address


@pytest.fixture(scope="session")
def registry(docker_host: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a registry without a login."""
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed (Debian: docker-registry)")
    with engine.registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="session")
def base(docker_host: str) -> Iterator[str]:
    """A small Debian with Python, as an image."""
    if shutil.which("debootstrap") is None:
        pytest.skip("debootstrap is not installed (Debian: debootstrap)")
    name = f"serving-suite-tests/base:{os.getpid()}"
    engine.docker(docker_host, "import", str(engine.base_tarball()), name)
    yield name
    engine.docker(docker_host, "rmi", "--force", name)


@pytest.fixture(scope="session")
def stock(docker_host: str, registry: str, base: str) -> Iterator[str]:
    """The stand-in for TensorFlow Serving's published image: in the registry, and with the daemon."""
    name = f"{registry}/tensorflow/serving:2.20.0"
    engine.docker(docker_host, "build", "--build-arg", f"BASE={base}", "--tag", name, str(IMAGE))
    engine.docker(docker_host, "push", name)
    yield name
    engine.docker(docker_host, "rmi", "--force", name)


@pytest.fixture(scope="session")
def bystander(docker_host: str, stock: str) -> Iterator[str]:
    """Another user's container, from an image of the suite: it is there at the end as well."""
    words = ("--label", f"{LABEL}.kind=optimized", "--entrypoint", "sleep", stock, "infinity")
    container = engine.docker(docker_host, "run", "--detach", *words)
    yield container
    assert engine.docker(docker_host, "inspect", "--format", "{{.State.Running}}", container) == "true"
    engine.docker(docker_host, "rm", "--force", "--volumes", container)


def put_model(suite: Suite, wish: str = "serve", version: int = 1, name: str = "net") -> Path:
    """A model with which the stand-in does what its file says."""
    folder = suite.folder / "models" / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    for made in (folder, folder.parent):
        made.chmod(0o755)
    (folder / "saved_model.pb").write_text(wish)
    return folder


def containers(docker_host: str, *filters: str) -> list[str]:
    """The ids of all servers' containers, running or not."""
    words = [word for each in (f"label={LABEL}=server", *filters) for word in ("--filter", each)]
    return engine.docker(docker_host, "ps", "--all", "--quiet", "--no-trunc", *words).split()


@pytest.fixture
def suite(docker_host: str, stock: str, bystander: str, tmp_path: Path) -> Iterator[Suite]:
    """A suite on the Docker engine with the model net@1; nothing of it is left."""
    folder = tmp_path / "suite"
    folder.mkdir()
    added = {
        "DOCKER_HOST": docker_host,
        "INVOKE_ENGINE": "docker",
        "INVOKE_MODEL": "net",
        "INVOKE_DOCKER_IMAGE": stock,
        "INVOKE_DOCKER_MEMORY": "256m",
        "INVOKE_SERVE_REST_PORT": str(engine.free_port()),
        "INVOKE_SERVE_GRPC_PORT": str(engine.free_port()),
        "INVOKE_SERVE_STOP_GRACE": "3",
        "INVOKE_BUILD_USER": "no-one-builds-this",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
    one = Suite(folder, added)
    put_model(one)
    yield one
    one.run("teardown")
    assert containers(docker_host) == []


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
    """A project that builds small images, and removes them and what it has started."""
    folder = tmp_path / "suite"
    folder.mkdir()
    project = Project(folder, docker_host, small_image)
    before = set(project.containers())
    yield project
    for process in project.started:
        if process.poll() is None:
            process.kill()
        process.communicate()
    assert set(project.containers()) <= before
    for repository in ("tensorflow-serving", "tensorflow-serving-devel", "tensorflow-serving-embedded"):
        for image in project.image(repository).split():
            docker(docker_host, "image", "rm", "--force", image)
