"""What is made from tests/upstream: base images, a git server with the source, a stock image."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.conftest import ROOT, Suite
from tests.integration.docker import engine

UPSTREAM = ROOT / "tests" / "upstream"


@dataclass(frozen=True)
class Upstream:
    """The places that the suite's settings name when it builds the stand-in."""

    docker_host: str
    source: str
    """Address of the git repository."""
    stock: str
    """The image that takes the published one's place, in a registry and not with the daemon."""

    def settings(self, user: str) -> dict[str, str]:
        """What the environment of a command adds to build and serve from these places."""
        own = {"INVOKE_DOCKER_IMAGE": self.stock, "INVOKE_BUILD_SOURCE": self.source}
        return settings(self.docker_host, user) | own


@contextmanager
def places(docker_host: str, registry: str, folder: Path) -> Iterator[Upstream]:
    """The base images, the source in `folder`, and a stock image that is compiled from it."""
    make_base(docker_host, "slim", "builder")
    with source(folder) as address:
        there = Upstream(docker_host, address, f"{registry}/upstream/serving:2.20.0")
        user = f"test-stock-{os.getpid()}"
        build_stock(Suite(folder / "stock", there.settings(user)), user, there.stock)
        yield there


@contextmanager
def chain(there: Upstream, folder: Path, user: str, **added: str) -> Iterator[Suite]:
    """A suite in `folder` with nothing but a catalogue, whose one model is offered on loopback.

    In the end its servers and the images of `user` are removed.
    """
    published = folder / "published"
    published.mkdir()
    make_model_archive(published, "standin")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(published))
    suite = Suite(folder / "suite", there.settings(user) | {"INVOKE_MODEL": "standin"} | added)
    (suite.folder / "models").mkdir(parents=True)
    try:
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever).start()
            address = f"http://127.0.0.1:{server.server_port}/standin.tar.gz"
            (suite.folder / "models" / "catalog.toml").write_text(f'[standin]\nurl = "{address}"\n')
            try:
                yield suite
            finally:
                server.shutdown()
    finally:
        suite.run("teardown")
        remove_images(there.docker_host, user, there.stock)


def settings(docker_host: str, user: str) -> dict[str, str]:
    """What the environment of a command adds to build from the stand-in base images, for `user`."""
    return {
        **engine.builder("1"),
        "DOCKER_HOST": docker_host,
        "INVOKE_ENGINE": "auto",
        "INVOKE_BUILD_USER": user,
        "INVOKE_BUILD_NETWORK": "host",
        "INVOKE_BUILD_BASE_IMAGE": "standin/builder",
        "INVOKE_BUILD_SERVING_BASE_IMAGE": "standin/slim",
        "INVOKE_BUILD_EMBEDDED_BASE_IMAGE": "standin/python",
        "INVOKE_BUILD_DISK_GB": "4",
        "INVOKE_SERVE_REST_PORT": str(engine.free_port()),
        "INVOKE_SERVE_GRPC_PORT": str(engine.free_port()),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def make_base(docker_host: str, *names: str) -> None:
    """Give the daemon the base images of these names; from a cache, but for the first time on a machine."""
    _python(UPSTREAM / "make_base.py", *names, docker_host=docker_host)


@contextmanager
def source(folder: Path) -> Iterator[str]:
    """A git server on loopback that has the stand-in source; yields the repository's address."""
    _python(UPSTREAM / "make_source.py", str(folder))
    port = engine.free_port()
    log = folder / "git-daemon.log"
    with log.open("wb") as output:
        # Not `git daemon`: that starts the server as a child, which outlives it.
        server = Path(_output("git", "--exec-path")) / "git-daemon"
        process = subprocess.Popen(
            [server, f"--base-path={folder}", "--export-all", "--listen=127.0.0.1", f"--port={port}"],
            stdout=output,
            stderr=output,
        )
    try:
        engine.wait_for(lambda: engine.accepts(port) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield f"git://127.0.0.1:{port}/serving.git"
    finally:
        engine.end(process)


def make_model_archive(folder: Path, name: str) -> Path:
    """A model for the stand-in as an archive, nested ./NAME/VERSION/ as the official one is."""
    version = folder / name / "1"
    _python(UPSTREAM / "make_model.py", str(version))
    archive = folder / f"{name}.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(folder / name, arcname=f"./{name}")
    return archive


def build_stock(suite: Suite, user: str, image: str) -> None:
    """Compile the stand-in as upstream's published image is, and put it into a registry as `image`."""
    suite.with_environment(INVOKE_BUILD_OPTIONS="--config=release").run("build.devel", "build.optimized")
    docker_host = suite.added["DOCKER_HOST"]
    engine.docker(docker_host, "tag", f"{user}/tensorflow-serving:2.20.0", image)
    engine.docker(docker_host, "push", image)
    remove_images(docker_host, user, image)


def remove_images(docker_host: str, user: str, *more: str) -> None:
    """Remove the images that were built for `user`, and more."""
    named = engine.docker(docker_host, "images", "--quiet", "--filter", f"reference={user}/*").split()
    for image in (*more, *dict.fromkeys(named)):
        engine.docker(docker_host, "rmi", "--force", image)


def _python(*words: str | Path, docker_host: str = "") -> None:
    environment = engine.environment(docker_host)
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def _output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
