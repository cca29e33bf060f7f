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
from tasks.lib.measure.rounds import run_rounds, warmed_up
from tasks.lib.measure.verdict import (
    BASELINE,
    CANDIDATE,
    CONTROL,
    NEW,
    OLD,
    TWIN,
    Contestant,
    Verdict,
    conclude,
    until_narrow,
)


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
    with ExitStack() as stack:
        sides = {BASELINE: baseline, CONTROL: baseline, CANDIDATE: candidate, TWIN: candidate}
        loads = [
            (label, stack.enter_context(Load(side.urls, plan.timeout, plan.connections)))
            for label, side in sides.items()
        ]
        requests = {label: [load.prepare(body) for body in samples] for label, load in loads}
        by_label = dict(loads)
        servers = {labels[0]: [by_label[label] for label in labels] for labels in (OLD, NEW)}
        warmup = warmed_up(servers, samples, plan)
        rounds = run_rounds(loads, requests, half, plan, until_narrow(plan), progress)
    return replace(conclude(baseline, candidate, agreement, rounds, plan), warmup=warmup)
