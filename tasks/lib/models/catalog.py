"""models/catalog.toml: the models that can be had by name."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.lib.common.errors import ModelError, SettingError
from tasks.lib.common.settings import Paths
from tasks.lib.models import store

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
    "seeded": str,
}


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
    if not table.get("url") and not table.get("seeded"):
        raise wrong("has neither url nor seeded")
    sha256 = table.get("sha256")
    if sha256 is not None and not SHA256.fullmatch(sha256):
        raise wrong("has a sha256 that is not 64 hexadecimal digits")
    strip = table.get("strip_components")
    if strip is not None and strip < 0:
        raise wrong("has a negative strip_components")
    return Entry(
        name=name,
        description=table.get("description", ""),
        url=table.get("url"),
        strip_components=strip,
        sha256=sha256.lower() if sha256 else None,
        labels=folder / table["labels"] if "labels" in table else None,
        seeded=table.get("seeded"),
    )
