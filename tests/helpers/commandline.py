"""The real `invoke` in a process of its own, as a person types it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tasks.lib.common.settings import Paths

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class CommandLine:
    """`invoke` with folders of its own. What it starts ends with the test."""

    paths: Paths
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "invoke", *arguments],
            cwd=ROOT,
            env={
                **os.environ,
                "INVOKE_PATHS_MODELS": str(self.paths.models),
                "INVOKE_PATHS_STATE": str(self.paths.state),
                "INVOKE_PATHS_ENVIRONMENT": str(self.paths.environment),
                "INVOKE_PATHS_RESULTS": str(self.paths.results),
                "INVOKE_DOWNLOAD_PAUSE": "0.01",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)
