"""Small Dockerfiles that end in seconds, and a project that builds them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
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


def shown_command(err: str) -> str:
    [line] = [line for line in err.splitlines() if line.startswith("$ docker build")]
    return line
