"""The packages of tasks/lib and of the embedded server: what each may import, by import-linter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"tasks": ROOT / "tasks", "embedded_server": ROOT / "docker" / "embedded" / "embedded_server"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which the packages can be found, and the tasks.py of the root cannot."""
    for name, package in PACKAGES.items():
        (tmp_path / name).symlink_to(package)
    return tmp_path


def test_packages_import_only_what_is_below_them(folder: Path) -> None:
    done = lint(folder, ROOT / "pyproject.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kept, 0 broken" in done.stdout


def test_an_import_of_what_is_above_is_found(folder: Path) -> None:
    """The linter reads what it is meant to read."""
    (folder / "tasks").unlink()
    for place in ("tasks/lib", "tasks/lib/common", "tasks/lib/measure"):
        (folder / place).mkdir(parents=True)
        (folder / place / "__init__.py").touch()
    (folder / "tasks/lib/common/errors.py").write_text("from tasks.lib.measure import load\n")
    (folder / "tasks/lib/measure/load.py").touch()
    (folder / "setup.toml").write_text(
        """
        [tool.importlinter]
        root_packages = ["tasks.lib"]
        [[tool.importlinter.contracts]]
        name = "one"
        type = "layers"
        containers = ["tasks.lib"]
        layers = ["measure", "common"]
        """
    )
    done = lint(folder, folder / "setup.toml")
    assert done.returncode == 1
    assert "tasks.lib.common.errors -> tasks.lib.measure.load" in done.stdout


def lint(folder: Path, configuration: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; sys.path.insert(0, '.'); from importlinter import cli; cli.lint_imports_command()"
    command = [sys.executable, "-c", code, "--config", str(configuration), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_task_modules_stay_short() -> None:
    """They read arguments, call tasks/lib and print: logic that a unit test would want is in tasks/lib."""
    lengths = {file.name: len(file.read_text().splitlines()) for file in (ROOT / "tasks").glob("*.py")}
    assert {name: lines for name, lines in lengths.items() if lines > 120} == {}
