"""Brings the contestants of a benchmark up: servers that run already are used, others are started."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from tasks.lib import processes, servers, variants
from tasks.lib.engines.base import Engine, Server
from tasks.lib.settings import Settings
from tasks.lib.store import Model
from tasks.lib.variants import Variant
from tasks.lib.verdict import Contestant


@contextmanager
def up(settings: Settings, engine: Engine, model: Model, names: Sequence[str]) -> Iterator[list[Contestant]]:
    """Servers of `model` for the variants called `names`, in that order.

    What was started here is stopped when the block is left, however that happens.
    """
    wanted = [variants.find(settings, name, engine.name) for name in names]
    with ExitStack() as stack:
        yield [_contestant(_server(stack, settings, engine, model, variant)) for variant in wanted]


def _server(stack: ExitStack, settings: Settings, engine: Engine, model: Model, variant: Variant) -> Server:
    server, is_new = servers.bring_up(settings, engine, model, variant, temporary=True)
    if is_new:
        stack.callback(processes.finish, engine.stop, server, settings.serve.stop_grace)
    return server


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
