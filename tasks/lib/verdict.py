"""The paired comparison of two servers.

Both answer the samples; only if they answer alike are they timed. Then blocks of requests alternate
between baseline and candidate. Half of the baseline's requests go by another name, the control, as if
they were sent to a third server: whatever the control and the rest of the baseline differ by is the
machine's own noise. Each round visits the three in a seeded order and then in reverse (ABBA), so that
a machine that slowly gets faster or slower favours nobody.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from tasks.lib import settings, stats
from tasks.lib.agreement import Agreement
from tasks.lib.errors import ServerError
from tasks.lib.load import Block, Load, Prepared

if TYPE_CHECKING:
    import numpy as np

BASELINE, CANDIDATE, CONTROL = "baseline", "candidate", "control"


@dataclass(frozen=True)
class Contestant:
    """What takes part in a comparison."""

    name: str
    """As it is called in the sentence: a variant."""
    model: str
    """NAME@VERSION."""
    url: str
    backend: str
    precision: str
    image: str = ""
    """What its container is made from; empty where there is none."""
    image_id: str = ""
    """The same as Docker identifies it."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    max_seconds: float
    """No round is begun after so long; two are always measured, since an interval needs them."""
    block_requests: int
    """Requests to each contestant in one half of a round; the control's are half of the baseline's."""
    warmup_requests: int
    seed: int
    timeout: float
    """Seconds before a request counts as failed."""


def plan_of(benchmark: settings.Benchmark) -> Plan:
    """What the settings ask for."""
    return Plan(**{field.name: getattr(benchmark, field.name) for field in fields(Plan)})


@dataclass(frozen=True)
class Measurement:
    """What one contestant did over all its blocks. Times in seconds."""

    p50: float | None
    p90: float | None
    p99: float | None
    """None where there were too few requests for it (stats.MINIMUM_SAMPLES)."""
    rate: float
    """Requests per second that succeeded."""
    requests: int
    errors: int


@dataclass(frozen=True)
class Verdict:
    """A finished comparison. Ratios are baseline time / candidate time: above 1 the candidate is faster."""

    baseline: Contestant
    candidate: Contestant
    agreement: Agreement
    measured: dict[str, Measurement]
    """BASELINE's and CANDIDATE's; empty if the answers differ, since then nothing was timed."""
    speedup: stats.Interval | None
    noise: float | None
    """The A/A margin: 0.013 stands for 1.3 %."""
    round_ratios: tuple[float, ...]
    control_ratios: tuple[float, ...]

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        a, b = self.baseline.name, self.candidate.name
        if self.speedup is None or self.noise is None:
            return f"{b} and {a} are not comparable: {self.agreement.problem}."
        errors = sum(one.errors for one in self.measured.values())
        spoiled = f" {errors} requests failed and are not in the figures." if errors else ""
        interval = f"95% CI {self.speedup.low:.2f} to {self.speedup.high:.2f}"
        noise = f"the machine's own noise is {self.noise:.1%}"
        outcome = stats.differs(self.speedup, self.noise)
        if outcome:
            word = "faster" if outcome > 0 else "slower"
            text = (
                f"{b} is {word} than {a}: {self.speedup.ratio:.2f}x ({interval}; {noise}), "
                "and answers the same."
            )
        else:
            text = (
                f"cannot tell on this machine whether {b} is faster or slower than {a}: "
                f"{self.speedup.ratio:.2f}x ({interval}; {noise}); it answers the same."
            )
        return text + spoiled


