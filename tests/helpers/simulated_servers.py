"""Rounds of simulated servers on a machine whose speed changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tasks.lib.common.settings import Plan
from tasks.lib.measure import stats, verdict
from tasks.lib.measure.agreement import Agreement
from tasks.lib.measure.load import Block, Prepared
from tasks.lib.measure.measurement import Measurement
from tasks.lib.measure.rounds import Instance, Rounds, run_rounds
from tasks.lib.measure.verdict import BASELINE, CANDIDATE, CONTROL, TWIN, Comparison, Verdict
from tests.helpers.contestants import OPTIMIZED, SAME, STOCK

PLAN = Plan(
    ci_width=0.02, max_seconds=600, max_errors=0.01, block_requests=24, warmup_seconds=0, seed=1, timeout=10
)
ROUNDS = 14


def after(count: int) -> Callable[[Rounds], bool]:
    """Enough after so many rounds."""
    return lambda rounds: len(rounds) >= count


class Machine:
    """A machine whose speed changes from block to block, in one simulated run.

    `levels` are the logarithms of how slow it is, block after block, for any server.
    """

    def __init__(self, random: np.random.Generator, levels: np.ndarray[Any, Any], jitter: float) -> None:
        self.random = random
        self.levels = iter(levels)
        self.jitter = jitter
        self.visits: list[tuple[str, int]] = []


@dataclass(frozen=True)
class Simulated:
    """A stand-in for a Load: answers each request in 10 ms times `slowness`, on `machine`."""

    label: str
    machine: Machine
    slowness: float = 1.0

    def send_closed_loop(self, requests: Sequence[Prepared]) -> Block:
        self.machine.visits.append((self.label, len(requests)))
        level = next(self.machine.levels)
        jitter = self.machine.random.normal(0, self.machine.jitter, len(requests))
        latencies = 0.01 * self.slowness * np.exp(level + jitter)
        return Block(latencies, float(latencies.sum()), 0, (len(requests),))


def simulated(
    machine: Machine,
    plan: Plan = PLAN,
    slowness: float = 1.0,
    control: float = 1.0,
    enough: Callable[[Rounds], bool] | None = None,
) -> list[dict[str, list[Block]]]:
    """The rounds of a run with a candidate that is `slowness` times as slow as the baseline."""
    half: list[Prepared] = [(b"",)] * (plan.block_requests // 2)
    slow = {BASELINE: 1.0, CONTROL: control, CANDIDATE: slowness, TWIN: slowness}
    connections: list[Any] = [(label, Simulated(label, machine, slow[label])) for label in slow]
    requests = dict.fromkeys(slow, half)
    return run_rounds([Instance(connections, requests)], len(half), plan, enough or after(ROUNDS))


def steady(count: int = 1000) -> Machine:
    return Machine(np.random.default_rng(1), np.zeros(count), 0.0)


def concluded(rounds: Rounds, plan: Plan = PLAN) -> Verdict:
    return verdict.conclude(STOCK, OPTIMIZED, SAME, rounds, plan)


def told(speedup: stats.Interval, noise: float, errors: int = 0, agreement: Agreement = SAME) -> Verdict:
    measured = Measurement(0.01, 0.02, 0.03, 100.0, 672, errors)
    sides = {BASELINE: measured, CANDIDATE: replace(measured, errors=0)}
    p50 = {"p50": Comparison(speedup, noise)}
    return Verdict(
        STOCK, OPTIMIZED, agreement, sides, p50, PLAN, (), (), instances=5, restarted=(BASELINE, CANDIDATE)
    )
