"""The Docker Engine on this machine: where it listens, and why it may not answer."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tasks.lib.common import console
from tasks.lib.common.errors import DockerError

if TYPE_CHECKING:
    from docker.client import DockerClient

TIMEOUT = 30
"""Seconds that the daemon has for one answer."""
INSTALL = "https://docs.docker.com/engine/install/"


def address() -> str:
    """Where the docker command would look: $DOCKER_HOST, else the context chosen, else the default.

    The docker library knows nothing of contexts by itself, and would talk to another daemon than the
    command does.
    """
    from docker.context import ContextAPI
    from docker.errors import DockerException

    host = os.environ.get("DOCKER_HOST", "")
    if host:
        return host
    try:
        context = ContextAPI.get_context(os.environ.get("DOCKER_CONTEXT") or None)
    except (DockerException, OSError, ValueError) as error:
        raise DockerError(
            f"Docker's context cannot be read ({error}).", "Look at `docker context ls`, or set DOCKER_HOST."
        ) from error
    if context is None:
        raise DockerError(
            f"There is no Docker context {os.environ.get('DOCKER_CONTEXT')!r}.",
            "Choose one of `docker context ls` with DOCKER_CONTEXT.",
        )
    return str(context.Host)


def connect(timeout: float = TIMEOUT) -> DockerClient:
    """A client of the daemon on this machine, which has answered. Close it after use.

    Raises DockerError if there is none, if this user may not use it, or if it is on another machine.
    """
    import requests
    from docker.client import DockerClient
    from docker.errors import DockerException

    where = address()
    path = _socket(where)
    # Tried by hand first: the library hides why, and leaves its own socket open.
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.settimeout(timeout)
            probe.connect(path)
        except OSError as error:
            raise _unreachable(path, error) from error
    client = None
    try:
        client = DockerClient(base_url=where, version="auto", timeout=timeout)
        client.ping()
    except (DockerException, requests.RequestException, OSError) as error:
        if client is not None:
            client.close()
        raise _strange(path, error) from error
    return client


@contextmanager
def connected(timeout: float = TIMEOUT) -> Iterator[DockerClient]:
    """`connect` for a block; a daemon that goes away meanwhile is a DockerError too."""
    import requests
    from docker.errors import DockerException

    client = connect(timeout)
    try:
        yield client
    except (requests.RequestException, DockerException) as error:
        raise _strange(_socket(address()), error) from error
    finally:
        client.close()


def environment() -> dict[str, str]:
    """What makes the docker command talk to the daemon that `connect` talks to."""
    return {"DOCKER_HOST": address()}


def _socket(where: str) -> str:
    """The path of the socket at the address. Raises DockerError if it is not one of this machine."""
    parts = urlsplit(where)
    if parts.scheme != "unix":
        raise DockerError(
            f"The Docker Engine at {_without_password(where)} may be on another machine, where models cannot "
            "be mounted and ports are not this machine's.",
            "Unset DOCKER_HOST or choose a context with a unix:// socket, or use --engine local.",
        )
    return parts.netloc + parts.path


def _without_password(where: str) -> str:
    parts = urlsplit(where)
    return where.replace(f"{parts.username}:{parts.password}@", "") if parts.password else where


def _unreachable(path: str, error: OSError) -> DockerError:
    if error.errno in (errno.EACCES, errno.EPERM):
        return DockerError(
            f"You may not use the Docker Engine: permission denied at {path}.",
            "Add yourself to the group that owns it (`sudo usermod -aG docker $USER`, then log in again), or "
            "use --engine local.",
        )
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTSOCK, errno.ENOTDIR):
        return DockerError(
            f"No Docker Engine answers at {path}.",
            f"Start it (`sudo systemctl start docker`), install it ({INSTALL}), or use --engine local.",
        )
    return _strange(path, error)


def _strange(path: str, error: Exception) -> DockerError:
    why = console.shortened(str(error).rstrip(". "))
    return DockerError(
        f"The Docker Engine at {path} gives an unexpected answer: {why}.",
        "Look at `docker version`, or use --engine local.",
    )
