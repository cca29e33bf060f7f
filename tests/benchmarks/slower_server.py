"""How often a server that is 5 % slower is found, over runs of real ones.

Each run is a whole verdict with a seed of its own, until the interval is narrower than 2 %. Prints how many
found the slower server, and how many called it faster: none must.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tests.benchmarks.identical_servers import judged, pair, plan

RUNS = 10
MILLISECONDS = 2.0
"""Of work for each request."""
SLOWER = 1.05
UNTIL_NARROW = replace(plan(seed=0), ci_width=0.02, max_seconds=20, block_requests=24)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    outcomes = []
    with pair(MILLISECONDS, MILLISECONDS * SLOWER) as (a, b):
        for seed in range(runs):
            done = judged(a, b, replace(UNTIL_NARROW, seed=seed))
            assert done.p50 is not None
            outcomes.append(done.p50.outcome)
    print(f"found: {outcomes.count(-1)} of {runs}; called faster: {outcomes.count(1)} (none may be)")


if __name__ == "__main__":
    main()
