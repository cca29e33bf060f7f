"""Unpacks a tar archive from a stream, trusting nothing in it.

What an archive of a SavedModel needs is regular files and folders, so nothing else is let in: no
links, no devices, no name that leads out of the folder. The compression (gzip, bzip2, xz, zstd, none)
is undone here and not by tarfile, which neither checks gzip's checksum in a stream nor notices one
that was cut short between two files.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from tasks.lib.common import disk
from tasks.lib.common.errors import DownloadError
from tasks.lib.models.unpacking import CHUNK, Unpacking, damaged


def unpack(source: io.BufferedReader, target: Path, strip_components: int, called: str, shown: str) -> int:
    """Unpack the archive that `source` yields into the new folder `target`; return the bytes written.

    `strip_components` leading parts of each name are dropped, as tar does ("./" counts as one), and
    entries with no more parts than that are left out. `source` is read to its end. Files get mode
    0644 and folders 0755. `called` and `shown` name the archive and the models folder in errors.

    Raises DownloadError if it is no tar archive, is cut short or damaged, has an entry that is
    unsafe or appears twice, or does not fit on the disk; what was unpacked till then is left there.
    """
    stream = _Decompressed(source, called)
    try:
        unpacking = Unpacking(target, strip_components, called, shown)
        with _opened(stream, called) as tar:
            while (entry := _next(tar, called)) is not None:
                what = _refused(entry)
                if what is not None:
                    raise unpacking.unsafe(entry.name, what)
                unpacking.add(entry.name, entry.size, None if entry.isdir() else _content(tar, entry, called))
        stream.drain()
    except OSError as error:
        raise disk.unwritable(shown, error) from error
    return unpacking.written


def _refused(entry: tarfile.TarInfo) -> str | None:
    """Why the entry is not one that a SavedModel needs; None if it is."""
    if entry.issym() or entry.islnk():
        return "is a link"
    if entry.ischr() or entry.isblk() or entry.isfifo():
        return "is a device or a pipe"
    if not entry.isreg() and not entry.isdir():
        return "is neither a file nor a folder"
    if entry.size < 0:
        return "has a negative size"
    return None


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo, called: str) -> Iterator[bytes]:
    """The content of a file, piece by piece. Raises DownloadError for a damaged archive."""
    content = tar.extractfile(entry)
    if content is None:
        raise damaged(called, f"{entry.name!r} has no content")
    while True:
        try:
            chunk = content.read(CHUNK)
        except tarfile.TarError as error:
            raise damaged(called, str(error)) from error
        if not chunk:
            return
        yield chunk


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
        return tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", tarinfo=_Entry, bufsize=CHUNK)
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise DownloadError(
            f"{called} is not an archive (zip, or tar: plain, or compressed with gzip, bzip2, xz or zstd), "
            "and not a Keras file.",
            "Check the address or path; unpack any other kind of archive yourself and use --path.",
        ) from error


def _next(tar: tarfile.TarFile, called: str) -> tarfile.TarInfo | None:
    try:
        return tar.next()
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise damaged(called, str(error)) from error


class _Decompressed:
    """The stream with its compression undone: what tarfile reads."""

    def __init__(self, source: io.BufferedReader, called: str) -> None:
        self._source = source
        self._called = called
        start = source.peek(6)
        self._stream: IO[bytes]
        self._errors: tuple[type[Exception], ...] = (OSError, zlib.error, lzma.LZMAError)
        if start.startswith(b"\x1f\x8b"):
            self._stream = cast(IO[bytes], gzip.GzipFile(fileobj=source, mode="rb"))
        elif start.startswith(b"BZh"):
            self._stream = bz2.BZ2File(source)
        elif start.startswith(b"\xfd7zXZ\0"):
            self._stream = lzma.LZMAFile(source)  # noqa: SIM115 - `source` is its opener's to close
        elif start.startswith(b"\x28\xb5\x2f\xfd"):
            from backports import zstd  # here, as few archives need it

            self._stream = cast(IO[bytes], zstd.ZstdFile(source))
            self._errors = (OSError, zstd.ZstdError)
        else:
            self._stream = cast(IO[bytes], source)

    def read(self, count: int) -> bytes:
        try:
            return self._stream.read(count)
        except EOFError as error:
            raise damaged(self._called, "its end is missing") from error
        except self._errors as error:
            raise damaged(self._called, str(error)) from error

    def drain(self) -> None:
        """Read to the end, so that checksums are checked and every byte is counted."""
        while self.read(CHUNK):
            pass
        while self._source.read(CHUNK):
            pass
