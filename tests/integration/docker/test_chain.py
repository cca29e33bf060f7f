"""The whole chain on a real Docker Engine, a real registry and a real Bazel, from the stand-in source."""

from __future__ import annotations

import functools
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Suite
from tests.integration.docker import engine, upstream
from tests.integration.docker.conftest import LABEL, containers
from tests.integration.docker.upstream import Upstream

CHAIN = "download build.devel build.optimized serve --optimized benchmark teardown"
"""As the README has it."""


@pytest.fixture(scope="module")
def places(docker_host: str, registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """The base images, the source and a stock image compiled from it."""
    upstream.make_base(docker_host, "slim", "builder")
    folder = tmp_path_factory.mktemp("source")
    with upstream.source(folder) as source:
        there = Upstream(docker_host, source, f"{registry}/upstream/serving:2.20.0")
        user = f"test-stock-{os.getpid()}"
        upstream.build_stock(Suite(folder / "stock", there.settings(user)), user, there.stock)
        yield there


@pytest.fixture
def chain(places: Upstream, tmp_path: Path) -> Iterator[Suite]:
    """A suite with nothing but a catalogue, whose one model is offered on loopback."""
    published = tmp_path / "published"
    published.mkdir()
    upstream.make_model_archive(published, "standin")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(published))
    user = f"test-chain-{os.getpid()}"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        suite = Suite(
            tmp_path / "suite",
            places.settings(user)
            | {
                "INVOKE_MODEL": "standin",
                "INVOKE_BENCHMARK_MAX_SECONDS": "20",
                "INVOKE_BENCHMARK_BLOCK_REQUESTS": "24",
            },
        )
        (suite.folder / "models").mkdir(parents=True)
        address = f"http://127.0.0.1:{server.server_port}/standin.tar.gz"
        (suite.folder / "models" / "catalog.toml").write_text(f'[standin]\nurl = "{address}"\n')
        yield suite
        server.shutdown()
    suite.run("teardown")
    upstream.remove_images(places.docker_host, user, places.stock)


def left(docker_host: str) -> list[str]:
    """Everything with our label, and all networks and volumes."""
    volumes = engine.docker(docker_host, "volume", "ls", "--quiet").split()
    networks = engine.docker(docker_host, "network", "ls", "--format", "{{.Name}}").split()
    return sorted([*containers(docker_host), *volumes, *networks])


def test_from_source_to_a_verdict(chain: Suite, docker_host: str, bystander: str) -> None:
    before = left(docker_host)

    done = chain.run(*CHAIN.split())

    assert "engine: docker" in done.stderr
    assert "engine: local" not in done.stderr
    assert f"$ docker pull {chain.added['INVOKE_DOCKER_IMAGE']}" in done.stderr
    assert "optimized standin@1 on port" in done.stderr
    (result,) = (chain.folder / "results").glob("*-standin/result.json")
    (run,) = json.loads(result.read_text())["runs"]
    verdict = run["verdict"]
    assert verdict["agreement"]["holds"]
    assert verdict["agreement"]["same"] == 12
    assert verdict["comparisons"]["p50"]["low"] > 1
    assert run["sentence"].startswith("optimized is faster than stock: ")

    image = f"{chain.added['INVOKE_BUILD_USER']}/tensorflow-serving:2.20.0"
    ours = labels(docker_host, image)
    published = labels(docker_host, chain.added["INVOKE_DOCKER_IMAGE"])
    assert {"avx2", "fma"} <= set(ours[f"{LABEL}.instruction-sets"].split())
    assert published[f"{LABEL}.instruction-sets"] == ""
    assert ours[f"{LABEL}.build-options"] == "--config=nativeopt"

    assert left(docker_host) == before
    running = engine.docker(docker_host, "inspect", "--format", "{{.State.Running}}", bystander)
    assert running == "true"

    again = chain.run("--dry", *CHAIN.split())
    assert "$ docker build" not in again.stderr

    whole = chain.run("--dry", "pipeline")
    assert whole.stderr.count("engine: ") == 1
    upstream.remove_images(docker_host, chain.added["INVOKE_BUILD_USER"])
    without = chain.run("--dry", "pipeline")
    assert without.stderr.count("engine: ") == 1, "chosen once, for stock too"
    assert "engine: local (the image" in without.stderr


def labels(docker_host: str, image: str) -> dict[str, str]:
    (found,) = json.loads(engine.docker(docker_host, "image", "inspect", image))
    told: dict[str, str] = found["Config"]["Labels"]
    return told
