"""A model server of known behaviour, on loopback, as a process of its own.

Run as a program it prints its port, says of itself that it serves net@1, and answers predicts after a fixed
time of work: `--milliseconds M`; every Nth with status 503: `--drop N`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY = b'{"predictions": [[0.1, 0.9]]}'
TENSOR = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "2"}]}}
SIGNATURE = {
    "inputs": {"x": TENSOR},
    "outputs": {"probabilities": TENSOR},
    "method_name": "tensorflow/serving/predict",
}
METADATA = {
    "model_spec": {"name": "net", "version": "1"},
    "metadata": {"signature_def": {"signature_def": {"serving_default": SIGNATURE}}},
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    milliseconds = 1.0
    drop = 0
    count = itertools.count(1)

    def do_POST(self) -> None:
        arrived = time.perf_counter()
        self.rfile.read(int(self.headers["Content-Length"]))
        dropped = self.drop and next(self.count) % self.drop == 0
        # Work, not sleep: the system wakes a sleeper up when it likes.
        while time.perf_counter() < arrived + self.milliseconds / 1000:
            pass
        self._answer(b"503 Busy" if dropped else b"200 OK", BODY)

    def do_GET(self) -> None:
        self._answer(b"200 OK", json.dumps(METADATA).encode())

    def _answer(self, status: bytes, body: bytes) -> None:
        self.wfile.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def running(milliseconds: float, drop: int = 0) -> Iterator[str]:
    """The address of a model that is served for as long as the block lasts."""
    words = [sys.executable, __file__, f"--milliseconds={milliseconds}", f"--drop={drop}"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1/models/net"
    finally:
        server.kill()
        server.communicate()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--milliseconds", type=float, default=1.0)
    parser.add_argument("--drop", type=int, default=0)
    options = parser.parse_args()
    Handler.milliseconds, Handler.drop = options.milliseconds, options.drop
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
