"""Which engine a task uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.lib.common import console, variants
from tasks.lib.common.errors import DockerError, SettingError
from tasks.lib.common.settings import Settings, check_engine
from tasks.lib.engines.base import Engine

if TYPE_CHECKING:
    from tasks.lib.engines.docker.engine import DockerEngine


def choose(settings: Settings, name: str | None = None, needed: Sequence[str] = ()) -> Engine:
    """The engine called `name`, or the one in the settings if None.

    Of `auto` it says what it became, and why.
    `auto` is Docker if the variants called `needed` can be served there at once: their images are
    there, or in a registry that answers. Raises SettingError if there is no such engine, or a variant
    is not for it; DockerError if Docker was asked for and does not answer.
    """
    engine_name = check_engine(settings, name)
    if engine_name == "auto":
        return _automatic(settings, needed)
    for variant in needed:
        variants.find(settings, variant, engine_name)
    if engine_name == "docker":
        return _docker(settings)
    from tasks.lib.engines.local.engine import LocalEngine

    return LocalEngine(settings)


def _docker(settings: Settings) -> DockerEngine:
    """Raises DockerError if no Docker Engine of this machine answers."""
    from tasks.lib.engines.docker.engine import DockerEngine
    from tasks.lib.engines.local.engine import LocalEngine

    return DockerEngine(settings, LocalEngine(settings).servers)


def _automatic(settings: Settings, needed: Sequence[str]) -> Engine:
    try:
        engine = _docker(settings)
        for name in needed:
            reason = engine.obstacle(variants.find(settings, name, "docker"))
            if reason is not None:
                return _local_if_it_can(settings, needed, reason)
    except (DockerError, variants.NotOnEngine) as error:
        return _local_if_it_can(settings, needed, error.problem.rstrip("."))
    console.note(f"engine: docker ({engine} answers and has the images)")
    return engine


def _local_if_it_can(settings: Settings, needed: Sequence[str], reason: str) -> Engine:
    for name in needed:
        try:
            variants.find(settings, name, "local")
        except variants.NotOnEngine:
            raise SettingError(
                f"The variant {name!r} is for Docker only, and there it cannot be served: {reason}.",
                "Use --engine docker to see what to do, or choose another variant.",
            ) from None
    return _local(settings, reason)


def _local(settings: Settings, why: str) -> Engine:
    from tasks.lib.engines.local.engine import LocalEngine

    console.note(f"engine: {LocalEngine.name} ({why})")
    return LocalEngine(settings)


def all_engines(settings: Settings) -> list[Engine]:
    """Every engine that may run servers of this suite: Docker only if it answers."""
    from tasks.lib.engines.local.engine import LocalEngine

    engines: list[Engine] = [LocalEngine(settings)]
    try:
        engines.append(_docker(settings))
    except DockerError as error:
        if settings.engine == "docker":
            console.note(f"{error.problem} Its servers, if any, are not listed.")
    return engines
