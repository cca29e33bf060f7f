"""`invoke download`: brings a model in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke import Context

from tasks.edge import settings, task

if TYPE_CHECKING:
    from tasks.lib.common.settings import Settings
    from tasks.lib.models.store import Model


@task(
    help={
        "model": "NAME of the model, or NAME@VERSION (default: `model` in invoke.yaml)",
        "source": "auto, official (the archive only) or seeded (build it here); auto takes the archive if it "
        "can be reached",
        "url": "download this archive or Keras file instead, and keep it under --model NAME",
        "sha256": "what the file must have, as 64 hexadecimal digits",
        "strip-components": "leading folders of the archive to drop, as tar does (default: "
        "the version folder is found by itself)",
        "path": "bring in a model that you have: a SavedModel's folder, the one with its version folders, "
        "an archive of either (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz, .tar.zst), or a Keras file (.keras, "
        ".h5)",
    }
)
def download(
    c: Context,
    model: str = "",
    source: str = "auto",
    url: str = "",
    sha256: str = "",
    strip_components: str = "",
    path: str = "",
) -> None:
    """Bring a model in, to models/NAME/VERSION; do nothing if it is there.

    Models that models/catalog.toml lists come by their name. Where their archive cannot be reached,
    the same architecture is built with seeded weights: timings hold, classes mean nothing.

    Any other model comes with --model NAME and either --url or --path: a SavedModel as a folder (only
    with --path) or in an archive, or a Keras file, which is exported as a SavedModel. It is copied and not
    changed. One without a number becomes the next version, or VERSION with --model NAME@VERSION. A Keras
    file that holds Python code is refused. docs/bringing.md says what else is.

    The SHA-256 of a download is remembered in models/digests.json, and a later one that differs is
    refused. A broken connection is resumed. What fails or is interrupted leaves nothing behind.

    Prints the model, its folder and where its weights are from.
    """
    from tasks.lib.common import console
    from tasks.lib.models import store

    now = settings(c)
    there = store.versions(now.paths, store.parse(model or now.model).name)
    found = _bring(now, model, source, url, sha256, strip_components, path)
    if found is None:  # --dry has said what would be done
        return
    if found.version in there:
        console.note(f"{found} is there already: nothing to do")
        if found.origin.source == "seeded" and source == "auto":
            console.note("`invoke download --source official` fetches the published weights")
    console.result(f"{found}  {now.paths.shown(found.folder)}  {found.origin.summary}")


def _bring(
    now: Settings, model: str, source: str, url: str, sha256: str, strip_components: str, path: str
) -> Model | None:
    """Check that the flags fit together, and act on them. Raises SettingError if they do not."""
    from pathlib import Path

    from tasks.lib.common.errors import SettingError
    from tasks.lib.common.values import whole_number
    from tasks.lib.models import catalog, obtain, store

    if source not in obtain.SOURCES:
        raise SettingError(f"--source is {source!r}.", f"Choose one of: {', '.join(obtain.SOURCES)}.")
    if sha256 and not catalog.SHA256.fullmatch(sha256):
        raise SettingError(
            f"--sha256 must be 64 hexadecimal digits, not {sha256!r}.",
            "Give what `sha256sum` prints for the archive.",
        )
    strip = whole_number(strip_components, "--strip-components") if strip_components else None
    reference = model or now.model
    name = store.parse(reference).name
    if url and path:
        raise SettingError("--url and --path are two different sources.", "Give one of them.")
    if (url or path) and source != "auto":
        raise SettingError(
            f"--source {source} and --{'url' if url else 'path'} contradict each other.", "Give one of them."
        )
    if path and (sha256 or strip is not None) and Path(path).expanduser().is_dir():
        flag = "--sha256" if sha256 else "--strip-components"
        raise SettingError(f"{flag} is about an archive, and {path} is a folder.", f"Leave {flag} away.")
    if source == "seeded" and (sha256 or strip is not None):
        flag = "--sha256" if sha256 else "--strip-components"
        raise SettingError(
            f"{flag} is about an archive, and --source seeded fetches none.", f"Leave {flag} away."
        )
    if (url or path) and not model and catalog.find(now.paths, name) is not None:
        raise SettingError(
            f"--{'url' if url else 'path'} needs a name for the model: {name} is the catalogue's own.",
            "Add --model NAME.",
        )
    digest = sha256.lower() or None
    if url:
        _check_url(url)
        return obtain.from_url(now, reference, url, digest, strip)
    if path:
        return obtain.from_path(now, reference, Path(path).expanduser(), digest, strip)
    return obtain.ensure(now, reference, source, digest, strip)


def _check_url(url: str) -> None:
    """Raises SettingError if `url` is not one that can be fetched."""
    from urllib.parse import urlsplit

    from tasks.lib.common.errors import SettingError

    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        # What comes before an "@" may be a password, wherever it stands in what is no URL.
        what = "--url" if "@" in url else f"--url {url!r}"
        raise SettingError(
            f"{what} is not an http:// or https:// address.",
            "Correct it; a file that is on this machine already comes with --path.",
        )
