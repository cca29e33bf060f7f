"""Which processes of this machine listen at an address, in containers too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tasks.lib.common.errors import DockerError
from tasks.lib.images import daemon

HERE = ("127.0.0.1", "localhost", "::1")
PROXY = "docker-proxy"
"""Listens at the ports that Docker publishes, unless the kernel alone forwards them."""
PATIENCE = 5.0
"""Seconds that Docker has for an answer."""


def processes(url: str) -> tuple[int, ...]:
    """The ids of all processes that listen at `url`, those of a container as a whole; none if not found."""
    import psutil

    parts = urlsplit(url)
    if parts.hostname not in HERE or parts.port is None:
        return ()
    try:
        ids = {
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == parts.port
        }
        # None is a process of another user, which may be Docker's proxy.
        local = [pid for pid in ids if pid is not None and psutil.Process(pid).name() != PROXY]
    except (psutil.Error, OSError):
        return ()
    return tuple(sorted(local or _of_container(parts.port)))


def _of_container(port: int) -> Iterator[int]:
    """All processes of the container that Docker publishes at a port of this machine."""
    from docker.errors import APIError

    try:
        with daemon.connected(PATIENCE) as client:
            for container in client.containers.list(filters={"publish": str(port)}):
                try:
                    top = container.top(ps_args="-o pid")
                except APIError:  # it has ended just now
                    continue
                for row in top["Processes"] or ():
                    if _is_of(int(row[0]), container.id):
                        yield int(row[0])
    except DockerError:
        return


def _is_of(pid: int, container: str) -> bool:
    """Whether this machine has that process in that container: Docker may run in a machine of its own."""
    try:
        return container in Path("/proc", str(pid), "cgroup").read_text()
    except OSError:
        return False
