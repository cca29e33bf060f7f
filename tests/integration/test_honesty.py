"""Whether a verdict on real servers of known behaviour is the truth about them."""

from __future__ import annotations

from dataclasses import replace

from tasks.lib import verdict
from tasks.lib.agreement import Agreement
from tasks.lib.settings import Plan
from tasks.lib.verdict import Contestant, Verdict
from tests.integration import synthetic

SAME = Agreement(inputs=1, same=1, outputs=())
SHORT = Plan(
    ci_width=1.0, max_seconds=30, max_errors=0.01, block_requests=12, warmup_seconds=0, seed=1, timeout=10
)
"""Ends after the fewest rounds whose interval counts, with an interval of any width."""


def judged(a: str, b: str, plan: Plan) -> Verdict:
    sides = [Contestant(name, "net@1", (url,), "-", "-") for name, url in (("a", a), ("b", b))]
    return verdict.judge(sides[0], sides[1], SAME, [b'{"instances": [1]}'], plan)


def test_two_hundred_short_runs_of_identical_servers() -> None:
    with synthetic.running(0.3) as a, synthetic.running(0.3) as b:
        runs = [judged(a, b, replace(SHORT, seed=seed)) for seed in range(200)]
    different = sum(one.p50.outcome != 0 for one in runs if one.p50 is not None)
    print(f"called different: {different} of {len(runs)}")
    assert len(runs) == 200
    assert different <= 10


def test_a_server_5_percent_slower_is_found() -> None:
    """In one of three attempts at least: another program on the machine may spoil a whole run."""
    outcomes = []
    with synthetic.running(2.0) as a, synthetic.running(2.1) as b:
        for seed in range(3):
            done = judged(a, b, replace(SHORT, ci_width=0.02, max_seconds=20, block_requests=24, seed=seed))
            assert done.p50 is not None
            outcomes.append(done.p50.outcome)
            if done.p50.outcome < 0:
                break
    assert outcomes[-1] == -1, outcomes
    assert 1 not in outcomes


def test_a_server_that_drops_2_percent_of_the_requests_has_no_verdict() -> None:
    with synthetic.running(0.3) as a, synthetic.running(0.3, drop=50) as b:
        done = judged(a, b, replace(SHORT, block_requests=100))
    assert done.problem is not None
    assert "requests to b failed, and 1% may" in done.problem
    assert "not comparable" in done.sentence
