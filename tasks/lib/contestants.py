"""Brings the contestants of a benchmark up: servers that run already are used, others are started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.lib import processes, servers, variants
from tasks.lib.engines.base import Engine, Server
from tasks.lib.settings import Settings
from tasks.lib.store import Model
from tasks.lib.verdict import Contestant


@contextmanager
def up(settings: Settings, engine: Engine, model: Model, name: str) -> Iterator[Contestant]:
    """A server of `model` for the variant called `name`; if it was started here, it is stopped again."""
    variant = variants.find(settings, name, engine.name)
    server, is_new = servers.bring_up(settings, engine, model, variant, temporary=True)
    try:
        yield _contestant(server)
    finally:
        if is_new:
            processes.finish(engine.stop, server, settings.serve.stop_grace)


def _contestant(server: Server) -> Contestant:
    return Contestant(
        name=server.variant.name,
        model=f"{server.model}@{server.version}",
        url=server.url,
        backend=variants.BACKENDS[server.variant.backend],
        precision=server.variant.precision,
        image=server.image,
        image_id=server.image_id,
    )
