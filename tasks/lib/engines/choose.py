"""Which engine a task uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.lib import console, variants
from tasks.lib import settings as checks
from tasks.lib.engines.base import Engine, Server
from tasks.lib.errors import DockerError, SettingError
from tasks.lib.settings import Settings

if TYPE_CHECKING:
    from tasks.lib.engines.docker import DockerEngine


def choose(settings: Settings, name: str | None = None, needed: Sequence[str] = ()) -> Engine:
    """The engine called `name`, or the one in the settings if None; says which it is, and why.

    `auto` is Docker if the variants called `needed` can be served there at once: their images are
    there, or in a registry that answers. Raises SettingError if there is no such engine, or a variant
    is not for it; DockerError if Docker was asked for and does not answer.
    """
    wanted = checks.engine(settings, name)
    if wanted == "auto":
        return _automatic(settings, needed)
    for variant in needed:
        variants.find(settings, variant, wanted)
    return _docker(settings, "asked for") if wanted == "docker" else _local(settings, "asked for")


def _automatic(settings: Settings, needed: Sequence[str]) -> Engine:
    from tasks.lib.engines.docker import DockerEngine

    try:
        engine = DockerEngine(settings)
        for name in needed:
            reason = engine.obstacle(variants.find(settings, name, "docker"))
            if reason is not None:
                return _local_if_it_can(settings, needed, reason)
    except (DockerError, variants.NotOnEngine) as error:
        return _local_if_it_can(settings, needed, error.problem.rstrip("."))
    console.note(f"engine: docker ({engine} answers and has what is needed)")
    return engine


def _local_if_it_can(settings: Settings, needed: Sequence[str], reason: str) -> Engine:
    for name in needed:
        try:
            variants.find(settings, name, "local")
        except variants.NotOnEngine:
            raise SettingError(
                f"The variant {name!r} is for Docker only, and there it cannot be served: {reason}.",
                "Call it with --engine docker to see what to do, or choose another variant.",
            ) from None
    return _local(settings, reason)


def _local(settings: Settings, why: str) -> Engine:
    from tasks.lib.engines.local import LocalEngine

    console.note(f"engine: {LocalEngine.name} ({why})")
    return LocalEngine(settings)


def _docker(settings: Settings, why: str) -> DockerEngine:
    from tasks.lib.engines.docker import DockerEngine

    engine = DockerEngine(settings)
    console.note(f"engine: {DockerEngine.name} ({why}; {engine})")
    return engine


def all_engines(settings: Settings) -> list[Engine]:
    """Every engine that may run servers of this suite: Docker only if it answers."""
    from tasks.lib.engines.docker import DockerEngine
    from tasks.lib.engines.local import LocalEngine

    engines: list[Engine] = [LocalEngine(settings)]
    try:
        engines.append(DockerEngine(settings))
    except DockerError as error:
        if settings.engine == "docker":
            console.note(f"{error.problem} Its servers, if there are any, are not seen.")
    return engines


def servers_elsewhere(settings: Settings, name: str) -> list[Server]:
    """The servers of this suite on the engines that are not called `name`."""
    return [s for engine in all_engines(settings) if engine.name != name for s in engine.servers()]
