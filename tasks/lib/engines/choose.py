"""Which engine a task uses."""

from __future__ import annotations

from tasks.lib import console
from tasks.lib.engines.base import Engine
from tasks.lib.errors import SettingError
from tasks.lib.settings import ENGINES, Settings


def choose(settings: Settings, name: str | None = None) -> Engine:
    """The engine called `name`, or the one in the settings if None; says which it is, and why.

    Raises SettingError if there is no such engine.
    """
    wanted = name or settings.engine
    if wanted not in ENGINES:
        raise SettingError(f"There is no engine {wanted!r}.", f"Choose one of: {', '.join(ENGINES)}.")
    from tasks.lib.engines.local import LocalEngine

    why = "the only one so far; servers are processes on this machine" if wanted == "auto" else "asked for"
    console.note(f"engine: {LocalEngine.name} ({why})")
    return LocalEngine(settings)


def all_engines(settings: Settings) -> list[Engine]:
    """Every engine that may run servers of this suite."""
    from tasks.lib.engines.local import LocalEngine

    return [LocalEngine(settings)]
