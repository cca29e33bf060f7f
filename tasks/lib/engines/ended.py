"""The logs of servers that ended by themselves: the last few are kept."""

from __future__ import annotations

from pathlib import Path

from tasks.lib.common import disk
from tasks.lib.common.settings import Paths
from tasks.lib.engines.base import Server

KEPT = 5
"""How many."""


def folder(paths: Paths) -> Path:
    """Where they are."""
    return paths.state / "servers" / "ended"


def place(paths: Paths, server: Server) -> Path:
    """Where the log of this one goes; its folder is made. Raises OSError."""
    disk.make_folder(folder(paths))
    time_of_start = server.started.replace(":", "-").partition("+")[0]
    return (
        folder(paths)
        / f"{time_of_start}-{server.variant.name}-{server.model}@{server.version}-{server.id}.log"
    )


def trim(paths: Paths) -> None:
    """Remove all but the newest."""
    for old in sorted(folder(paths).iterdir())[:-KEPT]:
        old.unlink(missing_ok=True)
