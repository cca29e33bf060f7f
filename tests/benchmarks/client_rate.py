"""How many requests per second the load generator drives from one core, over 8 connections.

The server costs next to nothing and has a core of its own. Requests are small ones, and such as carry a
photo. Prints each round's rate, p50 and the client's CPU time for a request; the same at one connection.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tasks.lib.measure.load import Load
from tests.benchmarks.trivial_server import running

ROUNDS = 3
REQUESTS = 10_000
SIZES = (100, 36_000)
"""Bytes of the body."""


def main() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise SystemExit("There is one CPU only.\nRun this where client and server can have one each.")
    os.sched_setaffinity(0, cpus[:1])
    with running({cpus[1]}) as url:
        for size in SIZES:
            for connections in (1, 8):
                for _ in range(ROUNDS):
                    measure(url, size, connections)


def measure(url: str, size: int, connections: int) -> None:
    with Load([url], 30, connections) as load:
        requests = [load.prepare(bytes(size))] * REQUESTS
        load.send_closed_loop(requests[:500])
        used = time.process_time()
        block = load.send_closed_loop(requests)
        used = time.process_time() - used
    assert block.errors == 0
    print(
        f"{size} bytes, {connections} connections: {REQUESTS / block.seconds:.0f} requests/s, "
        f"p50 {np.median(block.latencies) * 1000:.3f} ms, {used / REQUESTS * 1e6:.0f} µs of CPU each"
    )


if __name__ == "__main__":
    main()
