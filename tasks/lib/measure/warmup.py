"""The warm-up: requests that do not count, until no server gets faster or slower by them any more.

A fixed number of requests is too few for one server and a waste of time for another: libraries choose
their kernels, caches and thread pools fill, and a CPU takes its time to leave its sleep.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tasks.lib.common.errors import NoAnswer
from tasks.lib.measure.load import Block, Load, Prepared

BLOCK = 12
"""Requests, or two for each connection if those are more. Every block has the same, or their medians would
tell of the requests."""
TREND = 0.02
"""By how much a server may still get faster or slower from the first to the last block looked at."""
FEWEST = 9
"""Blocks before a trend can be seen."""
LEAST_SECONDS = 0.5
"""A fast server has answered the fewest blocks before its CPU has woken up."""
MOST_REQUESTS = 10_000
"""To each server."""


@dataclass(frozen=True)
class Warmup:
    """What became of a warm-up."""

    steady: bool
    """Whether every server's latency was steady when it ended."""
    requests: int
    """To each server."""
    seconds: float
    """In all."""


def warm_up(
    servers: Mapping[str, Sequence[Load]],
    requests: Mapping[str, Sequence[Prepared]],
    send: Callable[[Load, Sequence[Prepared]], Block],
    seconds: float,
) -> Warmup:
    """Send each server blocks in turn until all are steady, or for about `seconds` (at least one block).

    `servers` holds the loads on each, of which every block takes another; `requests` the prepared
    requests of a block. Raises NoAnswer if a whole block failed.
    """
    import numpy as np

    medians: dict[str, list[float]] = {name: [] for name in servers}
    blocks, sent, spent = 0, 0, 0.0
    while True:
        for name, loads in servers.items():
            load = loads[blocks % len(loads)]
            block = answered(send(load, requests[name]), load)
            medians[name].append(float(np.median(block.latencies)))
            spent += block.seconds
        blocks += 1
        sent += max(map(len, requests.values()))
        steady = all(map(is_steady, medians.values()))
        if (steady and spent >= LEAST_SECONDS) or spent >= seconds or sent >= MOST_REQUESTS:
            return Warmup(steady, sent, spent)


def answered(block: Block, load: Load) -> Block:
    """`block`, which `load` sent. Raises NoAnswer if nothing of it was answered."""
    if len(block.latencies):
        return block
    urls = " and ".join(load.urls)
    raise NoAnswer(
        f"{urls} answered none of {block.errors} requests in a row.",
        "Look at its server's log (`invoke serve.logs` for one of this suite), and measure again.",
    )


def is_steady(medians: Sequence[float]) -> bool:
    """Whether the p50s of successive blocks have no trend any more, the first third of them left out.

    A line through their logarithms rises or falls by less than TREND in all, or by less than its own
    standard error. The part that is looked at grows: what changes slowly shows over the longer distance.
    Simulated: with noise of 2 % between blocks a server that starts twice as slow is within 5 % of its
    final speed in 90 to 100 % of runs, and one that is steady takes 9 blocks, seldom more than 15.
    """
    import numpy as np

    if len(medians) < FEWEST:
        return False
    logs = np.log(medians[len(medians) // 3 :])
    place = np.arange(len(logs)) - (len(logs) - 1) / 2
    slope = (place @ logs) / (place @ place)
    left = logs - logs.mean() - slope * place
    stray = math.sqrt(left @ left / (len(logs) - 2) / (place @ place))
    return bool(abs(slope) * len(logs) <= TREND or abs(slope) <= stray)
