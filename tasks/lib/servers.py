"""The server of a variant: the one that is up, or a new one."""

from __future__ import annotations

from tasks.lib import console, locks, optimize
from tasks.lib.engines.base import Engine, Server
from tasks.lib.settings import Settings
from tasks.lib.store import Model
from tasks.lib.variants import Variant


def bring_up(
    settings: Settings, engine: Engine, model: Model, variant: Variant, port: int | None = None
) -> tuple[Server, bool]:
    """A server of this variant and model version, on `port` if one is given, and whether it is new.

    The optimized artefact is built if the variant needs it. Raises SuiteError as those steps do.
    """
    # Two calls that want the same server get one: the second waits, and finds it.
    with locks.held(settings.paths, "serve", "it is starting a server"):
        for server in engine.servers():
            same = (server.model, server.version, server.variant.name) == (
                model.name,
                model.version,
                variant.name,
            )
            if same and port in (None, server.rest_port):
                console.note(f"{server} is up already")
                return server, False
        return engine.start(model, optimize.resolve(settings, model, variant), port), True
