"""Turns a file that holds a model into versions in models/NAME, the same way from a URL and from a disk."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.lib.common import console, disk
from tasks.lib.common.errors import DownloadError, ModelError
from tasks.lib.common.settings import Paths, Settings
from tasks.lib.models import digests, keras_file, publish, receive, store
from tasks.lib.models.store import Model, Origin, Reference

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from tasks.lib.models.http_file import RemoteFile


@dataclass(frozen=True)
class Archive:
    """An archive or Keras file to take in, and what is known of it beforehand."""

    url: str
    """Its address, or its path on this machine."""
    source: str
    """What Origin.source will say: official, url or path."""
    sha256: str | None = None
    """What it must have, lower case."""
    told_by: str = ""
    """Who says so, for the error."""
    strip_components: int | None = None
    """None: find the version folders."""


class LocalFile(io.RawIOBase):
    """A file on this machine, read once from its start to its end. Raises OSError, also while read."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.on_bytes: Callable[[int], object] = lambda count: None
        """Called with the number of bytes that were read."""
        self._digest = hashlib.sha256()
        self._file = path.open("rb", buffering=0)
        self.length: int | None = path.stat().st_size

    @property
    def sha256(self) -> str:
        """SHA-256, in hex, of everything read so far."""
        return self._digest.hexdigest()

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        count = self._file.readinto(view) or 0
        self._digest.update(view[:count])
        self.on_bytes(count)
        return count


def there(
    paths: Paths, reference: Reference, fits: Callable[[Origin], bool], sha256: str | None
) -> Model | None:
    """The newest version on disk that is `wanted`, has a fitting origin, and came from an archive with
    this `sha256` if one is given. Raises DownloadError if it came from another."""
    for version in reversed(store.versions(paths, reference.name)):
        if reference.version in (None, version):
            model = store.load(paths, reference.name, version)
            archive = model.origin.archive_sha256
            if not fits(model.origin) or (sha256 is not None and archive is None):
                continue
            if sha256 is not None and archive != sha256:
                raise DownloadError(
                    f"{model} is there already, from an archive with SHA-256 {archive} and not {sha256}.",
                    f"Remove {paths.shown(model.folder)} to replace it, or correct --sha256.",
                )
            return model
    return None


def taken_in(
    settings: Settings,
    reference: Reference,
    archive: Archive,
    source: RemoteFile | LocalFile,
    partial: Path,
) -> list[Model]:
    """Check, unpack or export what `source` yields, and move it into place; `partial` is for the work."""
    paths = settings.paths
    shown = paths.shown(paths.models)
    if isinstance(source, LocalFile):
        file, address, called = source.path, str(source.path.resolve()), str(source.path)
    else:
        file, address, called = None, source.url, f"The file at {source.url}"
    with console.progress(reference.name, source.length) as bar:
        source.on_bytes = bar.update
        received = receive.received(_buffered(source), file, partial, archive.strip_components, called, shown)
    digest = source.sha256
    _check_digest(paths, archive, address, called, digest)
    if received.keras is not None:
        known = there(paths, reference, lambda origin: origin.archive_sha256 == digest, None)
        if known is not None:
            _remember(paths, address, digest, file)
            return [known]
        exported = partial / "exported"
        keras_file.export(settings, received.keras, exported, called, reference.name)
        offered: Mapping[int | None, Path] = {None: exported}
    else:
        assert received.folder is not None
        offered = receive.versions_in(received.folder, called, reference.name, archive.strip_components)
    versions = _numbered(paths, reference, offered, called)
    with publish.placed(paths, reference.name, versions, archive.source, address, digest) as models:
        _remember(paths, address, digest, file)
    return models


def _buffered(source: io.RawIOBase) -> io.BufferedReader:
    return io.BufferedReader(source, receive.BUFFER)


def _numbered(
    paths: Paths, reference: Reference, offered: Mapping[int | None, Path], called: str
) -> dict[int, Path]:
    """Those of the folders in `offered` that are `wanted`, by the version that each becomes.

    One without a number is the version that `wanted` names, or that has the same content already, or else
    the next free one. Raises ModelError if `wanted` names one that is not offered.
    """
    if None in offered:
        folder = offered[None]
        present = store.versions(paths, reference.name)
        digest = store.content_digest(folder)
        same = [number for number, place in present.items() if store.content_digest(place) == digest]
        next_free = max(present, default=0) + 1
        return {reference.version or (max(same) if same else next_free): folder}
    numbers = {number: folder for number, folder in offered.items() if number is not None}
    if reference.version is None:
        return numbers
    if reference.version not in numbers:
        raise ModelError(
            f"{called} holds no version {reference.version} but {', '.join(map(str, numbers))}.",
            f"Ask for one of these, or for {reference.name} without a version.",
        )
    return {reference.version: numbers[reference.version]}


def _remember(paths: Paths, address: str, digest: str, file: Path | None) -> None:
    """Record what the URL `address` gave; of a `file` nothing is recorded, as it is the person's own."""
    if file is None:
        try:
            digests.record(paths, address, digest)
        except OSError as error:
            raise disk.unwritable(paths.shown(paths.models), error) from error


def _check_digest(paths: Paths, archive: Archive, address: str, called: str, digest: str) -> None:
    """Raises DownloadError if `digest` is not what was told, or else what was first downloaded."""
    if archive.sha256 is not None:
        if digest != archive.sha256:
            raise DownloadError(
                f"{called} has SHA-256 {digest}, not {archive.sha256} as {archive.told_by} says.",
                "Check the address or path, and the checksum; if both are right, the file was changed.",
            )
        return
    known = digests.read(paths).get(address)
    if known is not None and digest != known.sha256:
        raise DownloadError(
            f"{called} has SHA-256 {digest}; when it was first downloaded ({known.seen}) it had "
            f"{known.sha256}.",
            "If the new one is to be trusted, remove the line of this address from "
            f"{paths.shown(digests.path(paths))} and try again.",
        )


def newest(models: list[Model]) -> Model:
    """The one with the highest version."""
    return max(models, key=lambda model: model.version)
