"""Ports for new servers: the one asked for, or the next that is free."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Container, Sequence
from pathlib import Path

from tasks.lib.common import console, processes
from tasks.lib.common.errors import ServerError
from tasks.lib.common.settings import Settings
from tasks.lib.engines.base import Server

STEP = 2
"""Every other port is tried: by default REST gets the odd ones, and gRPC the even ones below them."""
TRIED = 100
STARTS_TRIED = 3
"""A server that finds its port taken once it has loaded is started again on another one."""


class PortLost(ServerError):
    """Something else took the port between the moment it was chosen and the one it was opened."""

    def __init__(self, port: int, moment: str) -> None:
        super().__init__(
            f"Port {port} was taken by {holder(port)} while {moment}.",
            "Choose another --port, or end that program.",
        )
        self.port = port


_promised: dict[Path, set[int]] = {}
"""By state folder, the ports of servers that --dry has told of: the next one in the chain gets others."""


def choose(settings: Settings, asked_for: int | None, ours: Sequence[Server]) -> tuple[int, int]:
    """A REST port, the one asked for or the first free one, and the first free one for gRPC.

    `ours` are the servers of this suite, whose ports may not be open yet. Raises ServerError if there
    is none.
    """
    serve = settings.serve
    taken = {port: server for server in ours for port in (server.rest_port, server.grpc_port)}
    promised = _promised.setdefault(settings.paths.state, set()) if settings.dry else set()
    if not asked_for:
        rest = _first_free(serve.host, serve.rest_port, {*taken, *promised}, "INVOKE_SERVE_REST_PORT")
    elif asked_for in taken or not is_free(serve.host, asked_for):
        raise _taken(asked_for, taken.get(asked_for))
    else:
        rest = asked_for
    grpc = _first_free(serve.host, serve.grpc_port, {*taken, *promised, rest}, "INVOKE_SERVE_GRPC_PORT")
    promised |= {rest, grpc}
    return rest, grpc


def _first_free(host: str, first: int, taken: Container[int], setting: str) -> int:
    for port in range(first, min(first + STEP * TRIED, 65536), STEP):
        if port not in taken and is_free(host, port):
            if port != first:
                console.note(f"port {first} is taken, so this server gets {port}")
            return port
    raise ServerError(f"No port is free from {first} on.", f"Choose another range with {setting}.")


def lost(server: Server) -> int | None:
    """The port of a server that did not come up and that another program has; None if none is taken."""
    return next((p for p in (server.rest_port, server.grpc_port) if not is_free(server.host, p)), None)


def _taken(port: int, server: Server | None) -> ServerError:
    if server is not None:
        name = server.variant.name
        return ServerError(
            f"Port {port} is taken by {name} {server.model}@{server.version} of this suite.",
            f"Stop it with `invoke serve.stop --variant {name}`, or choose another --port.",
        )
    return ServerError(
        f"Port {port} is taken by {holder(port)}.", "Choose another --port, or end that program."
    )


def holder(port: int) -> str:
    """Who listens on the port, as well as the system tells."""
    return processes.listener(port) or "another program"


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there. Raises ServerError if none ever can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            # Connections that were closed a moment ago do not keep a server from listening.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            trial.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise ServerError(
            f"No server can listen on {host} port {port}: {reason}.",
            "Choose a --port above 1023, and an INVOKE_SERVE_HOST that is an address of this machine.",
        ) from error
    return True
