"""--grpc_socket_path: a Unix socket, which is a file that a killed server leaves behind."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

from embedded_server.common.errors import StartError

_LONGEST = 107  # bytes of a path (sun_path in linux/un.h, with its zero)


def free(path: Path) -> None:
    """Remove what a server left at `path` that has ended.

    Raises StartError where something else is there, such as a server that is running.
    """
    if len(os.fsencode(path)) > _LONGEST:
        raise StartError(f"--grpc_socket_path {path}: a socket's path may have {_LONGEST} bytes")
    if not path.parent.is_dir():
        raise StartError(f"--grpc_socket_path {path}: there is no folder {path.parent}")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartError(f"--grpc_socket_path {path}: a file that is no socket is there")
    if _is_served(path):
        raise StartError(f"cannot listen on {path}: another server is running there")
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # its queue is full, or it is not ours to ask
            return True
    return True
