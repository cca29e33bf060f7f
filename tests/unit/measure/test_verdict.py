"""tasks.lib.measure.verdict: whether its conclusions are honest."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tasks.lib.measure import stats, verdict
from tasks.lib.measure.load import Block, Prepared
from tasks.lib.measure.rounds import Instance, Rounds, run_rounds, turns
from tasks.lib.measure.verdict import BASELINE, CANDIDATE, CONTROL
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


def troubled(seed: int, block_noise: float, memory: float, rounds: int = ROUNDS) -> Machine:
    """Noise between blocks that lingers (autoregressive), a slow drift of up to 30 %, jitter of 5 %."""
    random = np.random.default_rng([seed, int(block_noise * 1000), int(memory * 100)])
    count = 8 * rounds
    steps = random.normal(0, block_noise * np.sqrt(1 - memory**2), count)
    noise = np.fromiter(itertools.accumulate(steps, lambda level, step: memory * level + step), float)
    drift = random.uniform(-0.3, 0.3) * np.linspace(0, 1, count)
    return Machine(random, noise + drift, 0.05)


def outcome(rounds: Rounds) -> int:
    return verdict.at_p50(rounds).outcome


def test_the_ratio_is_baseline_time_over_candidate_time() -> None:
    done = concluded(simulated(steady(), slowness=0.4))
    assert done.round_ratios == pytest.approx([2.5] * ROUNDS)
    assert list(done.comparisons) == ["p50", "throughput", "p90", "p99"]
    for figure in ("p50", "throughput", "p90"):
        one = done.comparisons[figure]
        assert one is not None
        assert one.interval.ratio == pytest.approx(2.5)
        assert one.noise == pytest.approx(0, abs=1e-9)
    assert done.comparisons["p99"] is None, "the control has too few requests for it"


def test_the_baseline_is_measured_with_its_control() -> None:
    done = concluded(simulated(steady(), slowness=2.0))
    requests = ROUNDS * 2 * PLAN.block_requests
    assert {label: one.requests for label, one in done.measured.items()} == {
        BASELINE: requests,
        CANDIDATE: requests,
    }
    assert done.measured[BASELINE].p50 == pytest.approx(0.01)
    assert done.measured[CANDIDATE].p50 == pytest.approx(0.02)
    assert done.measured[BASELINE].rate == pytest.approx(100)
    assert done.measured[CANDIDATE].rate == pytest.approx(50)


def test_a_control_that_is_off_counts_as_baseline_and_as_noise() -> None:
    done = concluded(simulated(steady(), control=3.0))
    assert done.round_ratios == pytest.approx([2.0] * ROUNDS)  # the median of 10 and 30 ms, over 10 ms
    assert done.control_ratios == pytest.approx([1 / 3] * ROUNDS)
    assert done.p50 is not None
    assert done.p50.noise == pytest.approx(2.0)
    assert done.p50.outcome == 0


def test_a_ratio_is_of_the_medians_of_both_visits() -> None:
    def blocks(*latencies: list[float]) -> list[Block]:
        return [Block(np.array(each), sum(each), 0, (len(each),)) for each in latencies]

    one = {
        BASELINE: blocks([1.0, 2.0], [3.0]),
        CONTROL: blocks([4.0], [50.0]),
        CANDIDATE: blocks([1.0, 1.5], [2.0]),
    }
    assert verdict.paired_ratios([one], [BASELINE, CONTROL], [CANDIDATE]) == (3.0 / 1.5,)
    assert verdict.paired_ratios([one], [BASELINE], [CONTROL]) == (2.0 / 27.0,)


def test_more_samples_than_a_block_holds_all_get_their_turn() -> None:
    """And in each half of a round all labels send the same ones."""
    sent: list[list[str]] = []

    class Noting(Simulated):
        def send_closed_loop(self, requests: Sequence[Prepared]) -> Block:
            sent.append([one[0].decode() for one in requests])
            return super().send_closed_loop(requests)

    machine = steady()
    loads: list[Any] = [(label, Noting(label, machine)) for label in "ab"]
    requests = {label: [(b"%d" % number,) for number in range(10)] for label in "ab"}
    run_rounds([Instance(loads, requests)], 4, PLAN, after(3))
    assert ["".join(one) for one in sent] == [
        each for one in ("0123", "4567", "8901", "2345", "6789", "0123") for each in (one, one)
    ]


def test_in_open_loop_the_same_arrivals_meet_all() -> None:
    met: list[tuple[str, tuple[float, ...]]] = []

    class Arriving(Simulated):
        def send_open_loop(self, requests: Sequence[Prepared], rate: float, arrivals: random.Random) -> Block:
            met.append((self.label, tuple(arrivals.expovariate(rate) for _ in requests)))
            return self.send_closed_loop(requests)

    machine = steady()
    loads: list[Any] = [(label, Arriving(label, machine)) for label in "ab"]
    run_rounds([Instance(loads, {"a": [b""], "b": [b""]})], 3, replace(PLAN, rate=100.0), after(3))
    halves = [met[at : at + 2] for at in range(0, len(met), 2)]
    assert all({label for label, _ in half} == {"a", "b"} and half[0][1] == half[1][1] for half in halves)
    assert len({half[0][1] for half in halves}) == 6, "and others every time"


@pytest.mark.parametrize(
    ("rate", "block_seconds", "connections", "size"),
    [(None, 1.0, 1, 24), (None, 1.0, 4, 96), (100.0, 1.0, 64, 200), (100.0, 0.5, 64, 100), (0.1, 1.0, 64, 2)],
)
def test_an_open_loop_s_block_is_as_long_as_a_queue_needs_to_show(
    rate: float | None, block_seconds: float, connections: int, size: int
) -> None:
    plan = replace(PLAN, rate=rate, block_seconds=block_seconds, connections=connections)
    assert plan.block == size


def test_turns_takes_each_request_in_turn() -> None:
    assert turns([b"a", b"b", b"c"], 7) == [b"a", b"b", b"c", b"a", b"b", b"c", b"a"]
    assert turns([b"a", b"b", b"c"], 2) == [b"a", b"b"]
    assert turns([b"a"], 0) == []
    assert turns([b"a", b"b", b"c"], 3, 5) == [b"c", b"a", b"b"]


NOISES = [(0.02, 0.0), (0.02, 0.9), (0.05, 0.5), (0.01, 0.99)]


@pytest.mark.parametrize(("block_noise", "memory"), NOISES)
def test_identical_servers_are_not_called_different(block_noise: float, memory: float) -> None:
    runs = 250
    different = sum(abs(outcome(simulated(troubled(seed, block_noise, memory)))) for seed in range(runs))
    assert different <= 0.05 * runs


@pytest.mark.parametrize("block_noise", [0.005, 0.02, 0.05])
def test_of_thousands_of_identical_servers_few_are_called_different(block_noise: float) -> None:
    """2,000 runs each. The logarithms of p50 as run_rounds orders them: noise that lingers, and a drift."""
    random = np.random.default_rng(int(block_noise * 1000))
    runs, rounds, memory = 2000, ROUNDS, 0.8
    blocks = np.empty((runs, rounds * 8))
    level = random.normal(0, block_noise, runs)
    for i in range(rounds * 8):
        level = memory * level + random.normal(0, block_noise * np.sqrt(1 - memory**2), runs)
        blocks[:, i] = level
    blocks += random.uniform(-0.3, 0.3, (runs, 1)) * np.linspace(0, 1, rounds * 8)
    blocks = blocks.reshape(runs, rounds, 8)
    # The median of n requests with 5 % jitter strays by 0.05 * 1.25 / sqrt(n).
    stray = 0.05 * 1.25 / np.sqrt(PLAN.block_requests // 2)
    places = np.moveaxis(random.permuted(np.tile(np.arange(4), (runs, rounds, 1)), axis=2), 2, 0)

    def p50(place: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        visits = [np.take_along_axis(blocks, where[..., None], 2)[..., 0] for where in (place, 7 - place)]
        strays = [random.normal(0, stray, place.shape) for _ in visits]
        return (visits[0] + strays[0] + visits[1] + strays[1]) / 2

    baseline, control, candidate, twin = map(p50, places)
    ratios = np.exp((baseline + control) / 2 - (candidate + twin) / 2)
    control_ratios = np.exp(baseline - control)
    different = sum(
        abs(stats.differs(stats.serial_interval(a)[0], stats.margin(stats.serial_interval(b)[0])))
        for a, b in zip(ratios, control_ratios, strict=True)
    )
    assert different <= 0.05 * runs


@pytest.mark.parametrize(("slowness", "expected"), [(1.05, -1), (1 / 1.05, 1)])
def test_a_server_that_differs_by_5_percent_is_found(slowness: float, expected: int) -> None:
    runs = 150
    rounds = [
        simulated(troubled(seed, 0.02, 0.9, 20), PLAN, slowness, enough=after(20)) for seed in range(runs)
    ]
    found = list(map(outcome, rounds))
    assert found.count(expected) >= 0.95 * runs
    assert found.count(-expected) == 0


@pytest.mark.parametrize("block_noise", [0.0, 0.005, 0.02])
def test_measuring_ends_once_the_interval_is_narrow(block_noise: float) -> None:
    plan = replace(PLAN, ci_width=0.05)
    rounds = simulated(troubled(1, block_noise, 0.5, 100), plan, enough=verdict.until_narrow(plan))
    done = concluded(rounds, plan)
    assert done.is_narrow
    assert done.p50 is not None
    assert done.p50.width <= 0.05
    assert done.p50.width < done.p50.interval.width, "what other processes could differ by does not shrink"
    assert verdict.FEWEST <= len(rounds) <= 100
    assert not any(verdict.until_narrow(plan)(rounds[:n]) for n in range(2, len(rounds)))


def test_that_time_was_up_is_known() -> None:
    assert not concluded(simulated(troubled(1, 0.1, 0.5))).is_narrow


@pytest.mark.parametrize(("block_noise", "memory"), [(0.005, 0.5), (0.02, 0.0), (0.02, 0.9)])
def test_to_stop_when_it_is_narrow_finds_no_more_differences(block_noise: float, memory: float) -> None:
    """Of 200 runs of identical servers that each end as soon as their interval is narrow enough."""
    runs, plan = 200, replace(PLAN, ci_width=0.03)
    different = 0
    for seed in range(runs):
        machine, narrow = troubled(seed, block_noise, memory, 60), verdict.until_narrow(plan)
        rounds = simulated(machine, plan, enough=lambda done, narrow=narrow: narrow(done) or len(done) >= 60)
        different += abs(outcome(rounds))
    assert different <= 0.05 * runs
