"""A server with small limits, and what its tests ask."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raw import Response, ask, request
from running import PATIENCE, Server

PREDICT = "/v1/models/module:predict"
STATUS = "/v1/models/module"
GOOD = request("POST", PREDICT, b'{"instances": [[1, 2]]}')
GOOD_ANSWER = {"predictions": [[4.0, 1.0]]}

MAX_REQUEST = 100_000
MAX_TOTAL = 250_000
MAX_CONNECTIONS = 8


@contextmanager
def limited_server(models: Path) -> Iterator[Server]:
    """A server that executes one request at a time, over REST and over gRPC, and lets two wait."""
    with Server(
        "--model_name=module",
        f"--model_base_path={models / 'module'}",
        f"--max_request_bytes={MAX_REQUEST}",
        f"--max_total_request_bytes={MAX_TOTAL}",
        f"--max_connections={MAX_CONNECTIONS}",
        "--max_queued_requests=2",
        "--rest_api_num_threads=1",
        "--grpc_max_threads=1",
        "--rest_api_timeout_in_ms=2000",
        "--client_timeout_seconds=1",
    ) as server:
        yield server
        server.stop()
        server._reader.join(PATIENCE)
        log = "".join(server.log)
        assert "Traceback" not in log, log
        assert "ERROR" not in log, log


def good(server: Server) -> Response:
    """The answer to a good request, as soon as there is room for it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        response = ask(server.port, GOOD)
        if response.status != 503 or time.monotonic() > deadline:
            return response


def assert_serves(server: Server) -> None:
    response = good(server)
    assert (response.status, response.document) == (200, GOOD_ANSWER)


def half_sent(size: int) -> bytes:
    """All but the last byte of a request that has `size` bytes of body."""
    return request("POST", PREDICT, b" " * size)[:-1]
