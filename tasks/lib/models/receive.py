"""Takes in one file that holds a model: an archive, or a Keras file. Nothing in it is trusted.

What the file is, its first bytes say, not its name. A tar archive is unpacked while it arrives. The directory
of a zip archive is at its end, and HDF5 is read here and there, so those are on the disk first.
"""

from __future__ import annotations

import enum
import io
from dataclasses import dataclass
from pathlib import Path

from tasks.lib.common import disk
from tasks.lib.common.errors import DownloadError, ModelError
from tasks.lib.models import store, tar_archive, unpacking, zip_archive

BUFFER = 256 << 10
"""Bytes read ahead of the decompression, which asks for little at a time."""

FOUND_BY_ITSELF = (
    "Leave out --strip-components (in models/catalog.toml, strip_components): "
    "the version folder is found by itself then."
)

CHECK = "Check the address or path."
KERAS = (".keras", ".h5", ".hdf5")
"""How the names of Keras files end. Only advice depends on it."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
"""How an HDF5 file begins (HDF5 File Format Specification, II.A)."""
_KERAS_CONFIG = "config.json"
"""What the zip archive that Keras calls .keras holds at its top."""


class Kind(enum.Enum):
    """What a file is, as far as its first bytes tell. A .keras file is a zip archive."""

    TAR = "a tar archive"
    ZIP = "a zip archive"
    HDF5 = "a Keras file"


@dataclass(frozen=True)
class Received:
    """What was in the file."""

    folder: Path | None
    """What an archive held, unpacked; None for a Keras file."""
    keras: Path | None
    """The HDF5 file, or the folder with the parts of a .keras file; None for an archive."""


def kind_of(start: bytes) -> Kind:
    """What a file is that begins with `start` (8 bytes are enough). What is nothing else may be a tar."""
    if start.startswith(zip_archive.START):
        return Kind.ZIP
    return Kind.HDF5 if start.startswith(_HDF5) else Kind.TAR


def received(
    source: io.BufferedReader, file: Path | None, partial: Path, strip: int | None, called: str, shown: str
) -> Received:
    """Unpack or keep what `source` yields, below the folder `partial`; `source` is read to its end.

    `file` is where it is on the disk already. `strip` leading folders of an archive are dropped. `called` and
    `shown` name the file and the models folder in errors. Raises DownloadError as
    tasks.lib.models.tar_archive and tasks.lib.models.zip_archive do.
    """
    folder = partial / "unpacked"
    kind = kind_of(source.peek(len(_HDF5)))
    if kind is Kind.TAR:
        tar_archive.unpack(source, folder, strip or 0, called, shown)
        return Received(folder, None)
    here = _kept(source, file, partial, shown)
    if kind is Kind.HDF5:
        _refuse_strip(strip, called)
        return Received(None, here)
    zip_archive.unpack(here, folder, strip or 0, called, shown)
    if (folder / _KERAS_CONFIG).is_file() and not store.saved_models(folder):
        _refuse_strip(strip, called)
        return Received(None, folder)
    return Received(folder, None)


def _kept(source: io.BufferedReader, file: Path | None, partial: Path, shown: str) -> Path:
    """Read `source` to its end, and return where its content is: `file`, or else a new one."""
    kept = partial / "received"
    try:
        if file is not None:
            while source.read(unpacking.CHUNK):
                pass
            return file
        with kept.open("xb") as writer:
            while chunk := source.read(unpacking.CHUNK):
                writer.write(chunk)
        return kept
    except OSError as error:
        raise disk.unwritable(shown, error) from error


def _refuse_strip(strip: int | None, called: str) -> None:
    if strip is not None:
        raise DownloadError(
            f"--strip-components is about the folders of an archive, and {called} is a Keras file.",
            "Leave --strip-components away.",
        )


def versions_in(folder: Path, called: str, name: str, strip: int | None) -> dict[int | None, Path]:
    """The version folders of the one model that was unpacked into `folder`, by number.

    A SavedModel that is alone may be in a folder that is no number, and has the key None. With `strip` None
    they may be at any depth, else they must be at the top. Raises ModelError.
    """
    by_hand = f"Unpack it yourself and bring the model in with `invoke download --model {name} --path FOLDER`"
    folders = [path.relative_to(folder) for path in store.saved_models(folder)]
    stripped = f" after dropping {strip} leading folder{'' if strip == 1 else 's'}" if strip else ""
    if not folders:
        keras = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.suffix in KERAS)
        advice = f"Unpack it, and give --path the Keras file {keras[0]}." if keras else CHECK
        raise ModelError(
            f"{called} holds no SavedModel (a folder with {store.SAVED_MODEL}){stripped}.",
            FOUND_BY_ITSELF if strip else advice,
        )
    numbered = {path: number for path in folders if (number := store.version_number(path.name)) is not None}
    if len(folders) == 1 and not numbered:
        if strip is not None and folders != [Path()]:
            raise ModelError(
                f"{called} has its SavedModel in {folders[0]}, not at the top{stripped}.", FOUND_BY_ITSELF
            )
        return {None: folder / folders[0]}
    parents = {path.parent for path in numbered}
    if len(parents) > 1 or len(numbered) < len(folders) or len(set(numbered.values())) < len(numbered):
        raise ModelError(
            f"{called} holds more than one model: {', '.join(map(str, folders))}.",
            f"{by_hand}, one after the other.",
        )
    if strip is not None and parents != {Path()}:
        raise ModelError(
            f"{called} has its version folder in {next(iter(numbered))}, not at the top{stripped}.",
            FOUND_BY_ITSELF,
        )
    return {number: folder / path for path, number in sorted(numbered.items(), key=lambda item: item[1])}
