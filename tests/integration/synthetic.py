"""A model server of known behaviour, on loopback, as a process of its own.

Run as a program it prints its port, says of itself that it serves net@1, which tells two classes apart, and
answers predicts after a fixed time of work: `--milliseconds M`. What else it does can be changed:
    --port N        it listens there, not at a free port
    --drop N        every Nth predict is answered with status 503
    --pause-every N every Nth predict is answered half a second later, and no other request meanwhile
    --other         it is sure of the other class
`GET /count` tells how many predicts it was sent.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAUSE = 0.5
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
    pause_every = 0
    body = b'{"predictions": [[0.1, 0.9]]}'
    numbers = itertools.count(1)
    count = 0
    worker = threading.Lock()
    """There is one: a request that arrives during its pause has to wait."""

    def do_POST(self) -> None:
        arrived = time.perf_counter()
        self.rfile.read(int(self.headers["Content-Length"]))
        number = next(self.numbers)
        Handler.count = number
        if self.pause_every:
            with self.worker:
                time.sleep(0 if number % self.pause_every else PAUSE)
        # Work, not sleep: the system wakes a sleeper up when it likes.
        while time.perf_counter() < arrived + self.milliseconds / 1000:
            pass
        dropped = self.drop and number % self.drop == 0
        self.answer(b"503 Busy" if dropped else b"200 OK", self.body)

    def do_GET(self) -> None:
        content = Handler.count if self.path == "/count" else METADATA
        self.answer(b"200 OK", json.dumps(content).encode())

    def answer(self, status: bytes, body: bytes) -> None:
        self.wfile.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def running(milliseconds: float, *options: str) -> Iterator[str]:
    """The address of a model that is served for as long as the block lasts; `options` as above."""
    words = [sys.executable, __file__, f"--milliseconds={milliseconds}", *options]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1/models/net"
    finally:
        server.kill()
        server.communicate()


def predicts(url: str) -> int:
    """How many of them the server at this address was sent."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url.partition('/v1/')[0]}/count", timeout=10) as answer:
        return int(json.load(answer))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--milliseconds", type=float, default=1.0)
    parser.add_argument("--drop", type=int, default=0)
    parser.add_argument("--pause-every", type=int, default=0)
    parser.add_argument("--other", action="store_true")
    options = parser.parse_args()
    Handler.milliseconds, Handler.drop = options.milliseconds, options.drop
    Handler.pause_every = options.pause_every
    if options.other:
        Handler.body = b'{"predictions": [[0.9, 0.1]]}'
    with ThreadingHTTPServer(("127.0.0.1", options.port), Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
