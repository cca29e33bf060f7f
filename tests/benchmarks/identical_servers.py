"""How often two servers that are the same are called different, over many short runs of real ones.

Each run is a whole verdict of the fewest rounds, a fraction of a second, with a seed of its own. Prints how
many were called different; a 95 % interval that a machine's noise does not spoil allows one in twenty.

The servers share one CPU and the client has another, as a benchmark does it where there are cores enough:
left to the system, one of them may have to share its CPU with another program for the whole of so short a
run (on a machine with five such programs, 15 % of runs called the two different, and 0 of 120 pinned).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tasks.lib.common import pinning
from tasks.lib.common.settings import Plan
from tasks.lib.measure import paired
from tasks.lib.measure.agreement import Agreement
from tasks.lib.measure.verdict import Contestant, Verdict
from tests.integration import synthetic

RUNS = 200
ALLOWED = 0.05
MILLISECONDS = 0.3
"""Of work for each request."""
SAME = Agreement(inputs=1, same=1, outputs=())


def plan(seed: int) -> Plan:
    """Ends after the fewest rounds whose interval counts, with an interval of any width."""
    return Plan(
        ci_width=1.0,
        max_seconds=30,
        max_errors=0.01,
        block_requests=12,
        warmup_seconds=0,
        seed=seed,
        timeout=10,
    )


@contextmanager
def pair(milliseconds: float, other: float, *options: str) -> Iterator[tuple[str, str]]:
    """The addresses of two synthetic servers, the second with `options`, on a CPU that the client leaves."""
    cpus = pinning.usable() or ()
    with ExitStack() as stack:
        with pinning.confined(cpus[1:2]):
            a = stack.enter_context(synthetic.running(milliseconds))
            b = stack.enter_context(synthetic.running(other, *options))
        stack.enter_context(pinning.confined(cpus[:1]))
        yield a, b


def judged(a: str, b: str, plan: Plan) -> Verdict:
    """The verdict on two servers that answer alike."""
    sides = [Contestant(name, "net@1", (url,), "-", "-") for name, url in (("a", a), ("b", b))]
    return paired.judge(sides[0], sides[1], SAME, [b'{"instances": [[1, 2]]}'], plan)


def called_different(seeds: Iterable[int]) -> int:
    """Of runs with these seeds, how many find a difference between two servers of one program."""
    with pair(MILLISECONDS, MILLISECONDS) as (a, b):
        runs = [judged(a, b, plan(seed)) for seed in seeds]
    return sum(one.p50.outcome != 0 for one in runs if one.p50 is not None)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    different = called_different(range(runs))
    print(f"called different: {different} of {runs} ({different / runs:.1%}; {ALLOWED:.0%} may be)")


if __name__ == "__main__":
    main()
