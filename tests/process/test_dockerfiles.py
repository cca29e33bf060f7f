"""What hadolint says of every Dockerfile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.standin import ROOT

DOCKERFILES = sorted(
    path for folder in ("docker", "tests") for path in (ROOT / folder).rglob("Dockerfile*") if path.is_file()
)


def test_they_are_found() -> None:
    assert {"Dockerfile", "Dockerfile.devel", "Dockerfile.embedded"} <= {path.name for path in DOCKERFILES}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
