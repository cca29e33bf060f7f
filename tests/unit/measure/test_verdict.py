"""tasks.lib.measure.verdict: the order of the blocks, and whether its conclusions are honest."""

from __future__ import annotations

import itertools
import json
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from tasks.lib.common.errors import NoAnswer
from tasks.lib.common.settings import Plan
from tasks.lib.measure import paired, stats, verdict, warmup
from tasks.lib.measure.agreement import Agreement
from tasks.lib.measure.load import Block, Load, Prepared
from tasks.lib.measure.rounds import Instance, Rounds, run_rounds, timeline, turns
from tasks.lib.measure.verdict import BASELINE, CANDIDATE, CONTROL, TWIN, Comparison, Verdict
from tests.helpers.answers import scored
from tests.helpers.contestants import OPTIMIZED, SAME, STOCK
from tests.helpers.scripted import Act, answer, keep_silent, say, serving

PLAN = Plan(
    ci_width=0.02, max_seconds=600, max_errors=0.01, block_requests=24, warmup_seconds=0, seed=1, timeout=10
)
ROUNDS = 14


def after(count: int) -> Callable[[Rounds], bool]:
    """Enough after so many rounds."""
    return lambda rounds: len(rounds) >= count


# Simulated servers


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


def troubled(seed: int, block_noise: float, memory: float, rounds: int = ROUNDS) -> Machine:
    """Noise between blocks that lingers (autoregressive), a slow drift of up to 30 %, jitter of 5 %."""
    random = np.random.default_rng([seed, int(block_noise * 1000), int(memory * 100)])
    count = 8 * rounds
    steps = random.normal(0, block_noise * np.sqrt(1 - memory**2), count)
    noise = np.fromiter(itertools.accumulate(steps, lambda level, step: memory * level + step), float)
    drift = random.uniform(-0.3, 0.3) * np.linspace(0, 1, count)
    return Machine(random, noise + drift, 0.05)


def concluded(rounds: Rounds, plan: Plan = PLAN) -> Verdict:
    return verdict.conclude(STOCK, OPTIMIZED, SAME, rounds, plan)


def outcome(rounds: Rounds) -> int:
    return verdict.at_p50(rounds).outcome


# The order of the blocks


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


# What is concluded


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


def test_a_measurement_counts_failed_requests_apart() -> None:
    blocks = [Block(np.array([0.01, 0.03]), 0.5, 3, (5,)), Block(np.array([0.02]), 1.0, 0, (1,))]
    measured = verdict.measure(blocks)
    assert (measured.requests, measured.errors) == (3, 3)
    assert measured.p50 == pytest.approx(0.02)
    assert (measured.p90, measured.p99) == (None, None)
    assert measured.rate == pytest.approx(3 / 1.5)  # a failed request costs its time, too


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


def test_a_queue_shows_in_the_later_halves_of_blocks() -> None:
    def growth(*blocks: list[float]) -> float | None:
        return verdict.measure([Block(np.array(one), 1.0, 0, (len(one),)) for one in blocks]).growth

    assert growth([1.0, 1.0, 9.0, 3.0, 3.0], [1.0, 3.0]) == pytest.approx(3.0)  # the middle one is in neither
    assert growth([1.0], [2.0]) is None


def test_turns_takes_each_request_in_turn() -> None:
    assert turns([b"a", b"b", b"c"], 7) == [b"a", b"b", b"c", b"a", b"b", b"c", b"a"]
    assert turns([b"a", b"b", b"c"], 2) == [b"a", b"b"]
    assert turns([b"a"], 0) == []
    assert turns([b"a", b"b", b"c"], 3, 5) == [b"c", b"a", b"b"]


# Honesty. Thousands of decisions are made by the very statistics; hundreds by whole simulated runs.

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


# When it is enough


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


# In words


def told(speedup: stats.Interval, noise: float, errors: int = 0, agreement: Agreement = SAME) -> Verdict:
    measured = verdict.Measurement(0.01, 0.02, 0.03, 100.0, 672, errors)
    sides = {BASELINE: measured, CANDIDATE: replace(measured, errors=0)}
    p50 = {"p50": Comparison(speedup, noise)}
    return Verdict(STOCK, OPTIMIZED, agreement, sides, p50, PLAN, (), (), instances=5)


@pytest.mark.parametrize(
    ("interval", "noise", "sentence"),
    [
        (
            stats.Interval(2.41, 2.37, 2.45),
            0.013,
            "optimized is faster than stock: 2.41x (95% CI 2.37 to 2.45; the machine's own noise is 1.3%), "
            "and answers the same.",
        ),
        (
            stats.Interval(0.905, 0.9, 0.91),
            0.02,
            "optimized is slower than stock: 0.905x (95% CI 0.900 to 0.910; the machine's own noise is 2.0%"
            "), and answers the same.",
        ),
        (
            stats.Interval(1.01, 0.99, 1.03),
            0.004,
            "cannot tell on this machine whether optimized is faster or slower than stock: "
            "1.01x (95% CI 0.99 to 1.03; the machine's own noise is 0.4%); it answers the same.",
        ),
        (
            stats.Interval(1.004, 1.002, 1.006),
            0.001,
            "optimized is faster than stock: 1.004x (95% CI 1.002 to 1.006; the machine's own noise is 0.1%"
            "), and answers the same.",
        ),
    ],
)
def test_the_outcome_in_words(interval: stats.Interval, noise: float, sentence: str) -> None:
    assert told(interval, noise).sentence == sentence


def test_a_verdict_on_two_processes_says_so() -> None:
    done = replace(told(FASTER, 0.013), instances=1)
    assert done.sentence.endswith("the same. This holds for these two processes; a restart can change it.")


