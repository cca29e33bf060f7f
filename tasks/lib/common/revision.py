"""Which version of this suite is running: its git commit, and a digest of its sources."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

SOURCES = ("tasks.py", "invoke.yaml", "tasks", "docker")
"""What decides how the suite measures and serves."""
TIMEOUT = 10.0
"""Seconds that git has to answer."""


@dataclass(frozen=True)
class Revision:
    """A version of the suite."""

    commit: str | None
    """None without git, or if the folder is not the top of a repository."""
    changed: bool | None
    """Whether SOURCES have changes that are not committed; None as `commit`."""
    sources: str
    """SHA-256 over the names and contents of SOURCES."""

    def __str__(self) -> str:
        if self.commit is None:
            return f"sources {self.sources[:12]}"
        return f"commit {self.commit[:12]}{' with changes' if self.changed else ''}"


def revision(root: Path) -> Revision:
    """The version of the suite in the folder `root`."""
    commit, changed = None, None
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is not None and Path(top).resolve() == root.resolve():
        commit = _git(root, "rev-parse", "HEAD")
        status = _git(root, "status", "--porcelain", "--", *SOURCES)
        changed = None if commit is None or status is None else bool(status)
    return Revision(commit, changed, _digest(root))


def _git(root: Path, *arguments: str) -> str | None:
    """What a git command prints; None if it fails or there is no git."""
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _digest(root: Path) -> str:
    digest = sha256()
    for file in sorted(_files(root)):
        content = sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(root).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def _files(root: Path) -> Iterator[Path]:
    for name in SOURCES:
        place = root / name
        files = place.rglob("*") if place.is_dir() else [place]
        yield from (file for file in files if file.is_file() and "__pycache__" not in file.parts)
