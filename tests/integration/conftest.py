"""Fixtures of the tests that start real servers.

Every test types real commands in a subprocess. Models, records and results go to a folder of the
test's own; only the embedded environment is shared with the checkout, since installing TensorFlow
for each test would take minutes.
"""

from __future__ import annotations

import http.server
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
QUICK = {
    "INVOKE_BENCHMARK_MAX_SECONDS": "0",
    "INVOKE_BENCHMARK_INSTANCES": "1",
    "INVOKE_BENCHMARK_BLOCK_REQUESTS": "12",
    "INVOKE_BENCHMARK_BLOCK_SECONDS": "0.05",
    "INVOKE_BENCHMARK_WARMUP_SECONDS": "0",
    "INVOKE_OPTIMIZE_PRECISION": "f32",
    "INVOKE_MODEL": "resnet",
}
"""A benchmark of the fewest rounds, two; how fast anything is, no test asserts. The precision is asked for by
name, since nothing is optimized on a machine that is too busy to show a gain."""


@dataclass(frozen=True)
class Suite:
    """The command line of a checkout with its own models, state and results."""

    folder: Path
    added: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        paths = {
            f"INVOKE_PATHS_{name.upper()}": str(self.folder / name) for name in ("models", "state", "results")
        }
        shared = {"INVOKE_PATHS_ENVIRONMENT": str(ROOT / ".state" / "embedded")}
        # Where a Docker Engine runs, `auto` would be Docker; tests/integration/docker asks for it.
        return {**os.environ, **QUICK, "INVOKE_ENGINE": "local", **paths, **shared, **self.added}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "invoke", *words]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Type a command and return at once."""
        return subprocess.Popen(
            self.command(*words), cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Type a command, wait for its end, and check its exit code."""
        process = self.start(*words)
        out, err = process.communicate(timeout=600)
        assert process.returncode == code, (
            f"invoke {' '.join(words)} ended with {process.returncode}\n{out}\n{err}"
        )
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def with_environment(self, **added: str) -> Suite:
        return Suite(self.folder, {**self.added, **added})

    def servers(self) -> list[int]:
        """The process ids of embedded servers that serve from this suite's models, on record or not."""
        import psutil

        found = []
        for process in psutil.process_iter():
            try:
                line = process.cmdline()
            except psutil.Error:
                continue
            if "embedded_server" in line and any(str(self.folder) in word for word in line):
                found.append(process.pid)
        return found


def newest(suite: Suite) -> Path:
    return max((suite.folder / "results").iterdir(), key=lambda folder: folder.stat().st_mtime_ns)


@pytest.fixture(scope="session")
def embedded_python() -> Path:
    """The embedded environment's interpreter; the environment is built if need be."""
    command = [sys.executable, "-m", "invoke", "build.embedded"]
    subprocess.run(command, cwd=ROOT, check=True, stdin=subprocess.DEVNULL)
    return ROOT / ".state" / "embedded" / "bin" / "python"


def _suite(folder: Path) -> Iterator[Suite]:
    folder.mkdir()
    _without_the_official_archive(folder / "models")
    suite = Suite(folder)
    yield suite
    suite.run("teardown")
    assert suite.servers() == []


def _without_the_official_archive(models: Path) -> None:
    """A catalogue whose archive cannot be reached, also where the tests run with a network."""
    shutil.copytree(ROOT / "models" / "labels", models / "labels")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    catalogue = (ROOT / "models" / "catalog.toml").read_text()
    (models / "catalog.toml").write_text(re.sub(r"https://[^/]+/", address, catalogue))


@pytest.fixture
def suite(embedded_python: Path, tmp_path: Path) -> Iterator[Suite]:
    """A suite with nothing in it."""
    yield from _suite(tmp_path / "suite")


@pytest.fixture(scope="session")
def small_models(embedded_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archives of small models, each nested ./NAME/VERSION/ as the official one is."""
    folder = tmp_path_factory.mktemp("made")
    script = ROOT / "tests" / "embedded" / "saved_models.py"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    subprocess.run([embedded_python, script, folder / "models"], check=True, env=environment)
    archives = folder / "archives"
    archives.mkdir()
    for model in sorted((folder / "models").iterdir()):
        with tarfile.open(archives / f"{model.name}.tar.gz", "w:gz") as archive:
            archive.add(model, arcname=f"./{model.name}")
    return archives


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def publisher(small_models: Path) -> Iterator[str]:
    """The address of an HTTP server that offers the archives of `small_models`."""
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(_Quiet, directory=str(small_models))
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def small(publisher: str, embedded_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite that has the small models tf1, keras and plain."""
    for suite in _suite(tmp_path_factory.mktemp("small") / "suite"):
        for name in ("tf1", "keras", "plain"):
            suite.run("download", "--model", name, "--url", f"{publisher}/{name}.tar.gz")
        yield suite


@pytest.fixture
def tf1(small: Suite) -> Suite:
    """`small` with its model that takes photos, and an optimized artefact of that."""
    suite = small.with_environment(INVOKE_MODEL="tf1")
    if not (suite.folder / "models" / "tf1" / ".optimized").exists():
        suite.run("build.optimized", "--precision", "f32")
    return suite


@dataclass(frozen=True)
class FirstRun:
    """What the main job printed where nothing was there yet, and the suite that it has filled."""

    suite: Suite
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def first_run(embedded_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirstRun]:
    """The main job, once: it builds a ResNet-50 and its artefact, which takes a minute."""
    for suite in _suite(tmp_path_factory.mktemp("resnet") / "suite"):
        yield FirstRun(suite, suite.run("pipeline"))


@pytest.fixture
def resnet(first_run: FirstRun) -> Suite:
    """A suite whose seeded ResNet-50 is there, with its optimized artefact."""
    return first_run.suite
