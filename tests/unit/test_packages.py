"""The packages of tasks/lib and of the embedded server: what each may import, by import-linter."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

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


def layers(container: str) -> list[list[str]]:
    """The packages of each layer in pyproject.toml, the highest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [contract] = [each for each in contracts if each.get("containers") == [container]]
    return [layer.split(" | ") for layer in contract["layers"]]


def drawn(container: str) -> list[list[str]]:
    """The layers that the diagram in ARCHITECTURE.md draws for `container`, the highest first."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    arrows = text.partition(f"%% {container}\n")[2].partition("end\n")[0]
    found: list[list[str]] = []
    for line in filter(None, map(str.strip, arrows.splitlines())):
        if "-->" in line:
            above, below = (
                [name.split("[")[0].rstrip("_") for name in end.split(" & ")] for end in line.split(" --> ")
            )
            assert not found or found[-1] == above, f"the layers above and below do not meet: {line}"
            found += [below] if found else [above, below]
    return found


def test_the_diagram_draws_the_contracts() -> None:
    assert drawn("tasks.lib")[1:] == layers("tasks.lib")
    programs, *rest = layers("embedded_server")
    assert drawn("embedded_server")[1:] == rest
    assert f'programs["programs: {" ".join(programs)}"]' in (ROOT / "ARCHITECTURE.md").read_text()


def walked() -> Iterator[tuple[str, str]]:
    walks = (ROOT / "ARCHITECTURE.md").read_text().partition("## Two walks")[2].partition("\n## ")[0]
    yield from re.findall(r"([\w/]+\.py):(\w+)", walks)


def test_the_walks_name_functions_that_exist_and_none_twice() -> None:
    steps = list(walked())
    assert len(steps) == len(set(steps)) > 15
    for file, name in steps:
        tree = ast.parse((ROOT / file).read_text())
        assert any(isinstance(n, ast.FunctionDef) and n.name == name for n in ast.walk(tree)), (
            f"{file}:{name}"
        )


def test_task_modules_stay_short() -> None:
    """They read arguments, call tasks/lib and print: logic that a unit test would want is in tasks/lib."""
    lengths = {file.name: len(file.read_text().splitlines()) for file in (ROOT / "tasks").glob("*.py")}
    assert {name: lines for name, lines in lengths.items() if lines > 120} == {}
