"""`invoke test`, interrupted: the tests' own fixtures end before it does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT

TEST = """
import time, pytest

@pytest.fixture
def thing():
    yield
    print("ending it", flush=True)
    time.sleep(1)
    print("ended", flush=True)

def test_long(thing):
    print("begun", flush=True)
    time.sleep(600)
"""
CALL = """
import sys
from pathlib import Path
from dataclasses import replace
from invoke import Config, Context, Program, Collection
from tasks import edge
from tasks.lib.testsuite import runner

@edge.task()
def go(c):
    runner._call(edge.read_settings(c), [sys.executable, "-m", "pytest", "-s", sys.argv[1]], {})

config = Config(project_location=str(edge.ROOT))
config.load_project()
Program(namespace=Collection(go), config_class=lambda *a, **k: config).run(["inv", "go"])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_fixtures_end(tmp_path: Path, number: signal.Signals) -> None:
    file = tmp_path / "test_long.py"
    file.write_text(TEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    process = subprocess.Popen(
        [sys.executable, "-c", CALL, str(file)],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if "begun" in line:
            break
    process.send_signal(number)
    rest, _ = process.communicate(timeout=30)
    assert "ended" in rest, "".join(seen) + rest
    assert process.returncode == 130, rest
