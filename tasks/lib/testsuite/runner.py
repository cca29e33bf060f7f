"""The test suite: which tests run, with which interpreter."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from tasks.lib.common import console, processes
from tasks.lib.common.errors import GateFailed, SuiteError
from tasks.lib.common.settings import Settings
from tasks.lib.embedded import environment

UNIT = Path("tests", "unit")
PROCESS = Path("tests", "process")
INTEGRATION = Path("tests", "integration")
EMBEDDED = Path("tests", "embedded")


def run(settings: Settings, fast: bool, select: str) -> None:
    """Run the tests; if `fast`, only unit tests that start no process.

    `select` is a pytest -k expression, or empty. Raises GateFailed if a test failed.
    """
    if find_spec("pytest") is None:
        raise SuiteError("pytest is not installed.", "Install it: pip install -r tests/requirements.txt")
    which = [str(UNIT)] if fast else [str(UNIT), str(PROCESS), str(INTEGRATION)]
    only = ["-k", select] if select else []
    commands: list[tuple[list[str], dict[str, str]]] = [([sys.executable, "-m", "pytest", *which, *only], {})]
    if not fast:
        commands.append(_embedded(settings, only))
    failed = [status for argv, added in commands if (status := _call(settings, argv, added))]
    # pytest's 5 says that no test matched: with -k that is no failure of the other folder.
    if any(status != 5 for status in failed) or len(failed) == len(commands):
        raise GateFailed("Tests failed.", "The lines above say which.")


def _embedded(settings: Settings, only: list[str]) -> tuple[list[str], dict[str, str]]:
    """The command for the embedded server's own tests.

    They run in the embedded environment, but pytest is not installed into it: that would make it
    another one than its lock says. It goes into a folder of its own, behind it on the path.
    """
    python = str(environment.ensure(settings))
    tools = settings.paths.state / "test-tools"
    _install(settings, "requirements.lock", tools, "--require-hashes")
    # Clients of others, which run in processes of their own with all else from the embedded environment.
    _install(settings, "clients.txt", tools / "clients", "--no-deps")
    path = f"{environment.SOURCES}:{settings.paths.shown(tools)}"
    return [python, "-m", "pytest", str(EMBEDDED), *only], {"PYTHONPATH": path}


def _install(settings: Settings, name: str, target: Path, *flags: str) -> None:
    """Install a requirements file of the embedded server's tests into a folder, if that has it not yet."""
    requirements = settings.paths.root / EMBEDDED / name
    stamp = target / "installed"
    if stamp.is_file() and stamp.read_text() == requirements.read_text():
        return
    arguments = ["--target", str(target), "--requirement", str(requirements), *flags]
    if _call(settings, [*environment.pip(settings), "install", "--quiet", "--upgrade", *arguments], {}):
        raise SuiteError(
            "The tools of the embedded server's tests cannot be installed.", "pip says why above."
        )
    if not settings.dry:
        stamp.write_text(requirements.read_text())


def _call(settings: Settings, argv: list[str], added: Mapping[str, str]) -> int:
    """Run a command in the foreground and return its exit status."""
    console.command(environment.shown(settings, argv), added)
    if settings.dry:
        return 0
    # In a session of its own, so that an interruption reaches it exactly once, from here: pytest then
    # ends its fixtures, and with them what they have started. A second one would end it in the middle.
    process = subprocess.Popen(
        argv, cwd=settings.paths.root, env={**environment.inherited(), **added}, start_new_session=True
    )
    try:
        return process.wait()
    except KeyboardInterrupt:
        with processes.uninterrupted():
            process.send_signal(signal.SIGINT)
            process.wait()
        raise