def run_rounds(
    connections: Sequence[tuple[str, Load]],
    requests: Mapping[str, Sequence[Prepared]],
    plan: Plan,
    progress: Callable[[int], object] = lambda done: None,
) -> list[dict[str, list[Block]]]:
    """Warm up, then measure up to `plan.rounds` rounds over labelled connections.

    `requests` holds, by label, the prepared requests of one block. `progress` is told of each
    finished round. Raises ServerError if a whole block failed: then there is nothing to compare.
    """
    for label, connection in connections:
        warm = connection.closed(turns(requests[label], plan.warmup_requests))
        if plan.warmup_requests and warm.errors == plan.warmup_requests:
            raise ServerError(
                f"The {label} answered none of the warm-up requests.", "Look at `invoke serve.logs`."
            )
    order = list(connections)
    shuffle = random.Random(plan.seed)
    rounds: list[dict[str, list[Block]]] = []
    deadline = time.monotonic() + plan.max_seconds
    while len(rounds) < plan.rounds and (len(rounds) < 2 or time.monotonic() < deadline):
        shuffle.shuffle(order)
        blocks: dict[str, list[Block]] = {}
        for label, connection in [*order, *reversed(order)]:
            block = connection.closed(requests[label])
            if not len(block.latencies):
                raise ServerError(
                    f"The {label} answered no request of a whole block.", "Look at `invoke serve.logs`."
                )
            blocks.setdefault(label, []).append(block)
        rounds.append(blocks)
        progress(1)
    return rounds


def turns(requests: Sequence[Prepared], count: int) -> list[Prepared]:
    """`count` requests, each in turn."""
    return [requests[i % len(requests)] for i in range(count)]


def measure(blocks: Sequence[Block]) -> Measurement:
    """What `blocks` amount to, pooled."""
    latencies = pooled(blocks)
    return Measurement(
        p50=stats.percentile(latencies, 50),
        p90=stats.percentile(latencies, 90),
        p99=stats.percentile(latencies, 99),
        rate=len(latencies) / sum(block.seconds for block in blocks),
        requests=len(latencies),
        errors=sum(block.errors for block in blocks),
    )


def pooled(blocks: Sequence[Block]) -> np.ndarray[Any, Any]:
    """All latencies of `blocks`, in seconds."""
    import numpy as np

    return np.concatenate([block.latencies for block in blocks])


def paired_ratios(
    rounds: Sequence[Mapping[str, Sequence[Block]]], over: Sequence[str], under: Sequence[str]
) -> tuple[float, ...]:
    """For each round, the ratio of two p50s: time of the labels `over` / time of the labels `under`."""
    import numpy as np

    def p50(one: Mapping[str, Sequence[Block]], labels: Sequence[str]) -> float:
        return float(np.median(pooled([block for label in labels for block in one[label]])))

    return tuple(p50(one, over) / p50(one, under) for one in rounds)


def judge(
    baseline: Contestant,
    candidate: Contestant,
    agreement: Agreement,
    samples: Sequence[bytes],
    plan: Plan,
    progress: Callable[[int], object] = lambda done: None,
) -> Verdict:
    """Time both, unless they answer differently, and compare. `samples` are JSON bodies."""
    if not agreement.holds:
        return Verdict(baseline, candidate, agreement, {}, None, None, (), ())
    # All three get the same mix of samples, or the ratio would also compare the samples.
    repeats = {BASELINE: 1, CONTROL: 1, CANDIDATE: 2}
    with ExitStack() as stack:
        urls = {BASELINE: baseline.url, CONTROL: baseline.url, CANDIDATE: candidate.url}
        connections = [(label, stack.enter_context(Load([url], plan.timeout))) for label, url in urls.items()]
        requests = {
            label: turns([c.prepare(body) for body in samples], plan.block_requests // 2) * repeats[label]
            for label, c in connections
        }
        rounds = run_rounds(connections, requests, plan, progress)
    return conclude(baseline, candidate, agreement, rounds)


def conclude(
    baseline: Contestant,
    candidate: Contestant,
    agreement: Agreement,
    rounds: Sequence[Mapping[str, Sequence[Block]]],
) -> Verdict:
    """What finished rounds amount to."""
    round_ratios = paired_ratios(rounds, [BASELINE, CONTROL], [CANDIDATE])
    control_ratios = paired_ratios(rounds, [BASELINE], [CONTROL])
    return Verdict(
        baseline,
        candidate,
        agreement,
        {
            BASELINE: measure([b for one in rounds for label in (BASELINE, CONTROL) for b in one[label]]),
            CANDIDATE: measure([b for one in rounds for b in one[CANDIDATE]]),
        },
        stats.ratio_interval(round_ratios),
        stats.margin(stats.ratio_interval(control_ratios)),
        round_ratios,
        control_ratios,
    )
