"""Sockets, signals, and the way out."""

from __future__ import annotations

import logging
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import uvicorn

from embedded_server.errors import StartError
from embedded_server.flags import Flags
from embedded_server.rest import RestApi
from embedded_server.servable import Models

_KEEP_ALIVE = 75  # seconds an idle connection stays open; clients reuse theirs for about a minute
_BACKLOG = 2048
_THREADS_PER_CPU = 4  # TensorFlow Serving's own default for --rest_api_num_threads

_log = logging.getLogger(__name__)


def reserve_port(host: str, port: int) -> socket.socket:
    """Bind, without listening: the port is ours, but closed to clients until the model is loaded.

    Raises StartError where the address is taken or is none of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise StartError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listener


def serve(models: Models, flags: Flags, listener: socket.socket) -> int:
    """Listen, and serve until SIGTERM or SIGINT. Returns the number of requests that were cut off.

    On a signal no further connection is accepted; requests in flight have flags.shutdown_grace seconds.
    Raises StartError where somebody else has begun to listen on the port.
    """
    threads = flags.rest_api_num_threads or _THREADS_PER_CPU * _cpu_count()
    executor = ThreadPoolExecutor(threads, thread_name_prefix="rest")
    app = RestApi(models, executor, flags.rest_api_timeout)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=flags.shutdown_grace,
        )
    )
    # uvicorn raises the signal once more when it is done, for whoever handled it before; that is us.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        listener.listen(_BACKLOG)
    except OSError as error:
        host, port = flags.rest_api_host, flags.rest_api_port
        raise StartError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    _log.info("Exporting HTTP/REST API at:%s:%d ...", flags.rest_api_host, flags.rest_api_port)
    server.run(sockets=[listener])
    executor.shutdown(wait=False, cancel_futures=True)
    return app.cut_off


def _cpu_count() -> int:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS
