"""Measures two servers as a pair: blocks of requests alternate between them.

Each round visits baseline, control, candidate and twin in a seeded order and then in reverse (ABBA), so that
a machine that slowly gets faster or slower favours neither server. `verdict` says what the blocks mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Protocol

from tasks.lib.common.settings import Plan
from tasks.lib.engines import listening
from tasks.lib.measure.agreement import Agreement
from tasks.lib.measure.load import Load
from tasks.lib.measure.rounds import Instance, Rounds, run_rounds, warmed_up
from tasks.lib.measure.verdict import HALVES, Contestant, Verdict, conclude, until_narrow
from tasks.lib.measure.warmup import BLOCK, Warmup
from tasks.lib.measure.watch import Disturbance, Watch, summary

Addresses = Sequence[tuple[str, ...]]
"""Of one process of each contestant: those of its replicas."""


class Restart(Protocol):
    """Ends servers that were given by address, and starts them again."""

    @property
    def sides(self) -> tuple[str, ...]:
        """verdict.BASELINE, verdict.CANDIDATE, or both."""
        ...

    def restart(self) -> None:
        """Return when all are new processes and answer."""
        ...


@dataclass(frozen=True)
class _Part:
    """What was measured of some pairs of processes."""

    rounds: Rounds
    warmups: Sequence[Warmup]
    disturbance: Disturbance | None


def judge(
    baseline: Contestant,
    candidate: Contestant,
    agreement: Agreement,
    samples: Sequence[bytes],
    plan: Plan,
    *,
    allow_different: bool = False,
    progress: Callable[[float], object] = lambda seconds: None,
    restart: Restart | None = None,
) -> Verdict:
    """Measure both, unless they answer differently, and conclude. `samples` are JSON bodies.

    With `restart` one pair of processes is measured after another. Raises ServerError if a server does not
    answer, and what `restart` raises.
    """
    if not agreement.holds and not allow_different:
        return Verdict(baseline, candidate, agreement, {}, {}, plan, (), ())
    sides = baseline, candidate
    number = _pairs(*sides, default=1 if restart is None else plan.instances)
    pairs = list(zip(*(_of(side, number) for side in sides), strict=True))
    if restart is None:
        parts = [_measured(pairs, samples, plan, until_narrow(plan, number), progress)]
    else:
        parts = list(_between_restarts(pairs, samples, plan, restart, progress))
    verdict = conclude(
        baseline,
        candidate,
        agreement,
        [blocks for part in parts for blocks in part.rounds],
        plan,
        number,
        summary([span for part in parts if part.disturbance for span in part.disturbance.spans]),
        restart.sides if restart is not None and number > 1 else (),
    )
    return replace(verdict, warmup=_joined([warmup for part in parts for warmup in part.warmups]))


def _between_restarts(
    pairs: Sequence[Addresses],
    samples: Sequence[bytes],
    plan: Plan,
    restart: Restart,
    progress: Callable[[float], object],
) -> Iterator[_Part]:
    """Measure each pair by itself, and restart before the next one.

    The time is shared. The first pair ends when its own interval is narrow; the others have as many rounds.
    """
    number = len(pairs)
    share = replace(
        plan,
        max_seconds=plan.max_seconds / number,
        min_seconds=plan.min_seconds / number,
        warmup_seconds=plan.warmup_seconds / number,
    )
    part = _measured(pairs[:1], samples, share, until_narrow(share), progress)
    yield part
    size = len(part.rounds)
    for place, pair in enumerate(pairs[1:], 1):
        restart.restart()
        counted = replace(share, seed=plan.seed + place, max_seconds=math.inf, min_seconds=0)
        yield _measured([pair], samples, counted, lambda rounds: len(rounds) >= size, progress)


def _measured(
    pairs: Sequence[Addresses],
    samples: Sequence[bytes],
    plan: Plan,
    enough: Callable[[Rounds], bool],
    progress: Callable[[float], object],
) -> _Part:
    """Warm the pairs of processes up, and measure them in turn."""
    # All get the same mix of samples, or the ratio would also compare the samples.
    half = plan.block // 2
    number = len(pairs)
    with ExitStack() as stack:
        instances, warmups = [], []
        for urls in pairs:
            loads = [
                (label, stack.enter_context(Load(addresses, plan.timeout, plan.connections)))
                for addresses, labels in zip(urls, HALVES, strict=True)
                for label in labels
            ]
            requests = {label: [load.prepare(body) for body in samples] for label, load in loads}
            instances.append(Instance(loads, requests))
        block = BLOCK if number == 1 else BLOCK // 2
        left = plan.warmup_seconds
        for place, instance in enumerate(instances):
            by_label = dict(instance.loads)
            servers = {labels[0]: [by_label[label] for label in labels] for labels in HALVES}
            # The time is shared: what one pair does not need, the next ones have.
            shared = replace(plan, warmup_seconds=left / (number - place))
            warmups.append(warmed_up(servers, samples, shared, block))
            left = max(0.0, left - warmups[-1].seconds)
        processes = map(_processes, zip(*pairs, strict=True))
        watch = Watch({label: ids for (label, _), ids in zip(HALVES, processes, strict=True)})

        def note(seconds: float) -> None:
            watch.note()
            progress(seconds)

        rounds = run_rounds(instances, half, plan, enough, note)
        return _Part(rounds, warmups, watch.finished())


def _pairs(*sides: Contestant, default: int) -> int:
    """How many pairs of instances there are. A server that was given by address is in each of them."""
    return min((len(side.instances) for side in sides if side.further), default=default)


def _of(contestant: Contestant, number: int) -> tuple[tuple[str, ...], ...]:
    """The addresses of its instance in each of so many pairs."""
    return contestant.instances[:number] if contestant.further else (contestant.urls,) * number


def _processes(instances: Sequence[tuple[str, ...]]) -> tuple[int, ...]:
    """Of all instances and their replicas; none if one of them cannot be found on this machine."""
    processes = [listening.processes(url) for urls in dict.fromkeys(instances) for url in urls]
    return tuple(pid for ids in processes for pid in ids) if all(processes) else ()


def _joined(warmups: Sequence[Warmup]) -> Warmup:
    return Warmup(
        all(warmup.steady for warmup in warmups),
        max(warmup.requests for warmup in warmups),
        sum(warmup.seconds for warmup in warmups),
    )
