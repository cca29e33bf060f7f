"""Gets a model onto the disk: from its publisher, any URL, a folder, or the seeded build.

Whatever happens on the way, a version is there as a whole or not at all (see tasks.lib.placing).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.lib import adopt, catalog, console, digests, disk, placing, store
from tasks.lib.errors import DownloadError, ModelError, Unreachable
from tasks.lib.settings import Paths, Settings
from tasks.lib.store import Model, Origin, Reference

FOUND_BY_ITSELF = (
    "Leave --strip-components away (in models/catalog.toml, strip_components): "
    "the version folder is found by itself then."
)

SOURCES = ("auto", "official", "seeded")

_BUFFER = 256 << 10
"""Bytes read ahead of the decompression, which asks for little at a time."""


@dataclass(frozen=True)
class Archive:
    """An archive to fetch, and what is known of it beforehand."""

    url: str
    source: str
    """What Origin.source will say: official or url."""
    sha256: str | None = None
    """What it must have, lower case."""
    told_by: str = ""
    """Who says so, for the error."""
    strip_components: int | None = None
    """None: find the version folders."""


def ensure(
    settings: Settings,
    reference: str,
    source: str = "auto",
    sha256: str | None = None,
    strip_components: int | None = None,
) -> Model | None:
    """The model that `reference` means, brought in through the catalogue if it is not there.

    A model that is there costs no network and prints nothing. `source` is one of SOURCES: "auto"
    builds the seeded model if the official archive is Unreachable, unless `sha256` or
    `strip_components` (which replace the catalogue's) show that an archive is meant.

    Returns None only with settings.dry, when the model would have to be brought in first. Raises
    ModelError, DownloadError, or what the seeded build raises; nothing is left behind then.
    """
    wanted = store.parse(reference)

    def there() -> Model | None:
        return _there(settings.paths, wanted, lambda origin: source in ("auto", origin.source), sha256)

    found = there()
    if found is not None:
        if not settings.dry:
            placing.sweep(settings.paths, wanted.name)
        return found
    if catalog.find(settings.paths, wanted.name) is None and store.versions(settings.paths, wanted.name):
        return store.find(settings.paths, reference)  # raises, naming the versions that there are
    entry = catalog.get(settings.paths, wanted.name)
    archive = None
    if source != "seeded" and entry.url is not None:
        given = sha256 or entry.sha256
        told_by = "--sha256" if sha256 else settings.paths.shown(catalog.path(settings.paths))
        strip = entry.strip_components if strip_components is None else strip_components
        archive = Archive(entry.url, "official", given, told_by, strip)
    recipe = entry.seeded
    if source == "official" or sha256 is not None or strip_components is not None:
        recipe = None
    elif recipe is not None and wanted.version is not None:
        # A version asked for by its number comes from one source only.
        if wanted.version == _seeded_version():
            archive = None
        else:
            recipe = None
    if archive is None and recipe is None:
        raise ModelError(
            f"{wanted} cannot be had with --source {source}: the catalogue names no such source for it.",
            "Leave --source and the version away, or give an archive with --url.",
        )
    if settings.dry:
        from tasks.lib.remote import public

        plans = [f"download {public(archive.url)}"] if archive else []
        plans += [f"build the seeded model {recipe}"] if recipe else []
        plan = ", or where that cannot be reached ".join(plans)
        console.note(f"would {plan} into {_shown(settings.paths, wanted.name)}")
        return None
    with placing.working_on(settings.paths, wanted.name):
        found = there()
        if found is not None:
            return found
        if archive is not None:
            try:
                return _newest(_fetch(settings, wanted, archive))
            except Unreachable as error:
                if recipe is None:
                    raise
                console.note(f"{error.problem} Building the same architecture with seeded weights instead.")
        assert recipe is not None
        return _build_seeded(settings, wanted.name, recipe)


def from_url(
    settings: Settings,
    reference: str,
    url: str,
    sha256: str | None = None,
    strip_components: int | None = None,
) -> Model | None:
    """Bring the archive at `url` in under the name `reference`, beside what is there.

    Nothing is done if that name has a version from this URL. Returns the newest version that the
    archive holds, or None with settings.dry; raises as `ensure` does.
    """
    from tasks.lib.remote import public

    wanted = store.parse(reference)
    if wanted.version is not None:
        raise ModelError(
            f"{reference!r} names a version, but the archive's folders decide the version.",
            f"Give --model {wanted.name}.",
        )
    entry = catalog.find(settings.paths, wanted.name)
    source = "official" if entry is not None and entry.url == url else "url"
    archive = Archive(url, source, sha256, "--sha256", strip_components)
    known = digests.read(settings.paths).get(public(url))

    def there() -> Model | None:
        def fits(origin: Origin) -> bool:
            return origin.address == public(url) or (
                known is not None and origin.archive_sha256 == known.sha256
            )

        return _there(settings.paths, wanted, fits, sha256)

    found = there()
    if found is not None:
        if not settings.dry:
            placing.sweep(settings.paths, wanted.name)
        return found
    if settings.dry:
        console.note(f"would download {public(url)} into {_shown(settings.paths, wanted.name)}")
        return None
    with placing.working_on(settings.paths, wanted.name):
        return there() or _newest(_fetch(settings, wanted, archive))


def from_path(settings: Settings, reference: str, folder: Path) -> Model | None:
    """Copy the SavedModel in `folder` in under the name `reference`; `folder` is never changed.

    `folder` is a SavedModel (its version: the one in `reference`, else its name if that is a number,
    else the next free one from 1) or holds numeric version folders. What is there already with the
    same content is not copied again. Returns the newest version that `folder` holds, or None with
    settings.dry. Raises ModelError or DownloadError; nothing is left behind then.
    """
    wanted = store.parse(reference)
    paths = settings.paths
    offered = adopt.offered(folder, wanted.version)
    if settings.dry:
        what = ", ".join(
            "its SavedModel" if each.version is None else f"version {each.version}" for each in offered
        )
        console.note(f"would copy {what} from {folder} into {_shown(paths, wanted.name)}")
        return None
    with placing.working_on(paths, wanted.name):
        same = [_with_content(paths, wanted.name, each) for each in offered]
        there = [model for model in same if model is not None]
        if len(there) == len(offered):
            return _newest(there)
        with placing.workspace(paths, wanted.name) as partial:
            copies: dict[int, Path] = {}
            for each in offered:
                version = each.version or max(store.versions(paths, wanted.name), default=0) + 1
                copies[version] = partial / str(version)
                adopt.copy(each, copies[version], f"{wanted.name}@{version}", paths.shown(paths.models))
            with placing.placed(paths, wanted.name, copies, "path", str(folder.resolve()), None) as models:
                return _newest(models)


def _there(
    paths: Paths, wanted: Reference, fits: Callable[[Origin], bool], sha256: str | None
) -> Model | None:
    """The newest version on disk that is `wanted`, has a fitting origin, and came from an archive with
    this `sha256` if one is given. Raises DownloadError if it came from another."""
    for version in reversed(store.versions(paths, wanted.name)):
        if wanted.version in (None, version):
            model = store.load(paths, wanted.name, version)
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


def _fetch(settings: Settings, wanted: Reference, archive: Archive) -> list[Model]:
    """Download, check and unpack `archive`; start over if it is replaced meanwhile."""
    from tasks.lib.remote import Changed

    for _ in range(settings.download.retries):
        try:
            return _fetch_once(settings, wanted, archive)
        except Changed as changed:
            console.note(f"{changed.problem} Starting again.")
    return _fetch_once(settings, wanted, archive)


def _fetch_once(settings: Settings, wanted: Reference, archive: Archive) -> list[Model]:
    from tasks.lib.archive import unpack
    from tasks.lib.remote import RemoteFile

    paths = settings.paths
    shown = paths.shown(paths.models)
    with placing.workspace(paths, wanted.name) as partial:
        unpacked = partial / "unpacked"
        with RemoteFile(archive.url, settings.download) as remote:
            called = f"The archive at {remote.url}"
            room = disk.free(partial)
            if remote.length is not None and remote.length > room:
                raise disk.full(shown, called, remote.length, room)
            console.note(f"downloading {remote.url}")
            with console.progress(wanted.name, remote.length) as bar:
                remote.on_bytes = bar.update
                unpack(_buffered(remote), unpacked, archive.strip_components or 0, called, shown)
            digest = remote.sha256
        _check_digest(paths, archive, remote.url, digest)
        versions = _versions_in(unpacked, called, wanted.name, archive.strip_components)
        if wanted.version is not None and wanted.version not in versions:
            raise ModelError(
                f"{called} holds no version {wanted.version} but {', '.join(map(str, versions))}.",
                f"Ask for one of these, or for {wanted.name} without a version.",
            )
        with placing.placed(paths, wanted.name, versions, archive.source, remote.url, digest) as models:
            try:
                digests.record(paths, remote.url, digest)
            except OSError as error:
                raise disk.unwritable(shown, error) from error
    if wanted.version is not None:
        return [model for model in models if model.version == wanted.version]
    return models


def _buffered(remote: io.RawIOBase) -> io.BufferedReader:
    return io.BufferedReader(remote, _BUFFER)


def _build_seeded(settings: Settings, name: str, recipe: str) -> Model:
    from tasks.lib import seeded

    taken = store.versions(settings.paths, name).get(seeded.VERSION)
    if taken is not None:
        raise ModelError(
            f"{name}@{seeded.VERSION}, which the seeded model would become, is there already.",
            f"Remove {settings.paths.shown(taken)} to have it built.",
        )
    with placing.workspace(settings.paths, name) as partial:
        built = partial / "seeded"
        address = seeded.build(settings, recipe, built)
        try:
            disk.make_readable(built)
        except OSError as error:
            raise disk.unwritable(settings.paths.shown(settings.paths.models), error) from error
        with placing.placed(settings.paths, name, {seeded.VERSION: built}, "seeded", address, None) as models:
            return _newest(models)


def _seeded_version() -> int:
    from tasks.lib import seeded

    return seeded.VERSION


def _check_digest(paths: Paths, archive: Archive, address: str, digest: str) -> None:
    """Raises DownloadError if `digest` is not what was told, or else what was first downloaded."""
    if archive.sha256 is not None:
        if digest != archive.sha256:
            raise DownloadError(
                f"The archive at {address} has SHA-256 {digest}, "
                f"not {archive.sha256} as {archive.told_by} says.",
                "Check the address and the checksum; if both are right, somebody has changed the archive.",
            )
        return
    known = digests.read(paths).get(address)
    if known is not None and digest != known.sha256:
        raise DownloadError(
            f"The archive at {address} has SHA-256 {digest}; when it was first downloaded ({known.seen}) "
            f"it had {known.sha256}.",
            "If the new one is to be trusted, remove the line of this address from "
            f"{paths.shown(digests.path(paths))} and call again.",
        )


def _versions_in(folder: Path, called: str, name: str, strip: int | None) -> dict[int, Path]:
    """The version folders of the one model that was unpacked into `folder`, by number.

    With `strip` None they may stand at any depth, else they must stand at the top. Raises ModelError.
    """
    by_hand = f"Unpack it yourself and bring the model in with `invoke download --model {name} --path FOLDER`"
    found = [path.relative_to(folder) for path in store.saved_models(folder)]
    stripped = f" after dropping {strip} leading folder{'' if strip == 1 else 's'}" if strip else ""
    if not found:
        raise ModelError(
            f"{called} holds no SavedModel (a folder with {store.SAVED_MODEL}){stripped}.",
            FOUND_BY_ITSELF if strip else "Check the address.",
        )
    numbered = {path: number for path in found if (number := store.version_number(path.name)) is not None}
    if not numbered:
        where = "at its top" if found[0] == Path() else f"in {found[0]}"
        raise ModelError(
            f"{called} holds a SavedModel {where}{stripped}, but no version folder: one named by a number.",
            FOUND_BY_ITSELF if strip else f"{by_hand}.",
        )
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
    return {number: folder / path for path, number in sorted(numbered.items(), key=lambda item: item[1])}


def _with_content(paths: Paths, name: str, offer: adopt.Offer) -> Model | None:
    """The version on disk that is what `offer` offers: any number will do if it does not say one."""
    numbers = store.versions(paths, name)
    if offer.version is not None:
        numbers = {offer.version: numbers[offer.version]} if offer.version in numbers else {}
    if not numbers:
        return None
    digest = offer.content_digest()
    models = [store.load(paths, name, number) for number in numbers]
    return next((model for model in reversed(models) if model.origin.content_sha256 == digest), None)


def _newest(models: list[Model]) -> Model:
    return max(models, key=lambda model: model.version)


def _shown(paths: Paths, name: str) -> str:
    return paths.shown(paths.models / name)
