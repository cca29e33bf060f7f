"""How often a server that is a little slower is found, over runs of real synthetic servers.

Each run is a whole verdict with a seed of its own, on fresh processes: two given by address, or five of each
as a benchmark starts them. Prints for each setting how many runs found the slower server, and how many called
it faster: none may.

    python tests/benchmarks/slower_server.py [--runs 10] [--setting address]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tasks.lib.common import hardware
from tasks.lib.common.tables import render
from tasks.lib.measure import paired
from tasks.lib.measure.verdict import Contestant, Verdict
from tests.benchmarks.identical_servers import BUSY, COMPUTE, SAME, SECONDS, plan, programs
from tests.integration import synthetic

RUNS = 10
MILLISECONDS = 2.0
"""Of work for each request."""
DEFAULT = replace(
    plan(seed=0), ci_width=0.02, min_seconds=SECONDS, max_seconds=75, block_requests=24, warmup_seconds=10
)
"""The settings of invoke.yaml, less the warm-up of large models."""


@dataclass(frozen=True)
class Setting:
    """How much slower, how many processes of each, and how many programs compute meanwhile."""

    slower: float
    instances: int
    busy: int


SETTINGS = {
    "address": Setting(1.15, 1, 0),
    "quiet": Setting(1.05, 5, 0),
    "busy": Setting(1.10, 5, BUSY),
}


def verdicts(setting: Setting, runs: int) -> Iterator[Verdict]:
    """So many runs in this setting."""
    for seed in range(runs):
        with ExitStack() as stack:
            urls: dict[str, list[str]] = {"fast": [], "slow": []}
            for _ in range(setting.instances):
                for name, slower in (("fast", 1.0), ("slow", setting.slower)):
                    urls[name].append(stack.enter_context(synthetic.running(MILLISECONDS * slower)))
            stack.enter_context(programs([[sys.executable, "-c", COMPUTE]] * setting.busy))
            sides = [
                Contestant(name, "net@1", (first,), "-", "-", further=tuple((url,) for url in others))
                for name, (first, *others) in urls.items()
            ]
            body = b'{"instances": [[1, 2]]}'
            yield paired.judge(sides[0], sides[1], SAME, [body], replace(DEFAULT, seed=seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--setting", action="append", choices=SETTINGS)
    flags = parser.parse_args()
    print(hardware.detect())
    for name in flags.setting or SETTINGS:
        setting = SETTINGS[name]
        p50s = [verdict.p50 for verdict in verdicts(setting, flags.runs) if verdict.p50 is not None]
        row = {
            "setting": name,
            "slower": f"{setting.slower - 1:.0%}",
            "processes": setting.instances,
            "found": f"{sum(p50.outcome < 0 for p50 in p50s)} of {len(p50s)}",
            "called faster": sum(p50.outcome > 0 for p50 in p50s),
            "ratio": f"{np.median([p50.interval.ratio for p50 in p50s]):.3f}",
            "interval, half": f"{np.median([p50.interval.width / 2 for p50 in p50s]):.1%}",
            "noise": f"{np.median([p50.noise for p50 in p50s]):.1%}",
        }
        print(render([row]), flush=True)


if __name__ == "__main__":
    main()
