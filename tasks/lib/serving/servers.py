"""The servers that are running, on every engine: found by variant and model, described, stopped."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.lib.client.rest import Client
from tasks.lib.common import console, processes, variants
from tasks.lib.common.errors import ServerError
from tasks.lib.common.settings import Settings
from tasks.lib.common.variants import BACKENDS
from tasks.lib.engines.base import Engine, Server
from tasks.lib.engines.choose import all_engines
from tasks.lib.models import store

STATUS_TIMEOUT = 5.0
"""Seconds that a server has to tell its state."""


def matching(settings: Settings, variant: str = "", model: str = "") -> list[tuple[Engine, Server]]:
    """The running servers of `variant` and `model` (each empty for all), with their engines.

    Raises SettingError for a variant that does not exist, or a model that cannot be one's name.
    """
    reference = store.parse(model) if model else None
    running = [
        (engine, server)
        for engine in all_engines(settings)
        for server in engine.servers()
        if variant in ("", server.variant.name)
        and (
            reference is None
            or (reference.name == server.model and reference.version in (None, server.version))
        )
    ]
    if variant and not running:
        # A variant that invoke.yaml no longer has can still be running; a misspelt one never is.
        variants.check(settings, variant)
    return running


def none_running(variant: str = "", model: str = "") -> str:
    """The sentence for no server of `variant` and `model`."""
    described = " ".join(word for word in (variant, model) if word)
    return f"no server of {described} is running" if described else "nothing is running"


def stop(settings: Settings, running: Sequence[tuple[Engine, Server]]) -> None:
    """Stop servers, and print which; on --dry, only print that."""
    for engine, server in running:
        if settings.dry:
            console.note(f"would stop {server}")
        else:
            engine.stop(server, settings.serve.stop_grace)
            console.result(f"stopped {server}")


def stop_all(settings: Settings) -> bool:
    """Stop every server of this suite, and return whether there were any.

    Engine by engine: one that fails must not keep the servers of another running.
    """
    any_was_running = False
    for engine in all_engines(settings):
        running = [(engine, server) for server in engine.servers()]
        stop(settings, running)
        any_was_running = any_was_running or bool(running)
    return any_was_running


def tear_down(settings: Settings) -> None:
    """Stop every server of this suite, and end what killed calls left running. Not on --dry: prints only."""
    if not stop_all(settings):
        console.result("nothing is running")
    if not settings.dry:
        processes.end_orphans(settings.paths.state)


def row(server: Server) -> dict[str, object]:
    """The server's row in the table of `invoke serve.status`; asks it for its state."""
    return {
        "model": f"{server.model}@{server.version}",
        "variant": server.variant.name,
        "backend": BACKENDS[server.variant.backend],
        "precision": server.variant.precision,
        "engine": server.engine,
        "port": server.rest_port,
        "grpc port": server.grpc_port or "-",
        "url": server.url,
        "up since": server.started,
        "state": _state(server),
    }


def _state(server: Server) -> str:
    try:
        versions = Client(server.url, STATUS_TIMEOUT).status()
    except ServerError:
        return "not ready"
    return "ready" if any(version.get("state") == "AVAILABLE" for version in versions) else "not ready"
