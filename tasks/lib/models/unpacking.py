"""What every kind of archive must keep to: safe names, one entry for each place, and room on the disk."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from tasks.lib.common import disk
from tasks.lib.common.errors import DownloadError

CHUNK = 64 << 10
"""Bytes handled at once."""

_DRIVE = re.compile(r"[A-Za-z]:")
"""How an absolute name starts on Windows; some archives are made there."""


class Unpacking:
    """One archive on its way into a new folder.

    `called` and `shown` name the archive and the models folder in errors. Files get mode 0644 and folders
    0755. Raises OSError if the folder cannot be made.
    """

    def __init__(self, target: Path, strip_components: int, called: str, shown: str) -> None:
        disk.make_folder(target)
        self.written = 0
        """Bytes of content so far."""
        self._target = target
        self._strip = strip_components
        self._called = called
        self._shown = shown
        self._room = disk.free(target)

    def check_room(self, needed: int) -> None:
        """Raises DownloadError if `needed` bytes of content do not fit on the disk."""
        if needed > self._room:
            raise disk.full(self._shown, self._called, needed, self._room)

    def add(self, name: str, size: int, content: Iterable[bytes] | None) -> None:
        """Write the entry `name`; `content` is None for a folder.

        `size` is that of all its content, in bytes. An entry with no more parts than are stripped is left
        out. Raises OSError, and DownloadError for an unsafe name and for a place that an earlier entry has.
        """
        parts = self._parts(name)
        if not parts:
            return
        place = self._target.joinpath(*parts)
        try:
            if content is None:
                _make_folder(place)
            else:
                _make_folder(place.parent)
                _write(place, content)
                self.written += size
        except (FileExistsError, NotADirectoryError) as error:
            raise DownloadError(
                f"{self._called} has two entries that claim the same place: {name!r}.",
                "Do not use this archive unless you trust its maker; it has to be packed again.",
            ) from error
        except OSError as error:
            if disk.is_full(error):
                raise disk.full(self._shown, self._called, self.written + size, self._room) from error
            raise

    def unsafe(self, name: str, what: str) -> DownloadError:
        """The error for the entry `name`; `what` completes "has an entry that"."""
        return DownloadError(
            f"{self._called} has an entry that {what}: {name!r}.",
            "Do not use this archive unless you trust its maker; then unpack it yourself and use --path.",
        )

    def _parts(self, name: str) -> list[str]:
        """The parts of the entry's name after stripping. Raises DownloadError if it is not safe."""
        if name.startswith("/") or _DRIVE.match(name):
            raise self.unsafe(name, "has an absolute name")
        if "\\" in name:
            raise self.unsafe(name, "has a backslash in its name")
        parts = [part for part in name.split("/") if part]
        if ".." in parts:
            raise self.unsafe(name, "leads out of the folder")
        if "\0" in name:
            raise self.unsafe(name, "has a name that no file can have")
        return [part for part in parts[self._strip :] if part != "."]


def damaged(called: str, reason: str) -> DownloadError:
    """The error for an archive that cannot be read to its end."""
    return DownloadError(
        f"{called} is cut short or damaged ({reason}).",
        "Download it again; if that does not help, the archive itself is broken: get it from elsewhere.",
    )


def _write(place: Path, content: Iterable[bytes]) -> None:
    with place.open("xb") as file:
        os.fchmod(file.fileno(), disk.FILE_MODE)
        for chunk in content:
            file.write(chunk)


def _make_folder(place: Path) -> None:
    if place.exists() and not place.is_dir():
        raise FileExistsError(place)
    disk.make_folder(place)
