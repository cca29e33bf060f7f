"""Locks between calls: what two calls want at once is done once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.lib.common import console, disk
from tasks.lib.common.errors import SettingError
from tasks.lib.common.settings import Paths


@contextmanager
def held(paths: Paths, name: str, waiting_for: str) -> Iterator[None]:
    """Hold the lock `name`. If another call holds it, say that this one waits for `waiting_for`.

    The operating system frees the lock of a process that dies, however it dies. Not reentrant.
    Raises SettingError if the state folder cannot be written to.
    """
    with _taken(paths, name, waiting_for):
        yield


@contextmanager
def tried(paths: Paths, name: str) -> Iterator[bool]:
    """Hold the lock `name` if it is free; yield whether it was."""
    with _taken(paths, name, None) as taken:
        yield taken


@contextmanager
def _taken(paths: Paths, name: str, waiting_for: str | None) -> Iterator[bool]:
    from filelock import FileLock, Timeout

    folder = paths.state / "locks"
    lock = FileLock(folder / f"{name}.lock")
    try:
        disk.make_folder(folder)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if waiting_for is not None:
                console.note(f"waiting for another call: {waiting_for}")
                lock.acquire()
    except OSError as error:
        raise SettingError(
            f"{paths.shown(folder)} cannot be written to ({error.strerror}).",
            "Make it writable for you, or choose another folder with INVOKE_PATHS_STATE.",
        ) from error
    try:
        yield lock.is_locked
    finally:
        lock.release()
