"""Starts the real program, and talks to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

PACKAGE_FOLDER = Path(__file__).resolve().parents[2] / "docker" / "embedded"
PATIENCE = 60  # seconds; how long anything may take before the test fails


def free_port() -> int:
    """A port on which nothing listened a moment ago."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Different ones, which two calls of free_port need not give."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def environment() -> dict[str, str]:
    """The variables of a process that runs the program."""
    return {**os.environ, "PYTHONPATH": str(PACKAGE_FOLDER)}


def start(*flags: str) -> subprocess.Popen[str]:
    """Start the program; without gRPC, unless the flags say otherwise."""
    return subprocess.Popen(
        [sys.executable, "-m", "embedded_server", "--port=0", *flags],
        env=environment(),
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def run_to_end(*flags: str) -> tuple[int, str]:
    """Run the program where it cannot start. Returns the exit code and what it wrote to stderr."""
    process = start(*flags)
    try:
        _, log = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, log


class Server:
    """A running server; as a context manager it is ready on entry and gone on exit."""

    def __init__(self, *flags: str, patience: float = PATIENCE) -> None:
        """patience: seconds in which it has to be ready."""
        self._patience = patience
        self.port, self.grpc_port = free_ports(2)
        self.process = start(f"--rest_api_port={self.port}", f"--port={self.grpc_port}", *flags)
        self.log: list[str] = []
        self._listens = False
        self._changed = threading.Event()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def __enter__(self) -> Server:
        self._changed.wait(self._patience)
        if not self._listens:  # too slow, or at its end
            self.process.kill()
            raise AssertionError("the server did not start:\n" + "".join(self.log))
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE)
        if self.process.stderr:
            self.process.stderr.close()

    def stop(self) -> int:
        """Send SIGTERM and wait. Returns the exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Send a request; a body that is not bytes is sent as JSON. Returns the status and the JSON."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            answer = response.read()
            assert response.headers["content-type"] == "application/json"
            return response.status, json.loads(answer)
        finally:
            connection.close()

    def _read_log(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.log.append(line)
            if "HTTP/REST API" in line:  # where it is, or that there is none: the last line before it serves
                self._listens = True
                self._changed.set()
        self._changed.set()  # the program has ended: nothing more to wait for
