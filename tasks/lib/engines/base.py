"""What every engine can do. An engine is where servers run: as processes, containers, a swarm."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256
from typing import Protocol

from tasks.lib.common.pinning import CPUs
from tasks.lib.common.settings import Settings
from tasks.lib.common.variants import Variant
from tasks.lib.models.store import Model

STARTING, READY, STOPPING = "starting", "ready", "stopping"
"""The states of a server, as engines keep them."""
LOG_TAIL = 15
"""Lines of a server's log that are shown when it does not start."""


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
    fingerprint: str
    """Of what it has loaded and how it was started (Engine.fingerprint)."""
    grpc_port: int = 0
    """0 for a server that was started before there was one."""
    temporary: bool = False
    """It is up for the call that started it, and for as long as that runs."""
    image: str = ""
    """What its container is made from; empty where there is none."""
    image_id: str = ""
    """The same as Docker identifies it: names can be given to another image."""

    @property
    def url(self) -> str:
        """The model's REST address: append ":predict", "/metadata" or nothing (its status)."""
        return f"http://{self._reachable}:{self.rest_port}/v1/models/{self.model}"

    @property
    def grpc_url(self) -> str:
        """The model's gRPC address, in the form in which a benchmark takes it."""
        return f"grpc://{self._reachable}:{self.grpc_port}/v1/models/{self.model}"

    @property
    def _reachable(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"[{host}]" if ":" in host else host

    def __str__(self) -> str:
        return f"{self.variant.name} {self.model}@{self.version} on port {self.rest_port}"


@dataclass(frozen=True)
class Conditions:
    """Under what conditions a server runs, as the system tells."""

    cpus: CPUs | None
    """Those that it may use; None if the system does not tell."""
    memory: int | None = None
    """Bytes that it may take; None where nothing but the machine bounds it."""
    processes: int | None = None
    """Processes and threads that it may have; the same."""
    image_digest: str = ""
    """What a registry knows its image by, REPOSITORY@sha256:...; empty where none does."""


def planned(
    settings: Settings,
    engine: str,
    model: Model,
    variant: Variant,
    *,
    port: int = 0,
    grpc_port: int = 0,
    fingerprint: str = "",
    temporary: bool = False,
    image: str = "",
    image_id: str = "",
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
        grpc_port=grpc_port,
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        fingerprint=fingerprint,
        temporary=temporary,
        image=image,
        image_id=image_id,
    )


def digest(*parts: object) -> str:
    """SHA-256 over the parts, which must be what JSON can say."""
    return sha256(json.dumps(parts).encode()).hexdigest()


class Engine(Protocol):
    """Where servers run. Only servers that this suite started are ever listed or stopped."""

    name: str

    def start(
        self, model: Model, variant: Variant, port: int | None = None, *, temporary: bool = False
    ) -> Server:
        """Start a server and return once a real predict has answered.

        `port` is its REST port; None takes the first free one from the settings, as gRPC always does. A
        `temporary` one is for this call: should the call be killed, the next one ends it. Raises
        ServerError, with the server stopped and nothing left behind, if it dies, never answers, or the
        port is taken.
        """
        ...

    def preview(self, model: Model, variant: Variant, port: int | None = None) -> None:
        """Print the command of the server that `start` would start. For --dry: starts nothing."""
        ...

    def fingerprint(self, model: Model, variant: Variant) -> str:
        """Of everything that a server of `variant` started now would be made of.

        What it loads, the program, its arguments and limits; not its port. A server with another
        fingerprint is not the one that is wanted.
        """
        ...

    def servers(self) -> list[Server]:
        """The servers of this suite that run now, oldest first. Records of dead ones are removed."""
        ...

    def logs(self, server: Server, lines: int | None = None) -> str:
        """The last `lines` lines that the server wrote; all of them if None."""
        ...

    def conditions(self, server: Server) -> Conditions:
        """Under what conditions the server runs."""
        ...

    def version(self) -> Mapping[str, str]:
        """What the engine itself is, by name; empty where that is this suite alone."""
        ...

    def stop(self, server: Server, grace: float) -> None:
        """End the server: politely, and after `grace` seconds by force. Done when it is gone."""
        ...
