"""tasks.lib.measure.rounds: the order of the blocks, and when measuring ends."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tasks.lib.measure.rounds import Instance, run_rounds
from tasks.lib.measure.verdict import BASELINE, CANDIDATE, CONTROL, TWIN
from tests.helpers.simulated_servers import (
    PLAN,
    ROUNDS,
    Machine,
    Simulated,
    after,
    concluded,
    simulated,
    steady,
)


def test_each_round_is_its_own_mirror_image() -> None:
    machine = steady()
    simulated(machine)
    visits = [label for label, _ in machine.visits]
    rounds = [visits[i : i + 8] for i in range(0, len(visits), 8)]
    assert len(rounds) == ROUNDS
    for one in rounds:
        assert one == one[::-1]
        assert sorted(one[:4]) == [BASELINE, CANDIDATE, CONTROL, TWIN]
    assert len({tuple(one) for one in rounds}) > 2  # the order changes from round to round


def test_the_seed_decides_the_order() -> None:
    def order(seed: int) -> list[tuple[str, int]]:
        machine = steady()
        simulated(machine, replace(PLAN, seed=seed))
        return machine.visits

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_every_request_counts() -> None:
    rounds = simulated(steady())
    assert sum(len(block.latencies) for one in rounds for blocks in one.values() for block in blocks) == (
        ROUNDS * 2 * 2 * PLAN.block_requests
    )


def test_progress_is_told_of_each_round() -> None:
    told: list[float] = []
    connections: list[Any] = [("a", Simulated("a", steady())), ("b", Simulated("b", steady()))]
    begun = time.monotonic()
    run_rounds([Instance(connections, {"a": [b""], "b": [b""]})], 1, PLAN, after(5), told.append)
    assert len(told) == 5
    assert 0 < sum(told) <= time.monotonic() - begun


@pytest.mark.parametrize(("max_seconds", "measured"), [(0.0, 2), (600.0, 5)])
def test_no_round_is_begun_after_the_time_is_up(max_seconds: float, measured: int) -> None:
    """Two are measured in any case: without them there is no interval."""
    connections: list[Any] = [("a", Simulated("a", steady())), ("b", Simulated("b", steady()))]
    plan = replace(PLAN, max_seconds=max_seconds)
    assert len(run_rounds([Instance(connections, {"a": [b""], "b": [b""]})], 1, plan, after(5))) == measured


@pytest.mark.parametrize("drift", [0.5, -0.5])
def test_a_steady_drift_favours_no_one(drift: float) -> None:
    """A machine that gets 65 % slower, or faster, in a run without any noise: the ratio stays 1."""
    levels = drift * np.linspace(0, 1, 8 * ROUNDS)
    done = concluded(simulated(Machine(np.random.default_rng(1), levels, 0)))
    assert done.round_ratios == pytest.approx([1.0] * ROUNDS, abs=2e-4)
    assert done.control_ratios == pytest.approx([1.0] * ROUNDS, abs=2e-4)
