"""The server of a variant: the one that is up, or a new one."""

from __future__ import annotations

from tasks.lib import artefact, console, locks, optimize
from tasks.lib.engines.base import Engine, Server
from tasks.lib.settings import Settings
from tasks.lib.store import Model
from tasks.lib.variants import Variant


def bring_up(
    settings: Settings, engine: Engine, model: Model, variant: Variant, port: int | None = None
) -> tuple[Server, bool]:
    """A server of this variant and model version, on `port` if one is given, and whether it is new.

    The optimized artefact is built if the variant needs it. A server that is up but has loaded
    something else by now, or listens elsewhere, is replaced. Raises SuiteError as those steps do.
    """
    # Two calls that want the same server get one: the second waits, and finds it.
    with locks.held(settings.paths, "serve", "it is starting a server"):
        ready = optimize.resolve(settings, model, variant)
        for server in engine.servers():
            wanted = (model.name, model.version, ready.name)
            named = (server.model, server.version, server.variant.name) == wanted
            if not named or port not in (None, server.rest_port):
                continue
            if _is_current(settings, server, model, ready):
                console.note(f"{server} is up already")
                return server, False
            console.note(f"{server} is up, but not with what is wanted now: starting it anew")
            engine.stop(server, settings.serve.stop_grace)
        return engine.start(model, ready, port), True


def _is_current(settings: Settings, server: Server, model: Model, variant: Variant) -> bool:
    """Whether a server of the right name is what would be started now."""
    return (
        (server.variant.backend, server.variant.precision) == (variant.backend, variant.precision)
        and server.host == settings.serve.host
        and server.content == artefact.content_of(model, variant)
    )
