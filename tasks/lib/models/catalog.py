"""models/catalog.toml: the models that can be had by name."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.lib.common.errors import ModelError, SettingError
from tasks.lib.common.settings import Paths
from tasks.lib.models import store
from tasks.lib.models.packaged import RECIPES, Package

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHA256 = re.compile(r"[0-9a-fA-F]{64}")

_TYPES: Mapping[str, type] = {
    "description": str,
    "url": str,
    "strip_components": int,
    "sha256": str,
    "labels": str,
    "package": str,
    "weights": str,
    "recipe": str,
    "license": str,
    "attribution": str,
    "first_label": int,
    "seeded": str,
}
_OF_A_PACKAGE = ("sha256", "weights", "recipe", "license", "attribution")
"""What must be said of weights that come in a package."""
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.+!]+")


@dataclass(frozen=True)
class Entry:
    """One model of the catalogue."""

    name: str
    description: str
    url: str | None
    strip_components: int | None
    """Leading folders of the archive to drop; None: find the version folder."""
    sha256: str | None
    """Of the archive, lower case, where its publisher tells it."""
    labels: Path | None
    """Label names, one a line, beginning with class 0."""
    seeded: str | None
    """The recipe that builds the same architecture with seeded weights."""
    first_label: int = 0
    """The line of `labels` that names class 0; 0 is the first."""
    package: Package | None = None
    """A package of the package index that has the weights."""
    license: str = ""
    """Of the weights."""
    attribution: str = ""
    """Who made the weights, and where they were published."""


def path(paths: Paths) -> Path:
    """The catalogue next to the models; the project's own if that folder has none."""
    own = paths.models / "catalog.toml"
    return own if own.is_file() else paths.root / "models" / "catalog.toml"


def read(paths: Paths) -> dict[str, Entry]:
    """Every model of the catalogue by its name. Raises SettingError if the catalogue is malformed."""
    file = path(paths)
    shown = paths.shown(file)
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingError(
            f"There is no {shown}.", "Bring it back with `git checkout models/catalog.toml`."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{shown} is not TOML: {error}.", f"Fix {shown}.") from None
    return {name: _entry(name, table, file.parent, shown) for name, table in tables.items()}


def find(paths: Paths, name: str) -> Entry | None:
    """The catalogue's entry for `name`, if it has one."""
    return read(paths).get(name)


def get(paths: Paths, name: str) -> Entry:
    """The catalogue's entry for `name`. Raises ModelError, naming those that there are."""
    entries = read(paths)
    if name not in entries:
        known = ", ".join(f"{entry.name} ({entry.description})" for entry in entries.values())
        raise ModelError(
            f"{paths.shown(path(paths))} has no model {name!r}; it has: {known or 'none'}.",
            f"Bring one of your own in with `invoke download --model {name} --url URL` (or --path FOLDER).",
        )
    return entries[name]


def _package(table: Mapping[str, Any], wrong: Callable[[str], SettingError]) -> Package:
    if not _REQUIREMENT.fullmatch(table["package"]):
        raise wrong(f"has package = {table['package']!r}, which is not NAME==VERSION")
    if "url" in table:
        raise wrong("has both url and package, and one sha256")
    missing = [key for key in _OF_A_PACKAGE if key not in table]
    if missing:
        raise wrong(f"has a package and no {missing[0]}")
    if table["recipe"] not in RECIPES:
        raise wrong(f"has recipe = {table['recipe']!r}, and there is {', '.join(RECIPES)}")
    return Package(table["package"], table["sha256"].lower(), table["weights"], table["recipe"])


def _entry(name: str, table: Any, folder: Path, shown: str) -> Entry:
    """Check one table. Raises SettingError that names the file and the model."""

    def wrong(what: str) -> SettingError:
        return SettingError(
            f"The model {name!r} in {shown} {what}.",
            f"Fix {shown}; the comment at its top describes each key.",
        )

    if not store.is_name(name):
        raise wrong("has a name that no model can have (letters, digits, '.', '_' and '-')")
    if not isinstance(table, dict):
        raise wrong("is not a table")
    for key, value in table.items():
        if key not in _TYPES:
            raise wrong(f"has an unknown key {key!r}")
        if type(value) is not _TYPES[key] or value == "":
            raise wrong(f"has {key} = {value!r}, which cannot be used")
    if not any(table.get(key) for key in ("url", "package", "seeded")):
        raise wrong("has neither url nor package nor seeded")
    sha256 = table.get("sha256")
    if sha256 is not None and not SHA256.fullmatch(sha256):
        raise wrong("has a sha256 that is not 64 hexadecimal digits")
    for key in ("strip_components", "first_label"):
        if table.get(key, 0) < 0:
            raise wrong(f"has a negative {key}")
    return Entry(
        name=name,
        description=table.get("description", ""),
        url=table.get("url"),
        strip_components=table.get("strip_components"),
        sha256=sha256.lower() if sha256 else None,
        labels=folder / table["labels"] if "labels" in table else None,
        first_label=table.get("first_label", 0),
        package=_package(table, wrong) if "package" in table else None,
        license=table.get("license", ""),
        attribution=table.get("attribution", ""),
        seeded=table.get("seeded"),
    )
