"""Sockets, signals, and the way out."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import logging
import resource
import signal
import socket
import struct
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from embedded_server.common.cpus import cpu_count
from embedded_server.common.errors import StartError
from embedded_server.common.limits import Memory
from embedded_server.common.metrics import Metrics
from embedded_server.config.flags import Flags
from embedded_server.execution.inference import Inference
from embedded_server.execution.servable import Models
from embedded_server.http.asgi import CORS_HEADERS, HttpApp
from embedded_server.http.connection import KEEP_ALIVE, Connection
from embedded_server.http.rest import RestApi
from embedded_server.http.workers import Workers
from embedded_server.lifecycle.manager import Manager

if TYPE_CHECKING:
    from embedded_server.grpc.services import GrpcServer

_BACKLOG = 2048
_THREADS_PER_CPU = 4  # TensorFlow Serving's own default for --rest_api_num_threads and --grpc_max_threads
_FILES = 256  # open files apart from the connections
_TICK = 0.1  # seconds between two ticks of uvicorn's
_SO_ATTACH_FILTER, _BPF_RET = 26, 0x06  # asm-generic/socket.h, linux/bpf_common.h
_STEP = 0.02  # seconds between two looks at whether the server can end

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


def serve(
    models: Models,
    manager: Manager,
    metrics: Metrics,
    flags: Flags,
    listener: socket.socket | None,
    grpc_listener: socket.socket | None,
) -> int:
    """Listen, and serve until SIGTERM or SIGINT. Returns the number of requests that were cut off.

    models: what is served; manager: keeps that, and is told of changes. metrics: what is counted.
    listener, grpc_listener: the bound sockets for REST and for gRPC; None for what is not wanted.

    On a signal the server goes on for flags.shutdown_drain seconds, while it says that it is not ready and
    ends each connection with its next answer. Then no further connection is accepted, and requests in
    flight have flags.shutdown_grace seconds. A second signal ends all of that at once.
    Raises StartError if another program has begun to listen on a port.
    """
    limits = flags.limits
    _allow_open_files(limits.connections + _FILES)
    default_threads = _THREADS_PER_CPU * cpu_count()
    workers = Workers(flags.rest_api_num_threads or default_threads, limits.queued_requests)
    inference = Inference(metrics, flags.check_method_names)
    api = RestApi(models, inference, metrics, flags.metrics_path)
    memory = Memory(limits.total_request_bytes)
    app = HttpApp(api, workers, memory, limits, flags.rest_api_timeout, flags.enable_cors_support)
    grpc_server = None
    if grpc_listener is not None or flags.grpc.socket_path is not None:
        from embedded_server.grpc.services import GrpcServer  # imports TensorFlow: only where that is due

        threads = flags.grpc_max_threads or default_threads
        grpc_server = GrpcServer(models, manager, inference, metrics, threads, limits, memory, flags.grpc)
        grpc_server.start(grpc_listener)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=functools.partial(Connection, limits=limits),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=CORS_HEADERS if flags.enable_cors_support else [],
        backlog=_BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
    )
    server = _Server(config, app, grpc_server, drain=flags.shutdown_drain, grace=flags.shutdown_grace)
    # uvicorn raises the signal once more when it is done, for the handler before it; that is us.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    if listener is None:
        _log.info("Exporting no HTTP/REST API: --rest_api_port is 0")
    else:
        try:
            _listen(listener, flags)
        except StartError:
            if grpc_server is not None:
                grpc_server.stop(0)  # removes its Unix socket
            raise
    server.run(sockets=[] if listener is None else [listener])
    return app.cut_off + (grpc_server.stopped() if grpc_server else 0)


def _listen(listener: socket.socket, flags: Flags) -> None:
    host, port = flags.rest_api_host, flags.rest_api_port
    try:
        listener.listen(_BACKLOG)
    except OSError as error:
        raise StartError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    _log.info("Exporting HTTP/REST API at:%s:%d ...", host, port)


class _Server(uvicorn.Server):
    """uvicorn's server with a clock for its connections, gRPC as well, and a way out that loses no request.

    uvicorn itself closes the listening socket at once, and with it the connections that wait in it; and it
    closes connections that are idle at that moment, though a request may be on its way in them.
    """

    def __init__(
        self, config: uvicorn.Config, app: HttpApp, grpc_server: GrpcServer | None, drain: float, grace: float
    ) -> None:
        """drain, grace: seconds; see serve."""
        super().__init__(config)
        self._app = app
        self._grpc_server = grpc_server
        self._drain = drain
        self._grace = grace

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        again = self.should_exit
        super().handle_exit(sig, frame)
        self.force_exit = again

    async def on_tick(self, counter: int) -> bool:
        if counter % round(1 / _TICK) == 0:
            self._look()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.leave()
        if self._grpc_server is not None:
            self._grpc_server.leave()
        end = time.monotonic() + self._drain
        while time.monotonic() < end and not self.force_exit:
            self._look()
            await asyncio.sleep(_TICK)
        if self._grpc_server is not None:
            self._grpc_server.stop(self._grace)
        for listener in sockets or []:
            await self._close_listener(listener)
        end = time.monotonic() + self._grace
        while self._is_busy and time.monotonic() < end and not self.force_exit:
            self._look()
            for connection in self._connections:
                connection.leave(time.monotonic())
            await asyncio.sleep(_STEP)
        if self.force_exit and self._grpc_server is not None:
            self._grpc_server.stop(0)
        if self.server_state.tasks:
            for task in self.server_state.tasks:
                task.cancel()
            await asyncio.wait(self.server_state.tasks, timeout=_TICK)  # they tell their clients

    @property
    def _connections(self) -> list[Connection]:
        return [other for other in self.server_state.connections if isinstance(other, Connection)]

    @property
    def _is_busy(self) -> bool:
        if self._connections or self.server_state.tasks:
            return True
        return self._grpc_server is not None and not self._grpc_server.has_stopped

    def _look(self) -> None:
        now = time.monotonic()
        for connection in self._connections:
            connection.look(now)

    async def _close_listener(self, listener: socket.socket) -> None:
        """Stop listening; who has been let in by the system until then, is served."""
        last = listener.dup()
        drop_late_connections(last)
        for server in self.servers:
            server.close()
        listener.close()
        try:
            while True:
                accepted, _ = last.accept()
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: self.config.http_protocol_class(  # type: ignore[call-arg]
                        config=self.config, server_state=self.server_state, app_state={}
                    ),
                    accepted,
                )
        except OSError:  # no connection is left
            last.close()


def drop_late_connections(listener: socket.socket) -> None:
    """Have the system drop all that arrives for a listening socket, where it can (Linux).

    Clients that connected between the last accept() and close() would be reset. A dropped
    client's system tries again after a second, and is refused.
    """
    if not sys.platform.startswith("linux"):
        return
    nothing = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RET, 0, 0, 0))  # a packet's 0 first bytes
    program = struct.pack("HL", 1, ctypes.addressof(nothing))  # linux/filter.h, sock_fprog
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _allow_open_files(number: int) -> None:
    """Raise this process's own limit of open files, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
