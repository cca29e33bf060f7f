"""Blocks of requests in rounds: sent to several loads in turn, and what each round amounts to."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.lib.common.settings import Plan
from tasks.lib.measure.load import Block, Load, Prepared
from tasks.lib.measure.warmup import BLOCK, Warmup, answered, warm_up

if TYPE_CHECKING:
    import numpy as np

Rounds = Sequence[Mapping[str, Sequence[Block]]]
"""Of each round the blocks of each label."""


@dataclass(frozen=True)
class Timeline:
    """Blocks in the order in which they were sent: one column for each figure, all of the same length."""

    label: tuple[str, ...]
    """What each is booked under."""
    start: tuple[float, ...]
    """Seconds since the first one began."""
    p50: tuple[float, ...]
    """Seconds."""
    rate: tuple[float, ...]
    """Requests per second that succeeded."""
    began: float = 0.0
    """The first one, on the clock of time.perf_counter."""


@dataclass(frozen=True)
class Instance:
    """One process of each contestant, to be measured against each other."""

    loads: Sequence[tuple[str, Load]]
    """By label."""
    requests: Mapping[str, Sequence[Prepared]]
    """By label, all in one order."""


def run_rounds(
    instances: Sequence[Instance],
    size: int,
    plan: Plan,
    enough: Callable[[Rounds], bool],
    progress: Callable[[float], object] = lambda seconds: None,
) -> list[dict[str, list[Block]]]:
    """Measure rounds until `enough` or the time is up. Round r is of instance r modulo their number.

    Measuring ends after whole turns of all instances, unless the time is up. Every block sends `size`
    requests; the next blocks go on where the last ones ended, all labels alike, so that all requests get
    their turn.
    `progress` is told after each round how many seconds it took. Raises NoAnswer if a whole block failed:
    then there is nothing to compare.
    """
    shuffle = random.Random(plan.seed)
    send = sending(plan)
    orders = [list(instance.loads) for instance in instances]
    rounds: list[dict[str, list[Block]]] = []
    begun = start = time.monotonic()
    while len(rounds) < max(2, len(instances)) or (
        begun < start + plan.max_seconds
        and (
            len(rounds) % len(instances)
            or begun < start + min(plan.min_seconds, plan.max_seconds)
            or not enough(rounds)
        )
    ):
        number = len(rounds) % len(instances)
        requests, order = instances[number].requests, orders[number]
        shuffle.shuffle(order)
        blocks: dict[str, list[Block]] = {}
        for half, labelled in enumerate((order, order[::-1])):
            first = size * (2 * len(rounds) + half)
            arrivals = shuffle.random()  # the same for all: the ratio would also compare luck
            for label, load in labelled:
                block = send(load, turns(requests[label], size, first), random.Random(arrivals))
                blocks.setdefault(label, []).append(answered(block, load))
        rounds.append(blocks)
        before, begun = begun, time.monotonic()
        progress(begun - before)
    return rounds


def sending(plan: Plan) -> Callable[[Load, Sequence[Prepared], random.Random], Block]:
    """How `plan` sends a block: in closed loop, or at its rate with arrivals at random."""

    def send(load: Load, block: Sequence[Prepared], arrivals: random.Random) -> Block:
        return (
            load.send_closed_loop(block)
            if plan.rate is None
            else load.send_open_loop(block, plan.rate, arrivals)
        )

    return send


def warmed_up(
    servers: Mapping[str, Sequence[Load]], samples: Sequence[bytes], plan: Plan, block: int = BLOCK
) -> Warmup:
    """Send each server the JSON bodies `samples`, as `plan` sends them, until its latency is steady.

    `block` is the number of requests of a block, or two for each connection if those are more.
    """
    size = block if plan.rate is not None else max(block, 2 * plan.connections)
    requests = {
        name: turns([loads[0].prepare(body) for body in samples], size) for name, loads in servers.items()
    }
    send, arrivals = sending(plan), random.Random(plan.seed)
    return warm_up(servers, requests, lambda load, block: send(load, block, arrivals), plan.warmup_seconds)


def turns(requests: Sequence[Prepared], count: int, first: int = 0) -> list[Prepared]:
    """`count` requests, each in turn, from the one whose turn is number `first` on."""
    return [requests[i % len(requests)] for i in range(first, first + count)]


def pooled(blocks: Sequence[Block]) -> np.ndarray[Any, Any]:
    """All latencies of `blocks`, in seconds."""
    import numpy as np

    return np.concatenate([block.latencies for block in blocks])


def medians(rounds: Rounds, labels: Sequence[str]) -> list[float]:
    """For each round, the p50 in seconds over all blocks of the labels."""
    import numpy as np

    return [
        float(np.median(pooled([block for label in labels for block in blocks[label]]))) for blocks in rounds
    ]


def rates(rounds: Rounds, labels: Sequence[str]) -> list[float]:
    """For each round, the requests per second that succeeded, over all blocks of the labels."""
    of_round = [[block for label in labels for block in one[label]] for one in rounds]
    return [sum(len(b.latencies) for b in blocks) / sum(b.seconds for b in blocks) for blocks in of_round]


def timeline(rounds: Rounds) -> Timeline:
    """When each block began, and what it measured."""
    import numpy as np

    ordered = [
        (label, blocks[label][half])
        for blocks in rounds
        for half, labels in enumerate((list(blocks), list(blocks)[::-1]))
        for label in labels
    ]
    begun = ordered[0][1].started
    return Timeline(
        tuple(label for label, _ in ordered),
        tuple(block.started - begun for _, block in ordered),
        tuple(float(np.median(block.latencies)) for _, block in ordered),
        tuple(len(block.latencies) / block.seconds for _, block in ordered),
        begun,
    )
