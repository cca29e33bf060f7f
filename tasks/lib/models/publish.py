"""Puts finished versions into models/NAME, wholly or not at all, and cleans up after killed calls.

A version is written to a folder .partial-* next to its place and is renamed at the end. One call at a
time works on a model.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.lib.common import console, disk, locks
from tasks.lib.common.errors import ModelError
from tasks.lib.common.settings import Paths
from tasks.lib.models import store
from tasks.lib.models.store import Model, Origin

PARTIAL = ".partial-"


@contextmanager
def placed(
    paths: Paths,
    name: str,
    versions: Mapping[int, Path],
    source: str,
    address: str,
    archive_sha256: str | None,
) -> Iterator[list[Model]]:
    """Move finished version folders into place, with their origins; if the block fails, out again.

    A version that is there with the same content stays as it is. Raises ModelError if one is there
    with another content, and then moves none.
    """
    base = paths.models / name
    existing = store.versions(paths, name)
    models: list[Model] = []
    moves: list[tuple[Path, Model]] = []
    for number, folder in sorted(versions.items()):
        origin = Origin(source, address, archive_sha256, store.content_digest(folder))
        place = existing.get(number, base / str(number))
        if not place.exists():
            model = Model(name, number, place, origin)
            moves.append((folder, model))
        elif store.content_digest(place) == origin.content_sha256:
            model = store.load(paths, name, number)
        else:
            raise ModelError(
                f"{name}@{number} is there already, and the new one is different.",
                f"Remove {paths.shown(place)} to replace it, or choose another name with --model.",
            )
        models.append(model)
    try:
        for folder, model in moves:
            # The record comes first: a version without one would look like a person's own.
            store.write_origin(model.folder, model.origin)
            folder.rename(model.folder)
        yield models
    except BaseException as error:
        for _, model in moves:
            shutil.rmtree(model.folder, ignore_errors=True)
            store.origin_record(model.folder).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise disk.unwritable(paths.shown(paths.models), error) from error
        raise


@contextmanager
def workspace(paths: Paths, name: str) -> Iterator[Path]:
    """A new folder next to the versions of `name`; it is gone afterwards, and so are folders above it
    that were made for it and hold nothing."""
    made: list[Path] = []
    partial: Path | None = None
    try:
        try:
            made = disk.make_folder(paths.models / name)
            partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=paths.models / name))
        except OSError as error:
            raise disk.unwritable(paths.shown(paths.models), error) from error
        yield partial
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):
            for folder in made:
                folder.rmdir()


@contextmanager
def working_on(paths: Paths, name: str) -> Iterator[None]:
    """Be the one call that changes `name`, and begin by removing what a killed one has left."""
    with locks.held(paths, _lock(name), f"it brings in {name}"):
        _remove_leftovers(paths, name)
        yield


def sweep(paths: Paths, name: str) -> None:
    """Remove what a killed call has left, unless it is another call's work in progress."""
    if _leftovers(paths, name):
        with locks.tried(paths, _lock(name)) as free:
            if free:
                _remove_leftovers(paths, name)


def _lock(name: str) -> str:
    return f"model-{name}"


def _leftovers(paths: Paths, name: str) -> list[Path]:
    base = paths.models / name
    return list(base.glob(f"{PARTIAL}*")) if base.is_dir() else []


def _remove_leftovers(paths: Paths, name: str) -> None:
    for folder in _leftovers(paths, name):
        console.note(f"removing what an interrupted call has left: {paths.shown(folder)}")
        shutil.rmtree(folder, ignore_errors=True)
