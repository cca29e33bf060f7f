"""What every engine can do. An engine is where servers run: as processes, containers, a swarm."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Protocol

from tasks.lib import artefact
from tasks.lib.settings import Settings
from tasks.lib.store import Model
from tasks.lib.variants import Variant


@dataclass(frozen=True)
class Server:
    """One running variant of one model version on one engine."""

    id: str
    """Ours, random; the process or container carries it, so that it is found again without a record."""
    engine: str
    model: str
    version: int
    variant: Variant
    host: str
    """The address it listens on."""
    rest_port: int
    started: str
    """UTC, ISO 8601."""
    content: str
    """SHA-256 of what it has loaded: the SavedModel, or the artefact made from it."""
    image: str = ""
    """What its container is made from; empty where there is none."""

    @property
    def url(self) -> str:
        """The model's REST address: append ":predict", "/metadata" or nothing (its status)."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.rest_port}/v1/models/{self.model}"

    def __str__(self) -> str:
        return f"{self.variant.name} {self.model}@{self.version} on port {self.rest_port}"


def planned(
    settings: Settings, engine: str, model: Model, variant: Variant, port: int, image: str = ""
) -> Server:
    """A server that is about to be started, under an id of its own."""
    return Server(
        id=secrets.token_hex(6),
        engine=engine,
        model=model.name,
        version=model.version,
        variant=variant,
        host=settings.serve.host,
        rest_port=port,
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        content=artefact.content_of(model, variant),
        image=image,
    )


class Engine(Protocol):
    """Where servers run. Only servers that this suite started are ever listed or stopped."""

    name: str

    def start(self, model: Model, variant: Variant, port: int | None = None) -> Server:
        """Start a server and return once a real predict has answered.

        With `port` None the first free one from the settings is taken. Raises ServerError, with the
        server stopped and nothing left behind, if it dies, never answers, or the port is taken.
        """
        ...

    def servers(self) -> list[Server]:
        """The servers of this suite that run now, oldest first. Records of dead ones are removed."""
        ...

    def logs(self, server: Server, lines: int | None = None) -> str:
        """The last `lines` lines that the server wrote; all of them if None."""
        ...

    def stop(self, server: Server, grace: float) -> None:
        """End the server: politely, and after `grace` seconds by force. Done when it is gone."""
        ...
