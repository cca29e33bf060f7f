"""tasks.lib.measure.warmup: when a server is warm, on simulated ones and on real connections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tasks.lib.common.errors import NoAnswer
from tasks.lib.common.settings import Plan
from tasks.lib.measure import warmup
from tasks.lib.measure.load import Block, Load, Prepared
from tasks.lib.measure.rounds import warmed_up
from tasks.lib.measure.warmup import FEWEST, Warmup, is_steady, warm_up
from tests.helpers.scripted import answer, say, serving

PLAN = Plan(
    ci_width=0.02, max_seconds=600, max_errors=0.01, block_requests=24, warmup_seconds=20, seed=1, timeout=10
)
REQUESTS: list[Prepared] = [(b"",)] * 12


@dataclass
class Warming:
    """A stand-in for a Load: each block takes 10 ms a request times `level` of its number."""

    level: Callable[[int], float]
    noise: float = 0.0
    seed: int = 1
    milliseconds: float = 10.0
    levels: list[float] = field(default_factory=list)
    """Of the blocks that were sent."""

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def send_closed_loop(self, requests: Sequence[Prepared]) -> Block:
        self.levels.append(self.level(len(self.levels)))
        of_block = np.exp(self.random.normal(0, self.noise))
        jitter = np.exp(self.random.normal(0, 0.05, len(requests)))
        latencies = self.milliseconds / 1000 * self.levels[-1] * of_block * jitter
        return Block(latencies, float(latencies.sum()), 0, (len(requests),))


def warmed(*loads: Warming, seconds: float = 600) -> Warmup:
    """A warm-up of a server for each load."""
    servers: dict[str, Any] = {str(number): [load] for number, load in enumerate(loads)}
    return warm_up(
        servers, dict.fromkeys(servers, REQUESTS), lambda load, block: load.send_closed_loop(block), seconds
    )


def decaying(slower: float, blocks: float) -> Callable[[int], float]:
    """`slower` times as slow again at first, of which a third is left after so many blocks."""
    return lambda number: 1 + slower * float(np.exp(-number / blocks))


def flat(number: int) -> float:
    return 1.0


def test_a_steady_server_is_warm_at_once() -> None:
    load = Warming(flat)
    assert warmed(load) == Warmup(True, FEWEST * 12, pytest.approx(FEWEST * 0.12, rel=0.05))


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.1])
def test_noise_alone_does_not_keep_it_from_being_warm(noise: float) -> None:
    """In 200 runs: all of them end steady, half of them after little more than the fewest blocks."""
    runs = [warmed(Warming(flat, noise, seed)) for seed in range(200)]
    assert all(one.steady for one in runs)
    assert np.median([one.requests for one in runs]) <= 2 * FEWEST * 12


@pytest.mark.parametrize(
    ("blocks", "noise"), [(1, 0.0), (1, 0.05), (3, 0.0), (3, 0.05), (10, 0.02), (10, 0.05), (30, 0.02)]
)
def test_a_server_that_gets_faster_is_waited_for(blocks: float, noise: float) -> None:
    """Until it is within 5 % of its final speed: in 85 of 100 runs at least, in more if it is quick."""
    near = 0
    for seed in range(100):
        load = Warming(decaying(1.0, blocks), noise, seed)
        assert warmed(load).steady
        near += load.levels[-1] <= 1.05
    assert near >= (97 if blocks < 10 else 85)


def test_all_servers_are_waited_for() -> None:
    quick, slow = Warming(flat), Warming(decaying(1.0, 10))
    assert warmed(quick, slow).steady
    assert len(quick.levels) == len(slow.levels) > 2 * FEWEST


def test_one_that_never_becomes_steady_is_not_waited_for_for_ever() -> None:
    load = Warming(lambda number: 0.8**number)
    done = warmed(load, seconds=20)
    assert not done.steady
    assert done.requests == 10_000 // 12 * 12 + 12, "a bound in requests"
    slower = Warming(lambda number: 1.2**number)
    done = warmed(slower, seconds=20)
    assert not done.steady
    assert 20 <= done.seconds < 20 * 1.3, "and one in seconds"


def test_a_fast_server_is_given_half_a_second() -> None:
    done = warmed(Warming(flat, milliseconds=0.1))
    assert done.steady
    assert done.seconds == pytest.approx(warmup.LEAST_SECONDS, rel=0.01)


def test_without_a_second_a_single_block_is_sent() -> None:
    load = Warming(flat)
    assert warmed(load, seconds=0) == Warmup(False, 12, pytest.approx(0.12, rel=0.05))


@pytest.mark.parametrize(
    ("medians", "steady"),
    [
        ([1.0] * 8, False),
        ([1.0] * 9, True),
        ([9.0, 5.0, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], True),
        ([9.0, 5.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0], False),
        ([1.0, 1.0, 1.0, 1.000, 1.002, 1.004, 1.006, 1.008, 1.010], True),
        ([1.0, 1.0, 1.0, 1.00, 1.02, 1.04, 1.06, 1.08, 1.10], False),
        ([1.0, 1.0, 1.0, 1.10, 1.08, 1.06, 1.04, 1.02, 1.00], False),
        ([1.0, 1.0, 1.0, 1.2, 1.0, 1.1, 1.1, 1.0, 1.2], True),
    ],
)
def test_what_has_no_trend_is_steady(medians: list[float], steady: bool) -> None:
    assert is_steady(medians) is steady


# Through real connections


def test_a_server_that_answers_nothing_is_told() -> None:
    refuse = say(answer(b'{"error": "no"}', 500))
    told = pytest.raises(NoAnswer, match=r"http://\S+ answered none of 12 requests in a row")
    with serving(finally_=refuse) as server, Load([server.url], 10) as load, told:
        warmed_up({"stock": [load]}, [b"{}"], PLAN)


def test_every_sample_is_sent() -> None:
    plan = Plan(0.02, 600, 0.01, 24, 0.0, 1, 10.0, connections=8)
    samples = [b'{"instances": [%d]}' % number for number in range(3)]
    with serving(finally_=say(answer(b"{}"))) as server, Load([server.url], 10) as load:
        done = warmed_up({"stock": [load]}, samples, plan)
    bodies = [request.partition(b"\r\n\r\n")[2] for request in server.requests]
    assert done.requests == len(bodies) == 16, "two for each connection"
    assert sorted(set(bodies)) == samples


def test_every_load_has_its_turn() -> None:
    loads: list[Any] = [Warming(flat), Warming(flat), Warming(flat)]
    warm_up({"stock": loads}, {"stock": REQUESTS}, lambda load, block: load.send_closed_loop(block), 600)
    blocks = [len(load.levels) for load in loads]
    assert max(blocks) - 1 <= min(blocks)
    assert sum(blocks) >= FEWEST
