"""The server of a variant: the one that is up, or a new one."""

from __future__ import annotations

from tasks.lib.common import console, locks
from tasks.lib.common.settings import Settings
from tasks.lib.common.variants import Variant
from tasks.lib.engines.base import Engine, Server
from tasks.lib.models.store import Model
from tasks.lib.optimize import optimize


def bring_up(
    settings: Settings,
    engine: Engine,
    model: Model,
    variant: Variant,
    port: int | None = None,
    *,
    temporary: bool = False,
    another: bool = False,
) -> tuple[Server, bool]:
    """A server of this variant and model version, on `port` if one is given, and whether it is new.

    The optimized artefact is built if the variant needs it. A server that is up but was made of
    something else than one started now would be, or listens elsewhere, is replaced. A new one is
    `temporary` if it is for this call only: it replaces none, and such ones of other calls are no one
    else's. With `another` a server that is up is not used. Raises SuiteError as those steps do.
    """
    # Two calls that want the same server get one: the second waits, and finds it.
    with locks.held(settings.paths, "serve", "it is starting a server"):
        ready = optimize.resolve(settings, model, variant)
        for server in [] if another else engine.servers():
            identity = (model.name, model.version, ready.name)
            named = (server.model, server.version, server.variant.name) == identity
            if not named or server.temporary or port not in (None, server.rest_port):
                continue
            if server.fingerprint == engine.fingerprint(model, ready):
                console.note(f"{server} is up already")
                return server, False
            if temporary:
                console.note(f"{server} is up, but with other settings: starting another one for this call")
                continue
            console.note(f"{server} is up, but with other settings: starting it again")
            engine.stop(server, settings.serve.stop_grace)
        return engine.start(model, ready, port, temporary=temporary), True
