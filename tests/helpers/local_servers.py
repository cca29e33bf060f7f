"""A project whose local engine starts a stand-in for the embedded server."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.lib.common import processes
from tasks.lib.common.settings import Settings
from tasks.lib.common.variants import Variant
from tasks.lib.engines.local.engine import LocalEngine
from tests.helpers import standin
from tests.helpers.standin import wait_for

STOCK = Variant("stock", "tensorflow", "f32")


class Workspace:
    """One state folder, and the engine that works in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings: Settings = standin.settings(folder)
        self.model = standin.model(folder)

    def engine(self, *behaviour: str, **serve: Any) -> LocalEngine:
        settings = replace(self.settings, serve=replace(self.settings.serve, **serve))
        return LocalEngine(settings, command=standin.command(*behaviour))

    @property
    def records(self) -> Path:
        return self.settings.paths.state / "servers"

    def processes(self) -> list[processes.Identity]:
        return processes.carriers(processes.marker(self.settings.paths.state, "server", ""))

    def kill_server(self) -> None:
        """End the only server's process behind the suite's back."""
        [process] = self.processes()
        os.kill(process.pid, signal.SIGKILL)
        wait_for(lambda: not self.processes())

    def left(self) -> list[str]:
        """What is left in the folder of records: nothing, where all is in order."""
        return sorted(path.name for path in self.records.glob("*")) if self.records.is_dir() else []


@contextmanager
def nothing_left(workspace: Workspace) -> Iterator[None]:
    yield
    assert workspace.processes() == []
    assert workspace.left() == []
