"""Sockets, signals, and the way out."""

from __future__ import annotations

import logging
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from embedded_server.errors import StartError
from embedded_server.flags import Flags
from embedded_server.inference import Inference
from embedded_server.metrics import Metrics
from embedded_server.rest import MAX_BODY, RestApi
from embedded_server.servable import Models

if TYPE_CHECKING:
    from embedded_server.grpc_api import GrpcServer

_KEEP_ALIVE = 75  # seconds an idle connection stays open; clients reuse theirs for about a minute
_BACKLOG = 2048
_THREADS_PER_CPU = 4  # TensorFlow Serving's own default for --rest_api_num_threads and --grpc_max_threads

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


def serve(models: Models, flags: Flags, listener: socket.socket, grpc_listener: socket.socket | None) -> int:
    """Listen, and serve until SIGTERM or SIGINT. Returns the number of requests that were cut off.

    listener, grpc_listener: the bound sockets for REST, and for gRPC if that is wanted.

    On a signal no further connection is accepted; requests in flight have flags.shutdown_grace seconds.
    Raises StartError where somebody else has begun to listen on a port.
    """
    default_threads = _THREADS_PER_CPU * _cpu_count()
    executor = ThreadPoolExecutor(flags.rest_api_num_threads or default_threads, thread_name_prefix="rest")
    metrics = Metrics()
    inference = Inference(metrics, flags.check_method_names)
    app = RestApi(models, inference, metrics, flags.metrics_path, executor, flags.rest_api_timeout)
    grpc_server = None
    if grpc_listener is not None:
        from embedded_server.grpc_api import (
            GrpcServer,
        )  # its messages import TensorFlow: only when that is due

        threads = flags.grpc_max_threads or default_threads
        grpc_server = GrpcServer(models, inference, metrics, threads, MAX_BODY)
        grpc_server.start(grpc_listener)
    server = _Server(
        grpc_server,
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
        ),
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
    return app.cut_off + (grpc_server.stopped() if grpc_server else 0)


class _Server(uvicorn.Server):
    """HTTP, and gRPC beside it: both are told to stop at once."""

    def __init__(self, grpc_server: GrpcServer | None, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._grpc_server = grpc_server

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._grpc_server is not None:
            self._grpc_server.stop(self.config.timeout_graceful_shutdown or 0)
        super().handle_exit(sig, frame)


def _cpu_count() -> int:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS
