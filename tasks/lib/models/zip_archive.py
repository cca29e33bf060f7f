"""Unpacks a zip archive, trusting nothing in it.

What the directory at its end says is compared with what is in front of it: sizes and checksums are those
of the bytes that were really unpacked.
"""

from __future__ import annotations

import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from tasks.lib.common import disk
from tasks.lib.common.errors import DownloadError
from tasks.lib.models.unpacking import CHUNK, Unpacking, damaged

START = b"PK\x03\x04"
"""How a zip archive begins that holds something."""

_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Those that packers use by default. Others need more memory, or libraries that are not everywhere."""
_ENCRYPTED = 0x2041
"""Bits of the general purpose flag (APPNOTE.TXT 4.4.4): encrypted, strongly encrypted, hidden headers."""
_LOCAL_HEADER = 30
"""Bytes of an entry's local header without its name (APPNOTE.TXT 4.3.7)."""
_BAD = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    IndexError,
    NotImplementedError,
    RuntimeError,
)
"""What Python's zipfile raises for archives that are not as they should be."""


def unpack(source: Path, target: Path, strip_components: int, called: str, shown: str) -> int:
    """Unpack the zip archive `source` into the new folder `target`; return the bytes written.

    `strip_components`, modes, `called` and `shown` are as in tasks.lib.models.tar_archive. Raises
    DownloadError as that does, and for an entry that is encrypted or overlaps another; what was unpacked till
    then is left there.
    """
    try:
        try:
            opened = zipfile.ZipFile(source)
        except _BAD as error:
            raise damaged(called, str(error)) from error
        with opened as archive:
            unpacking = Unpacking(target, strip_components, called, shown)
            entries = archive.infolist()
            # All are looked at before anything is written: the directory says what will come.
            for entry in entries:
                _check(entry, unpacking)
            _check_overlap(entries, called)
            unpacking.check_room(sum(entry.file_size for entry in entries))
            for entry in entries:
                content = None if _is_folder(entry) else _content(archive, entry, called)
                unpacking.add(entry.orig_filename, entry.file_size, content)
            return unpacking.written
    except OSError as error:
        raise disk.unwritable(shown, error) from error


def _is_folder(entry: zipfile.ZipInfo) -> bool:
    return entry.orig_filename.endswith("/")


def _check(entry: zipfile.ZipInfo, unpacking: Unpacking) -> None:
    """Raises DownloadError if the entry is not one that a SavedModel needs, or cannot be unpacked."""
    name = entry.orig_filename  # `filename` ends at the first NUL
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise unpacking.unsafe(name, "is a link")
    if kind in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO):
        raise unpacking.unsafe(name, "is a device or a pipe")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR) > _is_folder(entry):
        raise unpacking.unsafe(name, "is neither a file nor a folder")
    if entry.flag_bits & _ENCRYPTED:
        raise unpacking.unsafe(name, "is encrypted")
    if entry.compress_type not in _COMPRESSIONS:
        raise unpacking.unsafe(
            name, f"is compressed by method {entry.compress_type}, not by deflate, the usual one"
        )


def _check_overlap(entries: list[zipfile.ZipInfo], called: str) -> None:
    """Raises DownloadError if two entries share bytes: a few of them would unpack to any size."""
    end, before = 0, ""
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise DownloadError(
                f"{called} has entries that overlap: {before!r} and {entry.orig_filename!r}.",
                "Do not use this archive unless you trust its maker; it has to be packed again.",
            )
        before = entry.orig_filename
        end = entry.header_offset + _LOCAL_HEADER + entry.compress_size


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, called: str) -> Iterator[bytes]:
    """The content of a file, piece by piece. Raises DownloadError for a damaged archive."""
    count = 0
    try:
        with archive.open(entry) as content:
            while chunk := content.read(CHUNK):
                count += len(chunk)
                yield chunk
    except _BAD as error:
        raise damaged(called, str(error)) from error
    if count != entry.file_size:
        raise damaged(called, f"{entry.orig_filename!r} has {count} bytes, not {entry.file_size} as it says")