def test_failed_requests_are_said() -> None:
    sentence = told(FASTER, 0.013, errors=3).sentence
    assert sentence.endswith("and answers the same. 3 requests failed and are not in the figures.")


FASTER = stats.Interval(2.41, 2.37, 2.45)
OTHER = scored(9, 0.3)


def test_too_many_failed_requests_spoil_the_verdict() -> None:
    assert told(FASTER, 0.013, errors=6).problem is None
    spoiled = told(FASTER, 0.013, errors=14)
    assert spoiled.problem == "14 of 686 requests to stock failed; 1% are allowed"
    assert spoiled.sentence == (
        "optimized and stock are not comparable: 14 of 686 requests to stock failed; 1% are allowed."
    )


def test_other_answers_that_were_timed_all_the_same_are_said() -> None:
    sentence = told(FASTER, 0.013, agreement=OTHER).sentence
    assert sentence.startswith("optimized is faster than stock: 2.41x (")
    assert sentence.endswith(", and answers differently: 3 of 12 answers have another top-1 in 'p'.")


def test_what_does_not_answer_the_same_is_not_timed() -> None:
    """Nothing listens at these addresses: a single request would be an error."""
    done = paired.judge(STOCK, OPTIMIZED, OTHER, [b"{}"], PLAN)
    assert done == Verdict(STOCK, OPTIMIZED, OTHER, {}, {}, PLAN, (), ())
    assert (
        done.sentence == "optimized and stock are not comparable: 3 of 12 answers have another top-1 in 'p'."
    )


# Through real connections


class Recorder(BaseHTTPRequestHandler):
    """Answers every predict, and notes what it was sent."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(body)  # type: ignore[attr-defined]
        self.wfile.write(answer(b'{"predictions": [1]}'))

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def recorders() -> Iterator[list[Any]]:
    servers: list[Any] = [ThreadingHTTPServer(("127.0.0.1", 0), Recorder) for _ in range(2)]
    threads = [threading.Thread(target=each.serve_forever, args=(0.01,)) for each in servers]
    for server, thread in zip(servers, threads, strict=True):
        server.bodies = []
        thread.start()
    yield servers
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        thread.join()
        server.server_close()


def url(server: Any) -> str:
    return f"http://127.0.0.1:{server.server_port}/v1/models/net"


def test_blocks_are_told_in_the_order_in_which_they_were_sent() -> None:
    with serving() as server, Load([server.url], 10) as load:
        loads = [(label, load) for label in (BASELINE, CANDIDATE, TWIN)]
        requests = {label: [load.prepare(b"{}")] for label, _ in loads}
        rounds = run_rounds([Instance(loads, requests)], 4, PLAN, after(3))
    told = timeline(rounds)
    assert told.label == tuple(label for one in rounds for label in (*one, *reversed(one)))
    assert len(told.label) == len(told.start) == len(told.p50) == len(told.rate) == 18
    assert told.start[0] == 0
    blocks = [block for one in rounds for blocks in one.values() for block in blocks]
    for start, end, p50, rate in zip(
        told.start, (*told.start[1:], math.inf), told.p50, told.rate, strict=True
    ):
        assert start + 4 / rate <= end, "one at a time"
        assert 0 < p50 < 4 / rate
    assert sorted(told.p50) == sorted(float(np.median(block.latencies)) for block in blocks)


@pytest.mark.parametrize("block_requests", [4, 6, 14, 24])
def test_both_are_sent_the_same_samples_equally_often(recorders: list[Any], block_requests: int) -> None:
    """Otherwise the ratio would compare photos, not servers."""
    samples = [json.dumps({"instances": [n]}).encode() for n in range(5)]
    plan = replace(PLAN, max_seconds=0, block_requests=block_requests, warmup_seconds=0)
    rounds = 2  # the fewest
    contestants = [replace(STOCK, urls=(url(recorders[0]),)), replace(OPTIMIZED, urls=(url(recorders[1]),))]
    done = paired.judge(contestants[0], contestants[1], SAME, samples, plan)
    assert sorted(recorders[0].bodies) == sorted(recorders[1].bodies)
    assert len(recorders[0].bodies) == warmup.BLOCK + rounds * 2 * block_requests
    assert done.warmup is not None
    assert (done.warmup.requests, done.warmup.steady) == (warmup.BLOCK, False)
    assert len(done.round_ratios) == len(done.control_ratios) == rounds
    assert [one.errors for one in done.measured.values()] == [0, 0]
    assert [one.requests for one in done.measured.values()] == [rounds * 2 * block_requests] * 2


def rounds_against(script: Sequence[Act], last: Act, plan: Plan) -> list[Mapping[str, list[Block]]]:
    with serving(*script, finally_=last) as server, Load([server.url], plan.timeout) as connection:
        requests = {"stock": [connection.prepare(b"{}")]}
        size = plan.block_requests
        return list(run_rounds([Instance([("stock", connection)], requests)], size, plan, after(3)))


def test_a_server_that_stops_answering_is_told() -> None:
    plan = replace(PLAN, block_requests=2, warmup_seconds=0, timeout=0.1)
    with pytest.raises(NoAnswer, match=r"http://127\.0\.0\.1:\d+/\S+ answered none of 2 requests in a row"):
        rounds_against([say()] * 6, keep_silent, plan)


def test_single_failures_are_counted() -> None:
    plan = replace(PLAN, block_requests=4, warmup_seconds=0)
    rounds = rounds_against([say(), say(answer(b"{}", 503))], say(), plan)
    assert verdict.measure([block for one in rounds for block in one["stock"]]).errors == 1
