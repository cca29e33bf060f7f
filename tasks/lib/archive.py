"""Unpacks a tar archive from a stream, or a zip archive from a file, trusting nothing in it.

What an archive of a SavedModel needs is regular files and folders, so nothing else is let in: no
links, no devices, no name that leads out of the folder. The compression of a tar archive (gzip, bzip2, xz,
zstd, none) is undone here and not by tarfile, which neither checks gzip's checksum in a stream nor notices
one that was cut short between two files.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, cast

from tasks.lib import disk
from tasks.lib.errors import DownloadError

_CHUNK = 64 << 10
"""Bytes handled at once."""
_ZSTD_CHUNK = 512
"""The same of zstd, which can make 32,000 bytes of one."""


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
                    raise _claimed_twice(called, entry.name) from error
                except OSError as error:
                    if disk.is_full(error):
                        raise disk.full(shown, called, written + entry.size, room) from error
                    raise
        stream.drain()
    except OSError as error:
        raise disk.unwritable(shown, error) from error
    return written


def unpack_zip(file: Path, target: Path, strip_components: int, called: str, shown: str) -> int:
    """Unpack a zip archive, which has its list of entries at its end, as `unpack` does a tar archive."""
    written = 0
    try:
        disk.make_folder(target)
        room = disk.free(target)
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            total = sum(entry.file_size for entry in entries)
            if total > room:
                raise disk.full(shown, called, total, room)
            for entry in entries:
                parts = _zip_parts(entry, strip_components, called)
                if not parts:
                    continue
                place = target.joinpath(*parts)
                try:
                    if entry.is_dir():
                        _make_folder(place)
                    else:
                        _make_folder(place.parent)
                        with archive.open(entry) as content:
                            written += _write_content(content, place)
                except (FileExistsError, NotADirectoryError) as error:
                    raise _claimed_twice(called, entry.filename) from error
                except OSError as error:
                    if disk.is_full(error):
                        raise disk.full(shown, called, written + entry.file_size, room) from error
                    raise
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
        raise _damaged(called, str(error)) from error
    except OSError as error:
        raise disk.unwritable(shown, error) from error
    return written


def is_zip(start: bytes) -> bool:
    """Whether a file that begins so is a zip archive."""
    return start.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def _zip_parts(entry: zipfile.ZipInfo, strip: int, called: str) -> list[str]:
    """The parts of the entry's name after stripping. Raises DownloadError if it is not safe."""
    mode = entry.external_attr >> 16
    if stat.S_ISLNK(mode):
        raise _unsafe(called, "is a link", entry.filename)
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _unsafe(called, "is neither a file nor a folder", entry.filename)
    if entry.flag_bits & 1:
        raise _unsafe(called, "is encrypted", entry.filename)
    if "\\" in entry.orig_filename:
        raise _unsafe(called, "has a backslash in its name", entry.orig_filename)
    return _safe_parts(entry.orig_filename, strip, called)


def _claimed_twice(called: str, name: str) -> DownloadError:
    return DownloadError(
        f"{called} has two entries that claim the same place: {name!r}.",
        "Do not use this archive unless you trust its maker; it has to be packed again.",
    )


def _make_folder(place: Path) -> None:
    if place.exists() and not place.is_dir():
        raise FileExistsError(place)
    disk.make_folder(place)


def _write(tar: tarfile.TarFile, entry: tarfile.TarInfo, place: Path, called: str) -> None:
    """Write a file that must not exist yet. Raises OSError, and DownloadError for a damaged archive."""
    content = tar.extractfile(entry)
    if content is None:
        raise _damaged(called, f"{entry.name!r} has no content")
    try:
        _write_content(content, place)
    except tarfile.TarError as error:
        raise _damaged(called, str(error)) from error


def _write_content(content: IO[bytes], place: Path) -> int:
    """Write a file that must not exist yet; return its bytes. Raises OSError, and what `content` raises."""
    written = 0
    with place.open("xb") as file:
        os.fchmod(file.fileno(), disk.FILE_MODE)
        while chunk := content.read(_CHUNK):
            written += file.write(chunk)
    return written


def _parts(entry: tarfile.TarInfo, strip: int, called: str) -> list[str]:
    """The parts of the entry's name after stripping. Raises DownloadError if it is not safe."""
    parts = _safe_parts(entry.name, strip, called)
    if entry.issym() or entry.islnk():
        raise _unsafe(called, "is a link", entry.name)
    if entry.ischr() or entry.isblk() or entry.isfifo():
        raise _unsafe(called, "is a device or a pipe", entry.name)
    if not entry.isreg() and not entry.isdir():
        raise _unsafe(called, "is neither a file nor a folder", entry.name)
    if entry.size < 0:
        raise _unsafe(called, "has a negative size", entry.name)
    return parts


def _safe_parts(name: str, strip: int, called: str) -> list[str]:
    """The parts of a name after stripping. Raises DownloadError if it leads elsewhere."""
    if name.startswith("/"):
        raise _unsafe(called, "has an absolute name", name)
    parts = [part for part in name.split("/") if part]
    if ".." in parts:
        raise _unsafe(called, "leads out of the folder", name)
    if "\0" in name:
        raise _unsafe(called, "has a name that no file can have", name)
    return [part for part in parts[strip:] if part != "."]


def _unsafe(called: str, what: str, name: str) -> DownloadError:
    return DownloadError(
        f"{called} has an entry that {what}: {name!r}.",
        "Do not use this archive unless you trust its maker; then unpack it yourself and use --path.",
    )


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
            f"{called} is not a tar archive (plain, or with gzip, bzip2, xz or zstd), nor a zip archive.",
            "Check the address or the file; unpack others yourself, and bring the folder in with --path.",
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
        elif start.startswith(b"\x28\xb5\x2f\xfd"):
            self._stream = cast(IO[bytes], _Zstandard(source))
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


class _Zstandard:
    """Undoes zstd. zstandard's own streams take one that was cut short for a whole one."""

    def __init__(self, source: io.BufferedReader) -> None:
        self._source = source
        self._frame: Any = None
        self._ready = b""

    def read(self, count: int) -> bytes:
        """Up to `count` bytes; none at the end. Raises EOFError if the end is missing, OSError if damaged."""
        import zstandard

        while not self._ready:
            packed = self._source.read(_ZSTD_CHUNK)
            if not packed:
                if self._frame is not None:
                    raise EOFError
                return b""
            try:
                while packed:
                    self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
                    self._ready += self._frame.decompress(packed)
                    packed = self._frame.unused_data if self._frame.eof else b""
                    self._frame = None if self._frame.eof else self._frame
            except zstandard.ZstdError as error:
                raise OSError(str(error)) from error
        part, self._ready = self._ready[:count], self._ready[count:]
        return part


def _damaged(called: str, reason: str) -> DownloadError:
    return DownloadError(
        f"{called} is cut short or damaged ({reason}).",
        "Download it again; if that does not help, the archive itself is broken: get it from elsewhere.",
    )
