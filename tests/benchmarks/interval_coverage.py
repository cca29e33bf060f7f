"""How often intervals hold the true ratio, over thousands of simulated runs.

Rounds of one pair of processes have noise that lingers (autoregressive of order 1, `memory` from round to
round), partly hidden by noise that does not; several pairs differ from each other too. Prints the coverage of
the 95 % interval for each number of batches, so that stats.BATCHES can be chosen, and of the interval over
instances.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tasks.lib.common.tables import render
from tasks.lib.measure import stats
from tests.helpers.simulated import lingering

RUNS = 4000
BATCHES = (12, 16, 20, 24, 32)
SERIES = [
    (rounds, memory, white)
    for rounds in (14, 40, 100, 300)
    for memory, white in ((0.0, 0.0), (0.5, 0.0), (0.8, 0.0), (0.95, 0.0), (0.95, 3.0))
]
NESTED = [(pairs, rounds, between) for pairs in (2, 3, 5) for rounds in (6, 40) for between in (0.0, 0.03)]


def held(interval: stats.Interval) -> bool:
    """Whether it holds the ratio of the simulated runs, 1."""
    return interval.low <= 1 <= interval.high


def main() -> None:
    random = np.random.default_rng(1)
    rows = []
    for rounds, memory, white in SERIES:
        runs = np.exp(lingering(random, RUNS, rounds, memory, white))
        row: dict[str, object] = {"rounds": rounds, "memory": memory, "other noise": white}
        for stats.BATCHES in BATCHES:
            intervals = [stats.serial_interval(run)[0] for run in runs]
            row[f"{stats.BATCHES} batches"] = f"{np.mean(list(map(held, intervals))):.1%}"
        rows.append(row | {"independent": f"{np.mean(list(map(held, map(stats.ratio_interval, runs)))):.1%}"})
    print(render(rows))
    rows = []
    for pairs, rounds, between in NESTED:
        levels = random.normal(0, between, (RUNS, pairs, 1))
        noise = lingering(random, RUNS * pairs, rounds, 0.6).reshape(RUNS, pairs, rounds)
        runs = np.exp(levels + noise)
        widths = [stats.nested_interval(run)[0] for run in runs]
        rows.append(
            {
                "pairs": pairs,
                "rounds of each": rounds,
                "between": between,
                "holds": f"{np.mean(list(map(held, widths))):.1%}",
                "half as wide": f"{np.median([math.log(one.high) for one in widths]):.2%}",
            }
        )
    print()
    print(render(rows))


if __name__ == "__main__":
    main()
