"""Which source files of a Python package a program is made of, found by following its imports."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path


def imported(folder: Path, modules: Iterable[str]) -> list[Path]:
    """The source files in `folder` that importing `modules` reads, sorted: theirs and what they import.

    Modules are named with dots. Imports inside functions count too. Modules that are not in `folder` are
    passed over. An import whose module is only known at run time is not found.
    """
    files: set[Path] = set()
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        # Importing a.b runs a/__init__.py first.
        waiting.extend([module.rpartition(".")[0]] if "." in module else [])
        file = _file(folder, module)
        if file is not None:
            files.add(file)
            status = file.stat()
            waiting.extend(_imports(file, module, status.st_mtime_ns, status.st_size))
    return sorted(files)


def _file(folder: Path, module: str) -> Path | None:
    place = folder.joinpath(*module.split("."))
    for file in (place / "__init__.py", place.with_name(f"{place.name}.py")):
        if file.is_file():
            return file
    return None


@functools.cache
def _imports(file: Path, module: str, changed: int, size: int) -> tuple[str, ...]:
    """What the file of `module` imports; `changed` and `size` tell its versions apart."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    return tuple(_names(ast.parse(file.read_bytes()), package))


def _names(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            yield base
            # What is imported may be a module of its own.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The module that `from ... import` names; its dots count from `package`."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    above = parts[: len(parts) - node.level + 1]
    return ".".join([*above, node.module] if node.module else above)
