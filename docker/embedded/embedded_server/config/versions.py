"""The versions of a model on disk: which folders they are, and which of them are to be served.

Policies are those of TensorFlow Serving (sources/storage_path/file_system_storage_path_source.cc).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from embedded_server.common.errors import StartError

LARGEST_VERSION = 2**63 - 1
"""Messages carry a version as an int64."""

Contents = frozenset[tuple[str, int, int]]
"""What lies in a folder: path, size in bytes and time of change (ns) of each file."""


@dataclass(frozen=True)
class Latest:
    """The `count` newest versions."""

    count: int = 1

    def choose(self, versions: Mapping[int, Path]) -> dict[int, Path]:
        return {number: versions[number] for number in sorted(versions)[-self.count :]}


@dataclass(frozen=True)
class All:
    """Every version that there is."""

    def choose(self, versions: Mapping[int, Path]) -> dict[int, Path]:
        return dict(versions)


@dataclass(frozen=True)
class Specific:
    """These versions, as far as they are there."""

    numbers: frozenset[int]

    def choose(self, versions: Mapping[int, Path]) -> dict[int, Path]:
        return {number: folder for number, folder in versions.items() if number in self.numbers}


VersionPolicy = Latest | All | Specific


def list_versions(base_path: Path) -> dict[int, Path]:
    """The version folders below a base path: number -> folder. Names that are no number do not count, nor
    are numbers that no message can carry, as time stamps of 20 digits are.

    Raises OSError where the base path cannot be read.
    """
    with os.scandir(
        base_path
    ) as scanned:  # knows folders without a look at each: the base path may vanish now
        entries = [Path(entry.path) for entry in scanned if entry.is_dir()]
    # Of 7 and 007 the plain one counts, as for the task runner: the shortest name comes last, and stays.
    entries.sort(key=lambda entry: len(entry.name), reverse=True)
    numbered = {int(entry.name): entry for entry in entries if entry.name.isascii() and entry.name.isdigit()}
    return {number: folder for number, folder in numbered.items() if number <= LARGEST_VERSION}


def check_versions(base_path: Path, version: int | None) -> None:
    """Raises StartError where there is no such folder, no version in it, or not the one that is wanted."""
    try:
        versions = list_versions(base_path)
    except OSError as error:
        raise StartError(f"--model_base_path {base_path}: {error.strerror}") from error
    if not versions:
        hint = "its folders must be named by numbers, such as 1"
        if (base_path / "saved_model.pb").exists():
            hint = f"it is itself a SavedModel: move it into a folder {base_path / '1'}"
        raise StartError(f"no version of the model in --model_base_path {base_path}: {hint}")
    if version is not None and version not in versions:
        present = ", ".join(map(str, sorted(versions)))
        raise StartError(f"no version {version} in --model_base_path {base_path}: it has {present}")


def contents(*folders: Path) -> Contents:
    """All files below the folders; what vanishes meanwhile is left out."""
    return frozenset(entry for folder in folders for entry in _files(folder))


def _files(folder: Path) -> Iterator[tuple[str, int, int]]:
    for path, _, names in os.walk(folder):
        for name in names:
            file = Path(path, name)
            try:
                status = file.stat()
            except OSError:
                continue
            yield str(file), status.st_size, status.st_mtime_ns
