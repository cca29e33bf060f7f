"""The models on disk: models/NAME/VERSION/ with a saved_model.pb, and where each came from."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from tasks.lib.common import disk
from tasks.lib.common.errors import ModelError
from tasks.lib.common.settings import AUTO, Paths

SAVED_MODEL = "saved_model.pb"

RESERVED = frozenset({"samples", "labels", "catalog.toml", "digests.json", "readme.md", AUTO})
"""What is in models/ next to the models, and what means another one."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# TensorFlow Serving reads versions as 64 bit integers and takes leading zeros.
_VERSION = re.compile(r"0*[1-9][0-9]{0,17}")
_CHUNK = 1 << 20


WARNINGS = {
    "seeded": "weights: seeded: timings hold, classes mean nothing",
    "changed": "weights: changed since they were brought in",
}


@dataclass(frozen=True)
class Origin:
    """Where a model version came from. Kept next to it as models/NAME/VERSION.origin.json."""

    source: str
    """official, package, seeded, url, path, or changed: its files are no longer those that were recorded."""
    address: str
    """The URL or folder; of a package NAME==VERSION; for seeded weights, the recipe and seed. Where a person
    had a hand in it, the version folder itself."""
    archive_sha256: str | None
    """Of the archive or Keras file as it came; None where there was none."""
    content_sha256: str
    """Of the version folder's files and their names."""

    @property
    def warning(self) -> str | None:
        """What must be said with every result of this model."""
        return WARNINGS.get(self.source)

    @property
    def summary(self) -> str:
        """Where the weights are from, in a few words: "weights: official"."""
        if self.source in ("url", "path", "package"):
            return f"weights: from {self.address}"
        return self.warning or f"weights: {self.source}"


@dataclass(frozen=True)
class Model:
    """One version of one model on disk."""

    name: str
    version: int
    folder: Path
    """models/NAME/VERSION; its parent is what a server is pointed at."""
    origin: Origin

    @property
    def base(self) -> Path:
        """The folder of all versions: what `--model_base_path` means."""
        return self.folder.parent

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Reference:
    """What a person calls a model: NAME, or NAME@VERSION."""

    name: str
    version: int | None

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}@{self.version}"


def is_name(text: str) -> bool:
    """Whether a model can have this name: it must be safe as a folder's name, and not be taken."""
    return _NAME.fullmatch(text) is not None and text.lower() not in RESERVED


def version_number(folder_name: str) -> int | None:
    """The version that a folder of this name holds; None if it cannot be a version folder."""
    return int(folder_name) if _VERSION.fullmatch(folder_name) else None


def parse(reference: str) -> Reference:
    """Read NAME or NAME@VERSION. Raises ModelError."""
    name, at, version_text = reference.partition("@")
    if not is_name(name):
        taken = name.lower() in RESERVED
        raise ModelError(
            f"{name!r} cannot be the name of a model" + (": it means something else." if taken else "."),
            "Begin with a letter or digit and go on with letters, digits, '.', '_' and '-' (100 at most).",
        )
    version = version_number(version_text)
    if at and version is None:
        raise ModelError(
            f"{version_text!r} in {reference!r} is not a version: versions are whole numbers from 1.",
            f"Write {name}@NUMBER, or {name} for its newest version.",
        )
    return Reference(name, version)


def versions(paths: Paths, name: str) -> dict[int, Path]:
    """The version folders of `name` that hold a SavedModel, oldest first. Empty if there are none."""
    base = paths.models / name
    if not base.is_dir():
        return {}
    numbered: dict[int, Path] = {}
    for folder in base.iterdir():
        number = version_number(folder.name)
        if number is None or not (folder / SAVED_MODEL).is_file():
            continue
        # Of 7 and 007 the plain one counts: it is the one that the suite makes.
        if number not in numbered or folder.name == str(number):
            numbered[number] = folder
    return dict(sorted(numbered.items()))


def find(paths: Paths, reference: str) -> Model:
    """The model that `reference` means; for a NAME, its newest version.

    Raises ModelError if it is not on disk, naming the command that brings it.
    """
    named = parse(reference)
    present = versions(paths, named.name)
    if not present:
        raise ModelError(
            f"There is no model {named.name!r} in {paths.shown(paths.models)}.",
            f"Bring it in with `invoke download --model {named.name}` "
            "(and --url or --path if models/catalog.toml does not list it).",
        )
    version = max(present) if named.version is None else named.version
    if version not in present:
        raise ModelError(
            f"{named.name} has no version {version}, but {', '.join(map(str, present))}.",
            f"Name one of these, or bring it in: `invoke download --model {named.name}`, --url or --path.",
        )
    return load(paths, named.name, version)


