"""Which model is meant where a person names none: the first of the catalogue whose weights can be had."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.lib.common import console, disk
from tasks.lib.common.errors import SettingError, Unreachable
from tasks.lib.common.settings import AUTO, Settings
from tasks.lib.models import catalog, obtain, store

KEPT = "model.json"
"""In the state folder."""
PUBLISHED = ("official", "package")
"""Origins of weights whose classes mean something."""


@dataclass(frozen=True)
class Choice:
    """A model, and why it was taken."""

    model: str
    """NAME, or NAME@VERSION where a person said so."""
    why: str = ""
    """As part of a sentence; empty where a person named the model."""

    def tell(self) -> None:
        """Say which model was taken, if no person did."""
        if self.why:
            console.note(f"model: {self.model}, because {self.why} (--model takes another)")


def choose(settings: Settings, model: str, *, tells: bool = True) -> Choice:
    """The model that a flag names, else the setting, else the one that is there or can be had.

    What is chosen is brought in, and kept for the commands that follow; which one it is and why is said, if
    `tells`. Raises as obtain.ensure does.
    """
    made = _named(settings, model) or _kept(settings) or _there(settings)
    if made is None and settings.dry:
        first, *others = _names(settings)
        instead = f" (where it cannot be reached, {' or '.join(others)})" if others else ""
        made = Choice(first, f"it is the first of the catalogue{instead}")
    if made is None:
        made = _first(settings)
        _record(settings).parent.mkdir(parents=True, exist_ok=True)
        disk.write_text(_record(settings), json.dumps(asdict(made), indent=2) + "\n")
    elif tells:
        made.tell()
    return made


def known(settings: Settings, model: str) -> str:
    """The same, as far as it is known without bringing anything in; else the catalogue's first."""
    made = _named(settings, model) or _kept(settings) or _there(settings)
    return made.model if made is not None else _names(settings)[0]


def with_source(settings: Settings, source: str) -> str:
    """The setting's model, else the first of the catalogue that comes from this source of obtain.SOURCES."""
    named = _named(settings, "")
    if named is not None:
        return named.model
    for entry in catalog.read(settings.paths).values():
        if {"official": entry.url, "package": entry.package, "seeded": entry.seeded}[source] is not None:
            return entry.name
    return _names(settings)[0]


def _named(settings: Settings, model: str) -> Choice | None:
    named = model or settings.model
    return None if named == AUTO else Choice(named)


def _kept(settings: Settings) -> Choice | None:
    """What was chosen before, if it is still there."""
    try:
        kept = Choice(**json.loads(_record(settings).read_text()))
        return kept if store.is_name(kept.model) and store.versions(settings.paths, kept.model) else None
    except (OSError, ValueError, TypeError):
        return None


def _there(settings: Settings) -> Choice | None:
    """The first whose published weights are on disk."""
    for name in _names(settings):
        for version in store.versions(settings.paths, name):
            if store.load(settings.paths, name, version).origin.source in PUBLISHED:
                return Choice(name, "it is there")
    return None


def _first(settings: Settings) -> Choice:
    """Bring in the first whose published weights can be reached; if none can, the first that is seeded."""
    missed: list[str] = []
    entries = catalog.read(settings.paths)
    for entry in entries.values():
        source = "official" if entry.url is not None else "package" if entry.package is not None else None
        if source is None:
            continue
        choice = Choice(entry.name, _unreachable(missed) or "it is the first of the catalogue")
        choice.tell()
        try:
            obtain.ensure(settings, entry.name, source)
        except Unreachable as error:
            console.note(error.problem)
            missed.append(entry.name)
        else:
            return choice
    for entry in entries.values():
        if entry.seeded is not None:
            choice = Choice(
                entry.name, f"{_unreachable(missed) or 'nothing is published'}: its weights are seeded"
            )
            choice.tell()
            obtain.ensure(settings, entry.name, "seeded")
            return choice
    raise SettingError(
        f"None of the models in {settings.paths.shown(catalog.path(settings.paths))} can be reached.",
        "Check the network, or bring in a model of yours with `invoke download --model NAME --path FOLDER`.",
    )


def _unreachable(names: Sequence[str]) -> str:
    return f"{' and '.join(names)} cannot be reached" if names else ""


def _names(settings: Settings) -> list[str]:
    names = list(catalog.read(settings.paths))
    if not names:
        raise SettingError(
            f"{settings.paths.shown(catalog.path(settings.paths))} lists no model, and none is named.",
            "Add --model NAME.",
        )
    return names


def _record(settings: Settings) -> Path:
    return settings.paths.state / KEPT
