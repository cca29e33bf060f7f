"""The embedded server as an image: it serves a real SavedModel, and answers as the local engine's does."""

from __future__ import annotations

import base64
import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.conftest import ROOT, Suite
from tests.integration.docker import engine, upstream
from tests.integration.docker.conftest import containers


@pytest.fixture(scope="module")
def both(
    embedded_python: Path, publisher: str, docker_host: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Suite]:
    """A suite with a small model, its artefact, and the embedded server for both engines."""
    upstream.make_base(docker_host, "python")
    user = f"test-embedded-{os.getpid()}"
    folder = tmp_path_factory.mktemp("embedded") / "suite"
    added = {"INVOKE_MODEL": "tf1", "INVOKE_ENGINE": "local"}
    suite = Suite(folder, upstream.settings(docker_host, user) | added)
    suite.run("download", "--url", f"{publisher}/tf1.tar.gz")
    suite.run("build.optimized", "--precision", "f32")  # by name: whether it gains depends on the CPU
    suite.run("build.embedded", "--engine", "docker")
    yield suite
    suite.run("teardown")
    assert containers(docker_host) == []
    assert suite.servers() == []
    upstream.remove_images(docker_host, user)


@pytest.mark.parametrize(
    ("in_image", "locally"), [("embedded", "stock"), ("embedded-optimized", "optimized")]
)
def test_it_answers_as_the_local_engine_does(both: Suite, in_image: str, locally: str) -> None:
    container = both.run("serve", "--variant", in_image, "--engine", "docker").stdout.splitlines()[0]
    process = both.run("serve", "--variant", locally, "--engine", "local").stdout.splitlines()[0]
    photos = sorted((ROOT / "models" / "samples").glob("*.jpg"))
    assert len(photos) == 12
    for photo in photos:
        body = {"instances": [{"b64": base64.b64encode(photo.read_bytes()).decode()}]}
        theirs, ours = (ask(url, body) for url in (container, process))
        assert theirs["classes"] == ours["classes"], photo
        np.testing.assert_allclose(theirs["probabilities"], ours["probabilities"], rtol=1e-5, atol=1e-7)
    assert len(both.servers()) == 1
    both.run("teardown")


def test_one_table_compares_what_is_in_the_image(both: Suite) -> None:
    done = both.run(
        *("benchmark", "--engine", "docker", "--format", "json"),
        *("--baseline", "embedded", "--candidate", "embedded-optimized"),
    )
    record = json.loads(done.stdout)
    assert record["engine"] == "docker"
    (run,) = record["runs"]
    assert run["verdict"]["agreement"]["same"] == 12
    assert [run["verdict"][side]["backend"] for side in ("baseline", "candidate")] == [
        "TensorFlow",
        "OpenVINO",
    ]


def test_its_health_is_what_docker_sees(both: Suite, docker_host: str) -> None:
    both.run("serve", "--variant", "embedded", "--engine", "docker")
    (container,) = containers(docker_host)
    (found,) = json.loads(engine.docker(docker_host, "inspect", container))
    check = found["Config"]["Healthcheck"]["Test"]
    assert check[0] == "CMD"
    engine.docker(docker_host, "exec", container, *check[1:])  # what the daemon asks once a minute
    both.run("teardown")


def ask(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(f"{url}:predict", data=json.dumps(body).encode())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        (prediction,) = json.load(answer)["predictions"]
    assert isinstance(prediction, dict)
    return prediction
