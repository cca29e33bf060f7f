"""Unpacks a tar archive from a stream, trusting nothing in it.

What an archive of a SavedModel needs is regular files and folders, so nothing else is let in: no
links, no devices, no name that leads out of the folder. The compression (gzip, bzip2, xz, none) is
undone here and not by tarfile, which neither checks gzip's checksum in a stream nor notices one
that was cut short between two files.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zlib
from pathlib import Path
from typing import IO, Any, cast

from tasks.lib import disk
from tasks.lib.errors import DownloadError

_CHUNK = 64 << 10
"""Bytes handled at once."""


def unpack(source: io.BufferedReader, target: Path, strip_components: int, called: str, shown: str) -> int:
    """Unpack the archive that `source` yields into the new folder `target`; return the bytes written.

    `strip_components` leading parts of each name are dropped, as tar does ("./" counts as one), and
    entries with no more parts than that are left out. `source` is read to its end. Files get mode
    0644 and folders 0755. `called` and `shown` name the archive and the models folder in errors.

    Raises DownloadError if it is no tar archive, is cut short or damaged, has an entry that is
    unsafe or stands twice, or does not fit on the disk; what was unpacked till then is left there.
    """
    stream = _Decompressed(source, called)
    written = 0
    try:
        disk.make_folder(target)
        room = disk.free(target)
        with _opened(stream, called) as tar:
            while (entry := _next(tar, called)) is not None:
                parts = _parts(entry, strip_components, called)
                if not parts:
                    continue
                place = target.joinpath(*parts)
                try:
                    if entry.isdir():
                        _make_folder(place)
                    else:
                        _make_folder(place.parent)
                        _write(tar, entry, place, called)
                        written += entry.size
                except (FileExistsError, NotADirectoryError) as error:
                    raise DownloadError(
                        f"{called} has two entries that claim the same place: {entry.name!r}.",
                        "Do not use this archive unless you trust whoever made it; it has to be packed anew.",
                    ) from error
                except OSError as error:
                    if disk.is_full(error):
                        raise disk.full(shown, called, written + entry.size, room) from error
                    raise
        stream.drain()
    except OSError as error:
        raise disk.unwritable(shown, error) from error
    return written


def _make_folder(place: Path) -> None:
    if place.exists() and not place.is_dir():
        raise FileExistsError(place)
    disk.make_folder(place)


def _write(tar: tarfile.TarFile, entry: tarfile.TarInfo, place: Path, called: str) -> None:
    """Write a file that must not exist yet. Raises OSError, and DownloadError for a damaged archive."""
    content = tar.extractfile(entry)
    if content is None:
        raise _damaged(called, f"{entry.name!r} has no content")
    with place.open("xb") as file:
        os.fchmod(file.fileno(), disk.FILE_MODE)
        while True:
            try:
                chunk = content.read(_CHUNK)
            except tarfile.TarError as error:
                raise _damaged(called, str(error)) from error
            if not chunk:
                return
            file.write(chunk)


def _parts(entry: tarfile.TarInfo, strip: int, called: str) -> list[str]:
    """The parts of the entry's name after stripping. Raises DownloadError if it is not safe."""
    name = entry.name

    def unsafe(what: str) -> DownloadError:
        return DownloadError(
            f"{called} has an entry that {what}: {name!r}.",
            "Do not use this archive unless you trust its maker; then unpack it yourself and use --path.",
        )

    if name.startswith("/"):
        raise unsafe("has an absolute name")
    parts = [part for part in name.split("/") if part]
    if ".." in parts:
        raise unsafe("leads out of the folder")
    if "\0" in name:
        raise unsafe("has a name that no file can have")
    if entry.issym() or entry.islnk():
        raise unsafe("is a link")
    if entry.ischr() or entry.isblk() or entry.isfifo():
        raise unsafe("is a device or a pipe")
    if not entry.isreg() and not entry.isdir():
        raise unsafe("is neither a file nor a folder")
    if entry.size < 0:
        raise unsafe("has a negative size")
    return [part for part in parts[strip:] if part != "."]


class _Entry(tarfile.TarInfo):
    """An entry whose header was really there.

    After the first entry tarfile takes a damaged or missing header for the archive's end.
    """

    @classmethod
    def frombuf(cls, buf: Any, *args: Any, **options: Any) -> _Entry:
        try:
            return super().frombuf(buf, *args, **options)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise  # a block of zeros is the proper end
            raise tarfile.ReadError(str(error)) from error


def _opened(stream: _Decompressed, called: str) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", tarinfo=_Entry, bufsize=_CHUNK)
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise DownloadError(
            f"{called} is not a tar archive (plain, or compressed with gzip, bzip2 or xz).",
            "Check the address; unpack any other kind of archive yourself, and bring it in with --path.",
        ) from error


def _next(tar: tarfile.TarFile, called: str) -> tarfile.TarInfo | None:
    try:
        return tar.next()
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise _damaged(called, str(error)) from error


class _Decompressed:
    """The stream with its compression undone: what tarfile reads."""

    def __init__(self, source: io.BufferedReader, called: str) -> None:
        self._source = source
        self._called = called
        start = source.peek(6)
        self._stream: IO[bytes]
        if start.startswith(b"\x1f\x8b"):
            self._stream = cast(IO[bytes], gzip.GzipFile(fileobj=source, mode="rb"))
        elif start.startswith(b"BZh"):
            self._stream = bz2.BZ2File(source)
        elif start.startswith(b"\xfd7zXZ\0"):
            self._stream = lzma.LZMAFile(source)  # noqa: SIM115 - `source` is its opener's to close
        else:
            self._stream = cast(IO[bytes], source)

    def read(self, count: int) -> bytes:
        try:
            return self._stream.read(count)
        except EOFError as error:
            raise _damaged(self._called, "its end is missing") from error
        except (OSError, zlib.error, lzma.LZMAError) as error:
            raise _damaged(self._called, str(error)) from error

    def drain(self) -> None:
        """Read to the end, so that checksums are checked and every byte is counted."""
        while self.read(_CHUNK):
            pass
        while self._source.read(_CHUNK):
            pass


def _damaged(called: str, reason: str) -> DownloadError:
    return DownloadError(
        f"{called} is cut short or damaged ({reason}).",
        "Download it again; if that does not help, the archive itself is broken: get it from elsewhere.",
    )
