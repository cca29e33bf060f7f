"""The flags of `invoke download`, checked together, and the source of the model that they mean."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from tasks.lib.common import console
from tasks.lib.common.errors import SettingError
from tasks.lib.common.settings import AUTO, Settings
from tasks.lib.common.values import whole_number
from tasks.lib.models import catalog, choice, obtain, store
from tasks.lib.models.store import Model


def download(
    settings: Settings,
    model: str,
    source: str = "auto",
    url: str = "",
    sha256: str = "",
    strip_components: str = "",
    path: str = "",
) -> None:
    """Bring a model in, and print where it is and where its weights are from. The flags of the task.

    Raises SettingError for flags that contradict each other, and as obtain does.
    """
    names = {store.parse(model).name} if model else set(catalog.read(settings.paths))
    present = {(name, version) for name in names for version in store.versions(settings.paths, name)}
    brought = _bring(settings, model, source, url, sha256, strip_components, path)
    if brought is None:  # --dry has said what would be done
        return
    if (brought.name, brought.version) in present:
        console.note(f"{brought} is there already: nothing to do")
        if brought.origin.source == "seeded" and source == "auto":
            console.note("`invoke download --source official` fetches the published weights")
    console.result(f"{brought}  {settings.paths.shown(brought.folder)}  {brought.origin.summary}")


def _bring(
    settings: Settings, model: str, source: str, url: str, sha256: str, strip_components: str, path: str
) -> Model | None:
    """Check that the flags fit together, and bring the model in.

    Returns None on --dry. Raises SettingError for flags that contradict each other, and as obtain does.
    """
    if source not in obtain.SOURCES:
        raise SettingError(f"--source is {source!r}.", f"Choose one of: {', '.join(obtain.SOURCES)}.")
    if sha256 and not catalog.SHA256.fullmatch(sha256):
        raise SettingError(
            f"--sha256 must be 64 hexadecimal digits, not {sha256!r}.",
            "Give what `sha256sum` prints for the archive.",
        )
    strip = whole_number(strip_components, "--strip-components") if strip_components else None
    if url and path:
        raise SettingError("--url and --path are two different sources.", "Give one of them.")
    if (url or path) and source != "auto":
        raise SettingError(
            f"--source {source} and --{'url' if url else 'path'} contradict each other.", "Give one of them."
        )
    if path and (sha256 or strip is not None) and Path(path).expanduser().is_dir():
        flag = "--sha256" if sha256 else "--strip-components"
        raise SettingError(f"{flag} is about an archive, and {path} is a folder.", f"Leave out {flag}.")
    if source in ("package", "seeded") and (sha256 or strip is not None):
        flag = "--sha256" if sha256 else "--strip-components"
        raise SettingError(
            f"{flag} is about an archive, and --source {source} fetches none.", f"Leave out {flag}."
        )
    reference = model or choice.known(settings, "")
    name = store.parse(reference).name
    if (url or path) and not model and catalog.find(settings.paths, name) is not None:
        raise SettingError(
            f"--{'url' if url else 'path'} needs a name for the model: {name} is the catalogue's own.",
            "Add --model NAME.",
        )
    digest = sha256.lower() or None
    if url:
        _check_url(url)
        return obtain.from_url(settings, reference, url, digest, strip)
    if path:
        return obtain.from_path(settings, reference, Path(path).expanduser(), digest, strip)
    if not model:
        # What is said of an archive means the first model that has one.
        meant = "official" if sha256 or strip is not None else source
        reference = (
            choice.choose(settings, "").model if meant == AUTO else choice.with_source(settings, meant)
        )
    return obtain.ensure(settings, reference, source, digest, strip)


def _check_url(url: str) -> None:
    """Raises SettingError if `url` is not one that can be fetched."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        # What comes before an "@" may be a password, also in a text that is not a URL.
        what = "--url" if "@" in url else f"--url {url!r}"
        raise SettingError(
            f"{what} is not an http:// or https:// address.",
            "Correct it; a file that is on this machine already comes with --path.",
        )
