"""What the benchmark's gRPC client adds to what h2load reports on the same server, and what grpcio would.

A gRPC server that does nothing (grpcio, in a process of its own) is sent the same message over one
connection by h2load, by tasks.lib.measure.load.Load, and by grpcio's multicallable, in alternation. Prints
the p50 of each for every round, the 95 % intervals of the differences, and the CPU time for a call.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tasks.lib.client.grpc import PREDICT
from tasks.lib.client.grpc_wire import GrpcReplica
from tasks.lib.measure.load import Load
from tasks.lib.measure.stats import t_quantile
from tests.helpers.grpc_serving import serving

ROUNDS = 10
CALLS = 3000
SIZES = (100, 36_000)
"""Bytes of the message."""

Measure = Callable[[bytes], float]
"""Sends the message CALLS times, and returns the p50 in seconds."""


@contextmanager
def running() -> Iterator[int]:
    """The port of a server in another process."""
    server = subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield int(server.stdout.readline())
    finally:
        server.kill()
        server.communicate()


def serve() -> None:
    with serving() as server:
        print(server.port, flush=True)
        server.stopping.wait()


def by_h2load(port: int) -> Measure:
    def measure(content: bytes) -> float:
        with tempfile.TemporaryDirectory() as temporary:
            body, log = Path(temporary, "body"), Path(temporary, "log")
            body.write_bytes(GrpcReplica(0, "grpc://127.0.0.1", PREDICT).request(content))
            command = ["h2load", f"--requests={CALLS}", "--clients=1", "--max-concurrent-streams=1"]
            command += [f"--data={body}", f"--log-file={log}", "--header=content-type: application/grpc"]
            command += ["--header=te: trailers", f"http://127.0.0.1:{port}{PREDICT}"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            lines = [line.split() for line in log.read_text().splitlines()]
        assert all(status == "200" for _, status, _ in lines), lines[0]
        return float(np.median([int(microseconds) for _, _, microseconds in lines])) / 1e6

    return measure


def by_this_client(port: int) -> Measure:
    def measure(content: bytes) -> float:
        request = (GrpcReplica(0, "grpc://127.0.0.1", PREDICT).request(content),)
        with Load([f"grpc://127.0.0.1:{port}/v1/models/net"], 30) as load:
            block = load.send_closed_loop([request] * CALLS)
        assert block.errors == 0
        return float(np.median(block.latencies))

    return measure


def by_grpcio(port: int) -> Measure:
    def measure(content: bytes) -> float:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
            call = channel.unary_unary(PREDICT)
            latencies = []
            for _ in range(CALLS):
                before = time.perf_counter()
                call(content)
                latencies.append(time.perf_counter() - before)
        return float(np.median(latencies))

    return measure


def main() -> None:
    if shutil.which("h2load") is None:
        raise SystemExit("h2load is not installed.\nInstall it (Debian: apt-get install nghttp2-client).")
    with running() as port:
        clients = {
            "h2load": by_h2load(port),
            "this client": by_this_client(port),
            "grpcio": by_grpcio(port),
        }
        for size in SIZES:
            compare(clients, bytes(size))


def compare(clients: dict[str, Measure], content: bytes) -> None:
    found: dict[str, list[float]] = {name: [] for name in clients}
    used: dict[str, float] = dict.fromkeys(clients, 0.0)
    for measure in clients.values():
        measure(content)
    for number in range(ROUNDS):
        for name, measure in clients.items() if number % 2 else reversed(clients.items()):
            before = time.process_time()
            found[name].append(measure(content) * 1000)
            used[name] += time.process_time() - before
        told = ", ".join(f"{name} {values[-1]:.3f} ms" for name, values in found.items())
        print(f"{len(content)} bytes, round {number + 1}: {told}")
    for name in ("this client", "grpcio"):
        apart = np.subtract(found[name], found["h2load"])
        spread = np.std(apart, ddof=1) / np.sqrt(ROUNDS) * t_quantile(0.975, ROUNDS - 1)
        print(
            f"{len(content)} bytes: {name} adds {np.mean(apart):.3f} ± {spread:.3f} ms at p50 (95% CI), "
            f"and takes {used[name] / ROUNDS / CALLS * 1e6:.0f} µs of CPU for a call"
        )


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
