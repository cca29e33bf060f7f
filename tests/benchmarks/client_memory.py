"""The load generator's largest memory in an open loop of 1,000 requests/s for N seconds (default 600).

Prints it next to what the same program took before the first request, and what the latencies were.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tasks.lib.benchmark import contest  # noqa: F401  # all that a benchmark imports is in memory as well
from tasks.lib.measure.histogram import Histogram
from tasks.lib.measure.load import Load
from tests.benchmarks.trivial_server import running

RATE = 1000
BODY = bytes(36_000)


def peak() -> float:
    """Of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    histogram = Histogram()
    with running() as url, Load([url], 30, 64) as load:
        load.send_closed_loop([load.prepare(BODY)] * 100)
        before = peak()
        block = load.send_open_loop([load.prepare(BODY)] * (RATE * seconds), RATE, Random(1))
        histogram.record(block.latencies)
    p50, p99, longest = (1000 * each for each in histogram.percentiles([50, 99, 100]))
    print(f"{len(block.latencies)} answers and {block.errors} errors in {block.seconds:.1f} s")
    print(f"p50 {p50:.3f} ms, p99 {p99:.3f} ms, longest {longest:.1f} ms")
    print(f"peak RSS {peak():.1f} MiB, {before:.1f} MiB before the run")


if __name__ == "__main__":
    main()
