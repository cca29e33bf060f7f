"""Copies a SavedModel that a person already has. Their folder is only ever read."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tasks.lib.common import console, disk
from tasks.lib.common.errors import ModelError
from tasks.lib.models import store


@dataclass(frozen=True)
class File:
    """One file to copy."""

    source: Path
    """Resolved: no link."""
    name: Path
    """Relative to the version folder."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Offer:
    """A SavedModel in a person's folder."""

    version: int | None
    """None if nothing says which version it is."""
    files: tuple[File, ...]

    def content_digest(self) -> str:
        """What `store.content_digest` will say of the copy. Raises ModelError."""
        try:
            return store.files_digest({file.name: file.source for file in self.files})
        except OSError as error:
            raise unreadable(error) from error


def offered(folder: Path, version: int | None = None) -> list[Offer]:
    """The SavedModels in `folder`; only `version` if that is given.

    A folder that is a SavedModel itself offers one, as `version` or else as the number that is its
    name. Any other folder offers its numeric subfolders that are SavedModels. Links are followed.

    Raises ModelError if there is nothing to offer, for a link that leads out of `folder` or round in
    a circle, and for what is neither file nor folder.
    """
    try:
        return [
            Offer(number, tuple(_files(version_folder, folder)))
            for number, version_folder in _version_folders(folder, version)
        ]
    except OSError as error:
        raise unreadable(error) from error


def copy(offer: Offer, target: Path, label: str, shown: str) -> None:
    """Copy what `offer` has into the new folder `target`, with the modes of the suite's own files.

    Raises DownloadError if it does not fit or cannot be written (`shown` is what the models folder is
    called there), ModelError if a source cannot be read; what was copied till then is left there.
    """
    total = sum(file.size for file in offer.files)
    try:
        disk.make_folder(target)
        room = disk.free(target)
        if total > room:
            raise disk.full(shown, label, total, room)
        with console.progress(label, total) as bar:
            for file in offer.files:
                place = target / file.name
                disk.make_folder(place.parent)
                _copy_file(file.source, place)
                place.chmod(disk.FILE_MODE)
                bar.update(file.size)
    except OSError as error:
        raise disk.unwritable(shown, error) from error


def _copy_file(source: Path, place: Path) -> None:
    try:
        reader = source.open("rb")
    except OSError as error:
        raise unreadable(error) from error
    with reader, place.open("xb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)


def unreadable(error: OSError) -> ModelError:
    """The error for a file of a person's own that cannot be read."""
    return ModelError(
        f"{error.filename} cannot be read ({error.strerror}).", "Make it readable for you, and try again."
    )


def _version_folders(folder: Path, version: int | None) -> list[tuple[int | None, Path]]:
    if not folder.is_dir():
        what = "is neither a folder nor a file" if folder.exists() else "does not exist"
        raise ModelError(
            f"{folder} {what}.",
            "Give --path a SavedModel's folder (with saved_model.pb), an archive of it, or a Keras file.",
        )
    if (folder / store.SAVED_MODEL).is_file():
        # The name of "." or of a link is that of the folder it leads to.
        own = store.version_number(folder.name) or store.version_number(folder.resolve().name)
        return [(version or own, folder)]
    inside = [
        (number, place)
        for place in folder.iterdir()
        if (number := store.version_number(place.name)) is not None and (place / store.SAVED_MODEL).is_file()
    ]
    numbers = sorted(number for number, _ in inside)
    if not inside:
        raise ModelError(
            f"{folder} is not a SavedModel: neither it nor a numeric folder in it has a {store.SAVED_MODEL}.",
            f"Give --path the folder that holds {store.SAVED_MODEL}, or the one with the version folders.",
        )
    if len(set(numbers)) < len(numbers):
        raise ModelError(
            f"{folder} holds a version twice ({', '.join(sorted(place.name for _, place in inside))}).",
            "Give --path the one version folder that you mean.",
        )
    if version is not None and version not in numbers:
        raise ModelError(
            f"{folder} has no version {version}; it has: {', '.join(map(str, numbers))}.",
            "Name one of these, or leave out the version to bring them all in.",
        )
    return sorted((number, place) for number, place in inside if version in (None, number))


def _files(version: Path, inside: Path) -> list[File]:
    """Every file below `version`, links followed. Raises ModelError and OSError."""
    root = inside.resolve()
    files: list[File] = []

    def gather(folder: Path, name: Path, above: tuple[Path, ...]) -> None:
        for place in sorted(folder.iterdir()):
            real = place.resolve()
            if not real.is_relative_to(root):
                raise leads_out(place, real)
            if real.is_dir():
                if real in above:
                    raise ModelError(f"{place} is a circular link.", "Remove it, and try again.")
                gather(real, name / place.name, (*above, real))
            elif real.is_file():
                files.append(File(real, name / place.name, real.stat().st_size))
            else:
                what = "a link that leads nowhere" if place.is_symlink() else "neither a file nor a folder"
                raise ModelError(f"{place} is {what}.", "Remove it, and try again.")

    def leads_out(link: Path, real: Path) -> ModelError:
        return ModelError(
            f"{link} is a link that leads out of {inside}, to {real}.",
            "Put a copy of what it leads to in its place, or give --path a folder that holds both.",
        )

    start = version.resolve()
    if not start.is_relative_to(root):
        raise leads_out(version, start)
    gather(start, Path(), (start,))
    return files
