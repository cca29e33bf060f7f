"""Removing what the suite has made: described first, with its size."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.lib.common import console


@dataclass(frozen=True)
class Removal:
    """Something that can be removed."""

    what: str
    """As in "no WHAT to remove"."""
    contents: str
    """The parts by name, or their number."""
    paths: Sequence[Path]
    remove: Callable[[], None]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(_size(path) for path in self.paths)


def carry_out(removal: Removal, *, dry: bool) -> None:
    """Remove it, and print what and how much it was. If `dry`, only print that."""
    if not removal.paths:
        console.result(f"no {removal.what} to remove")
        return
    description = f"{removal.what}: {removal.contents} ({console.size(removal.size)})"
    if dry:
        console.note(f"would remove {description}")
        return
    console.note(f"removing {description}")
    removal.remove()
    console.result(f"removed {description}")


def children(folder: Path) -> list[Path]:
    """What is in the folder, sorted; nothing if it does not exist."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder and not a link to one: links lead to what is not ours."""
    return path.is_dir() and not path.is_symlink()


def remove(path: Path) -> None:
    """Remove a file, a link (not its target), or a folder with everything in it."""
    if is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    """Bytes of the files at or below `path`; links count as nothing."""
    if path.is_symlink():
        return 0
    if path.is_file():
        return path.stat().st_size
    files = (Path(parent, name) for parent, _, names in os.walk(path) for name in names)
    return sum(file.lstat().st_size for file in files)
