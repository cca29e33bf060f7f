"""Ports for new servers: the one asked for, or the next that is free."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence

from tasks.lib import console, processes
from tasks.lib.engines.base import Server
from tasks.lib.errors import ServerError
from tasks.lib.settings import Serve

STEP = 2
"""Servers take their ports in pairs, gRPC one below REST; the embedded one leaves its gRPC port unused."""
TRIED = 100
STARTS_TRIED = 3
"""A server that finds its port taken once it has loaded is started anew on another one."""


class PortLost(ServerError):
    """Something else took the port between the moment it was chosen and the one it was opened."""


def choose(serve: Serve, wanted: int | None, ours: Sequence[Server], grpc: bool = False) -> int:
    """The REST port asked for, or the first free one. Raises ServerError if there is none.

    `ours` are the servers of this suite, whose ports may not be open yet. With `grpc` the port below it
    must be free too.
    """
    first = wanted or serve.rest_port
    taken_by_us = {server.rest_port: server for server in ours}
    for port in range(first, min(first + STEP * TRIED, 65536), STEP):
        taken = next(
            (p for p in ((port, port - 1) if grpc else (port,)) if not _usable(serve, p, ours)), None
        )
        if taken is None:
            if port != first:
                console.note(f"port {first} is taken, so this server gets {port}")
            return port
        if wanted is not None:
            raise _taken(taken, taken_by_us.get(taken))
    raise ServerError(
        f"No port is free from {first} on.", "Choose another range with --port or INVOKE_SERVE_REST_PORT."
    )


def _usable(serve: Serve, port: int, ours: Sequence[Server]) -> bool:
    return all(server.rest_port != port for server in ours) and is_free(serve.host, port)


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
