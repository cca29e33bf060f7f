"""Writing to disk: readable by other users, whole or not at all, and failures as sentences."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from tasks.lib.common import console
from tasks.lib.common.errors import DownloadError

FILE_MODE = 0o644
FOLDER_MODE = 0o755
"""Whatever the umask says: a container that root starts reads the models as another user."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def make_folder(folder: Path) -> list[Path]:
    """Make `folder` and what is missing above it; return the new ones, innermost first.

    Raises OSError.
    """
    missing: list[Path] = []
    above = folder
    while not above.is_dir():
        missing.append(above)
        above = above.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        new.chmod(FOLDER_MODE)
    return missing


def write_text(path: Path, text: str) -> None:
    """Replace the contents of `path` in one step: a reader sees the old or the new, never a part.

    Raises OSError.
    """
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(FILE_MODE)
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


def make_readable(folder: Path) -> None:
    """Give everything in `folder` the modes that the suite's own files have. Raises OSError."""
    folder.chmod(FOLDER_MODE)
    for parent, folders, files in os.walk(folder):
        for name in folders:
            (Path(parent) / name).chmod(FOLDER_MODE)
        for name in files:
            (Path(parent) / name).chmod(FILE_MODE)


def free(folder: Path) -> int:
    """Bytes that can still be written below `folder`."""
    return shutil.disk_usage(folder).free


def full(shown: str, what: str, needed: int, room: int) -> DownloadError:
    """The error for `what` (bytes `needed`, at least) not fitting the `room` under `shown`."""
    return DownloadError(
        f"The disk that holds {shown} is too full: {what} needs at least {console.size(needed)} there, "
        f"and {console.size(room)} are free.",
        "Free disk space, or choose a folder on another disk with INVOKE_PATHS_MODELS.",
    )


def is_full(error: OSError) -> bool:
    """Whether `error` says that no more can be written (disk, quota or file size limit)."""
    return error.errno in _FULL


def unwritable(shown: str, error: OSError) -> DownloadError:
    """The error for `error`, met while writing below the folder that a person knows as `shown`."""
    reason = error.strerror or type(error).__name__
    if is_full(error):
        return DownloadError(
            f"The disk that holds {shown} is full ({reason}).",
            "Free disk space, or choose a folder on another disk with INVOKE_PATHS_MODELS.",
        )
    if error.errno in _FORBIDDEN:
        return DownloadError(
            f"{shown} cannot be written to ({reason}).",
            "Make it writable for you, or choose another folder with INVOKE_PATHS_MODELS.",
        )
    return DownloadError(
        f"Writing below {shown} failed ({reason}).",
        "Look at what is there, or choose another folder with INVOKE_PATHS_MODELS.",
    )