def load(paths: Paths, name: str, version: int) -> Model:
    """One version that `versions` lists. Raises ModelError if it or its origin record cannot be read.

    Its files are compared with the record, so that nothing is said of weights that were replaced.
    """
    folder = versions(paths, name)[version]
    return Model(name, version, folder, _origin(paths, folder))


def is_ours(folder: Path) -> bool:
    """Whether the version in `folder` is as the suite put it there, and not a person's own."""
    try:
        recorded = _recorded(folder)
        return recorded is not None and recorded.content_sha256 == content_digest(folder)
    except (ValueError, OSError):
        return False


def saved_models(folder: Path) -> list[Path]:
    """The folders at or below `folder` that hold a SavedModel, sorted. Links are not followed."""
    saved = []
    for parent, folders, files in os.walk(folder):
        if SAVED_MODEL in files:
            saved.append(Path(parent))
            folders.clear()  # what is inside a SavedModel belongs to it
    return sorted(saved)


def content_digest(folder: Path) -> str:
    """SHA-256, in hex, over the names (relative, sorted) and contents of all files in `folder`.

    See `files_digest`. It is worked out once for files that stay as they are: they may have gigabytes,
    and several tasks of a chain ask. Raises OSError.
    """
    paths = [Path(parent) / name for parent, _, names in os.walk(folder) for name in names]
    return _digest_of(tuple((path.relative_to(folder), path, _stamp(path)) for path in sorted(paths)))


@functools.cache
def _digest_of(files: tuple[tuple[Path, Path, tuple[int, ...]], ...]) -> str:
    return files_digest({name: path for name, path, _ in files})


def _stamp(path: Path) -> tuple[int, ...]:
    """What another file in its place, or another content, would not have."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def files_digest(files: Mapping[Path, Path]) -> str:
    """SHA-256, in hex, over relative names and the files that they stand for, sorted by name.

    For each file: its name in UTF-8, a zero byte, its size in decimal, a zero byte, its bytes. Modes
    and times do not count, so that a copy has the digest of its original. Raises OSError.
    """
    digest = hashlib.sha256()
    for name, path in sorted((os.fsencode(name.as_posix()), path) for name, path in files.items()):
        with path.open("rb") as file:
            digest.update(name + b"\0" + str(os.fstat(file.fileno()).st_size).encode() + b"\0")
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def origin_record(folder: Path) -> Path:
    """Where the origin of the version in `folder` is kept: next to it, so that it stays as it came."""
    return folder.parent / f"{folder.name}.origin.json"


def write_origin(folder: Path, origin: Origin) -> None:
    """Record where the version in `folder` came from. Raises OSError."""
    disk.write_text(origin_record(folder), json.dumps(asdict(origin), indent=2) + "\n")


def _origin(paths: Paths, folder: Path) -> Origin:
    record = origin_record(folder)
    try:
        recorded, content = _recorded(folder), content_digest(folder)
    except ValueError:
        raise ModelError(
            f"{paths.shown(record)} is damaged, so where this model came from is unknown.",
            f"Remove {paths.shown(folder)} and {paths.shown(record)}, and download the model again.",
        ) from None
    except OSError as error:
        raise ModelError(
            f"{error.filename} cannot be read ({error.strerror}).",
            "Make it readable for you, and try again.",
        ) from error
    if recorded is None:
        return Origin("path", paths.shown(folder), None, content)
    return (
        recorded
        if recorded.content_sha256 == content
        else Origin("changed", paths.shown(folder), None, content)
    )


def _recorded(folder: Path) -> Origin | None:
    """What was recorded of the version in `folder`; None for one that a person put there by hand.

    Raises ValueError if the record is damaged.
    """
    try:
        table = json.loads(origin_record(folder).read_text(encoding="utf-8"))
        return Origin(**{field.name: table[field.name] for field in fields(Origin)})
    except FileNotFoundError:
        return None
    except (KeyError, TypeError) as error:
        raise ValueError from error
