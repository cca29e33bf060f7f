"""Measures two servers as a pair: blocks of requests alternate between them.

Each round visits baseline, control, candidate and twin in a seeded order and then in reverse (ABBA), so that
a machine that slowly gets faster or slower favours neither server. `verdict` says what the blocks mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from tasks.lib.common.settings import Plan
from tasks.lib.measure.agreement import Agreement
from tasks.lib.measure.load import Load
from tasks.lib.measure.rounds import Instance, run_rounds, warmed_up
from tasks.lib.measure.verdict import HALVES, Contestant, Verdict, conclude, until_narrow
from tasks.lib.measure.warmup import BLOCK, Warmup
from tasks.lib.measure.watch import Watch, listening


def judge(
    baseline: Contestant,
    candidate: Contestant,
    agreement: Agreement,
    samples: Sequence[bytes],
    plan: Plan,
    *,
    allow_different: bool = False,
    progress: Callable[[float], object] = lambda seconds: None,
) -> Verdict:
    """Measure both, unless they answer differently, and conclude. `samples` are JSON bodies.

    Raises ServerError if a server does not answer.
    """
    if not agreement.holds and not allow_different:
        return Verdict(baseline, candidate, agreement, {}, {}, plan, (), ())
    # All get the same mix of samples, or the ratio would also compare the samples.
    half = plan.block // 2
    sides = baseline, candidate
    number = _pairs(*sides)
    with ExitStack() as stack:
        instances, warmups = [], []
        for urls in zip(*(_of(side, number) for side in sides), strict=True):
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
        watch = Watch({label: _processes(side) for (label, _), side in zip(HALVES, sides, strict=True)})

        def note(seconds: float) -> None:
            watch.note()
            progress(seconds)

        rounds = run_rounds(instances, half, plan, until_narrow(plan, number), note)
        disturbance = watch.finished()
    verdict = conclude(baseline, candidate, agreement, rounds, plan, number, disturbance)
    return replace(verdict, warmup=_joined(warmups))


def _pairs(*sides: Contestant) -> int:
    """How many pairs of instances there are. A server that was given by address is in each of them."""
    return min((len(side.instances) for side in sides if side.further), default=1)


def _of(contestant: Contestant, number: int) -> tuple[tuple[str, ...], ...]:
    """The addresses of its instance in each of so many pairs."""
    return contestant.instances[:number] if contestant.further else (contestant.urls,) * number


def _processes(contestant: Contestant) -> tuple[int, ...]:
    """Of all its instances and replicas; none if one of them cannot be found on this machine."""
    processes = [listening(url) for urls in contestant.instances for url in urls]
    return tuple(pid for ids in processes for pid in ids) if all(processes) else ()


def _joined(warmups: Sequence[Warmup]) -> Warmup:
    return Warmup(
        all(warmup.steady for warmup in warmups),
        max(warmup.requests for warmup in warmups),
        sum(warmup.seconds for warmup in warmups),
    )
