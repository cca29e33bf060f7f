"""The program: read the flags, load the model, serve it."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence

from embedded_server.common.errors import ServingError, StartError
from embedded_server.common.metrics import Metrics
from embedded_server.config.flags import parse_flags
from embedded_server.config.model_config import configured_models
from embedded_server.execution.servable import Models
from embedded_server.grpc import unix_socket
from embedded_server.lifecycle.loading import prepare
from embedded_server.lifecycle.manager import Manager
from embedded_server.serving import reserve_port, serve

_log = logging.getLogger("embedded_server")


class _Left(BaseException):
    """A signal came before the server listened."""


def _leave(*_: object) -> None:
    raise _Left


def main(arguments: Sequence[str]) -> int:
    """Run until a signal. Returns the exit code: 0 done, 1 could not start or had to cut requests off."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        flags = parse_flags(arguments)
        models, metrics = Models(), Metrics()
        manager = Manager(models, flags, configured_models(flags), metrics)
        listener = reserve_port(flags.rest_api_host, flags.rest_api_port) if flags.rest_api_port else None
        grpc_listener = reserve_port(flags.grpc_host, flags.grpc_port) if flags.grpc_port else None
        if flags.grpc.socket_path is not None:
            unix_socket.free(flags.grpc.socket_path)
        prepare(flags)
        # The wait may be for ever, and the first process of a container has no default way to end.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _leave)
        manager.start()
        manager.wait_until_served()
        cut_off = serve(models, manager, metrics, flags, listener, grpc_listener)
    except _Left:
        _log.info("Stopped before there was a model to serve")
        return 0
    except (StartError, ServingError) as error:
        print(f"embedded_server: {error}", file=sys.stderr)
        return 1
    if cut_off:
        _log.warning("Stopped; %d request(s) still running were cut off", cut_off)
        return 1
    _log.info("Stopped; all requests were answered")
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: that waits for threads, and a request cut off may keep its thread for long.
    os._exit(code)
