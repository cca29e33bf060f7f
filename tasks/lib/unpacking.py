"""What files hold: the version folders in an archive, or the SavedModel that a Keras file becomes."""

from __future__ import annotations

from pathlib import Path

from tasks.lib import store
from tasks.lib.errors import ModelError
from tasks.lib.settings import Paths, Settings
from tasks.lib.store import Reference

FOUND_BY_ITSELF = (
    "Leave --strip-components away (in models/catalog.toml, strip_components): "
    "the version folder is found by itself then."
)


def versions_of(
    settings: Settings, wanted: Reference, file: Path, partial: Path, called: str, strip: int | None
) -> dict[int, Path]:
    """The version folders that a file holds, by number: of an archive, or exported from a Keras file.

    Raises ModelError, DownloadError, OSError if the file cannot be read.
    """
    from tasks.lib import exporting
    from tasks.lib.archive import is_zip, unpack, unpack_zip

    shown = settings.paths.shown(settings.paths.models)
    target = partial / "unpacked"
    if exporting.is_keras(file):
        exporting.export(settings, file, target, called, wanted.name)
        return {_number_for(settings.paths, wanted, target): target}
    with file.open("rb") as opened:
        start = opened.read(4)
    if is_zip(start):
        unpack_zip(file, target, strip or 0, called, shown)
    else:
        with file.open("rb") as source:
            unpack(source, target, strip or 0, called, shown)
    return versions_in(settings.paths, target, called, wanted, strip)


def versions_in(
    paths: Paths, folder: Path, called: str, wanted: Reference, strip: int | None
) -> dict[int, Path]:
    """The version folders of the one model that was unpacked into `folder`, by number.

    With `strip` None they may be at any depth, else they must be at the top. Only the version that is wanted,
    if one is. Raises ModelError.
    """
    name = wanted.name
    by_hand = f"Unpack it yourself and bring the model in with `invoke download --model {name} --path FOLDER`"
    found = [path.relative_to(folder) for path in store.saved_models(folder)]
    stripped = f" after dropping {strip} leading folder{'' if strip == 1 else 's'}" if strip else ""
    if not found:
        raise ModelError(
            f"{called} holds no SavedModel (a folder with {store.SAVED_MODEL}){stripped}.",
            FOUND_BY_ITSELF if strip else "Check the address.",
        )
    numbered = {path: number for path in found if (number := store.version_number(path.name)) is not None}
    if not numbered and len(found) == 1:
        if strip:
            where = "at its top" if found[0] == Path() else f"in {found[0]}"
            raise ModelError(
                f"{called} holds a SavedModel {where}{stripped}, but no version folder (named by a number).",
                FOUND_BY_ITSELF,
            )
        own = folder / found[0]
        return {_number_for(paths, wanted, own): own}
    parents = {path.parent for path in numbered}
    if len(parents) > 1 or len(numbered) < len(found) or len(set(numbered.values())) < len(numbered):
        raise ModelError(
            f"{called} holds more than one model: {', '.join(map(str, found))}.",
            f"{by_hand}, one after the other.",
        )
    if strip is not None and parents != {Path()}:
        raise ModelError(
            f"{called} has its version folder in {next(iter(numbered))}, not at the top{stripped}.",
            FOUND_BY_ITSELF,
        )
    versions = {number: folder / path for path, number in sorted(numbered.items(), key=lambda item: item[1])}
    if wanted.version is None:
        return versions
    if wanted.version not in versions:
        raise ModelError(
            f"{called} holds no version {wanted.version} but {', '.join(map(str, versions))}.",
            f"Ask for one of these, or for {wanted.name} without a version.",
        )
    return {wanted.version: versions[wanted.version]}


def _number_for(paths: Paths, wanted: Reference, folder: Path) -> int:
    """The version that a SavedModel without a number becomes.

    The one asked for, the one that is there with the same content, or the next free one.
    """
    if wanted.version is not None:
        return wanted.version
    existing = store.versions(paths, wanted.name)
    digest = store.content_digest(folder)
    for number in sorted(existing, reverse=True):
        if store.load(paths, wanted.name, number).origin.content_sha256 == digest:
            return number
    return max(existing, default=0) + 1
