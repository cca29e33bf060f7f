"""The whole chain on a real Docker Engine, a real registry and a real Bazel, from the stand-in source."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.lib.common import hardware
from tests.integration.conftest import Suite
from tests.integration.docker import engine, upstream
from tests.integration.docker.conftest import LABEL, containers
from tests.integration.docker.upstream import Upstream

CHAIN = "download build.devel build.optimized serve --optimized benchmark teardown"
"""As the README has it."""
STOCK = "INVOKE_DOCKER_IMAGE"
SERVER = "/usr/bin/tensorflow_model_server"
TRACES = {"fma": r"\bvfmadd", "avx512f": r"%zmm"}
"""What is found in the machine code of the stand-in, by the instruction set that the compiler may use. Its
arithmetic multiplies and adds, in registers as wide as there are."""


@pytest.fixture(scope="module")
def places(docker_host: str, registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    with upstream.places(docker_host, registry, tmp_path_factory.mktemp("source")) as there:
        yield there


@pytest.fixture
def chain(places: Upstream, tmp_path: Path) -> Iterator[Suite]:
    with upstream.chain(places, tmp_path, f"test-chain-{os.getpid()}") as suite:
        yield suite


def left(docker_host: str) -> list[str]:
    """Everything with our label, and all networks and volumes."""
    volumes = engine.docker(docker_host, "volume", "ls", "--quiet").split()
    networks = engine.docker(docker_host, "network", "ls", "--format", "{{.Name}}").split()
    return sorted([*containers(docker_host), *volumes, *networks])


def test_from_source_to_a_verdict(chain: Suite, docker_host: str, bystander: str, tmp_path: Path) -> None:
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
    # Which of them is faster, and by how much, depends on the CPU: tests/benchmarks/native_build.py.
    assert verdict["comparisons"]["p50"] is not None

    image, published = f"{chain.added['INVOKE_BUILD_USER']}/tensorflow-serving:2.20.0", chain.added[STOCK]
    ours, theirs = labels(docker_host, image), labels(docker_host, published)
    here = hardware.cpu_flags()
    named = set(ours[f"{LABEL}.instruction-sets"].split())
    assert named <= here, "it would end with an illegal instruction"
    assert here & set(TRACES) <= named, "every GCC that can compile the source knows them"
    assert theirs[f"{LABEL}.instruction-sets"] == ""
    assert ours[f"{LABEL}.build-options"] == "--config=nativeopt"
    assert used(docker_host, image, tmp_path / "optimized") == here & set(TRACES)
    assert used(docker_host, published, tmp_path / "stock") == set()

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


def used(docker_host: str, image: str, binary: Path) -> set[str]:
    """Of TRACES, the instruction sets that the image's server uses; `binary` is where it is copied to."""
    container = engine.docker(docker_host, "create", image)
    try:
        engine.docker(docker_host, "cp", f"{container}:{SERVER}", str(binary))
    finally:
        engine.docker(docker_host, "rm", container)
    # The image that compiles has a disassembler.
    words = ("--rm", "--volume", f"{binary}:/server:ro", "--entrypoint", "objdump", "standin/builder")
    code = engine.docker(docker_host, "run", *words, "--disassemble", "--no-show-raw-insn", "/server")
    return {name for name, trace in TRACES.items() if re.search(trace, code)}
