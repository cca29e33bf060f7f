"""tests/benchmarks is run by hand: what its programs take from the suite must still be there."""

from __future__ import annotations

import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.helpers.commandline import ROOT

OWN = ("tasks.", "tests.")
SCRIPTS = sorted((ROOT / "tests" / "benchmarks").rglob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_what_a_benchmark_imports_of_the_suite_is_there(script: Path) -> None:
    for statement in ast.walk(ast.parse(script.read_text())):
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith(OWN):
            module = import_module(str(statement.module))
            for name in (each.name for each in statement.names):
                assert hasattr(module, name) or find_spec(f"{statement.module}.{name}"), name
