"""What the blocks of a paired comparison say: ratios, intervals, the machine's noise, and the verdict.

Decides from blocks of latencies alone, so tests can give it those of simulated machines. `paired` measures
the blocks. Half of the baseline's requests have another label, the control: the difference between the
control and the rest of the baseline is the machine's own noise. Half of the candidate's have one too, so all
blocks have the same size, and the larger of the two differences counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tasks.lib.client.rest import protocol_of
from tasks.lib.common.settings import Plan
from tasks.lib.engines.base import Conditions
from tasks.lib.measure import stats
from tasks.lib.measure.agreement import Agreement
from tasks.lib.measure.measurement import Measurement, measure
from tasks.lib.measure.rounds import Rounds, Timeline, medians, pooled, rates, timeline
from tasks.lib.measure.warmup import Warmup
from tasks.lib.measure.watch import BUSY, Disturbance
from tasks.lib.models.store import Origin

if TYPE_CHECKING:
    import numpy as np

BASELINE, CONTROL, CANDIDATE, TWIN = "baseline", "control", "candidate", "twin"
"""What blocks are booked under: both contestants have two labels, and all four the same requests. If the
candidate had one with blocks of twice the size, fewer of its requests would be the first ones after
another server's, which take longer: it came out 3 % faster than itself (a server of 0.3 ms)."""
OLD, NEW = HALVES = (BASELINE, CONTROL), (CANDIDATE, TWIN)
P50, THROUGHPUT = "p50", "throughput"
TAILS = (90, 99)
FIGURES = (P50, THROUGHPUT, *(f"p{q}" for q in TAILS))
FEWEST = 6
"""Effective rounds before an interval's width is believed: of two or three it is often narrow by chance."""


@dataclass(frozen=True)
class Contestant:
    """What takes part in a comparison."""

    name: str
    """As it is called in the sentence: a variant, a version, or an address."""
    model: str
    """NAME@VERSION."""
    urls: tuple[str, ...]
    """Addresses of the model, without ":predict"; several are replicas of one service."""
    backend: str
    precision: str
    origin: Origin | None = None
    """Where the model came from; None for a server that this suite did not start."""
    image: str = ""
    """What its container is made from; empty where there is none."""
    image_id: str = ""
    """The same as Docker identifies it."""
    conditions: Conditions | None = None
    """Under which it runs; None for a server that this suite did not start."""
    further: tuple[tuple[str, ...], ...] = ()
    """Addresses of further instances: other processes of the same server, as `urls` are of the first."""

    @property
    def url(self) -> str:
        """The address to ask what is the same for all replicas."""
        return self.urls[0]

    @property
    def instances(self) -> tuple[tuple[str, ...], ...]:
        """The addresses of each of its instances."""
        return (self.urls, *self.further)

    @property
    def protocol(self) -> str:
        """What it is asked over, all replicas alike."""
        return protocol_of(self.url)


@dataclass(frozen=True)
class Comparison:
    """What one figure says: baseline against candidate, and against itself."""

    interval: stats.Interval
    """Of how many times as good the candidate is: above 1 it is faster."""
    noise: float
    """The A/A margin: 0.013 means 1.3 %."""
    effective: float | None = None
    """So many independent observations say as much: of rounds, or with several instances of those. None for
    percentiles of the tail."""
    instances: int = 1
    """Pairs of processes that it is over."""
    stray: float | None = None
    """What other processes of the two servers could differ by, in `interval` too; None if that was measured
    (over several instances) or is not known."""
    allowance: float = 0.0
    """What one server's longer waits for a CPU can explain, unless the interval contains it: 0.02 is 2 %."""

    @property
    def outcome(self) -> int:
        """1 if the candidate is reliably better, -1 if it is worse, 0 if it cannot be told."""
        return stats.differs(self.interval, self.margin)

    @property
    def width(self) -> float:
        """Of the interval without the stray, which does not shrink in longer runs; relative to the ratio."""
        if self.stray is None:
            return self.interval.width
        half = math.log(self.interval.high / self.interval.ratio)
        return 2 * math.sinh(math.sqrt(max(half**2 - (stats.NORMAL * self.stray) ** 2, 0.0)))

    @property
    def margin(self) -> float:
        """A difference counts if it is larger: the noise, and what waits can explain."""
        return (1 + self.noise) * (1 + self.allowance) - 1

    def is_below(self, ratio: float) -> bool:
        """Whether the candidate is less than `ratio` times as good, beyond interval and margin."""
        return self.interval.high * (1 + self.margin) < ratio


@dataclass(frozen=True)
class Verdict:
    """A finished comparison. Ratios are baseline time / candidate time: above 1 the candidate is faster."""

    baseline: Contestant
    candidate: Contestant
    agreement: Agreement
    measured: Mapping[str, Measurement]
    """BASELINE's and CANDIDATE's; empty if they were not timed, because their answers differ."""
    comparisons: Mapping[str, Comparison | None]
    """By figure, FIGURES in their order; None where there were too few requests. Empty as `measured`."""
    plan: Plan
    round_ratios: tuple[float, ...]
    """Of the p50s."""
    control_ratios: tuple[float, ...]
    timeline: Timeline | None = None
    """None if they were not timed."""
    warmup: Warmup | None = None
    """The same."""
    instances: int = 1
    """Pairs of processes that were measured."""
    restarted: tuple[str, ...] = ()
    """BASELINE and CANDIDATE, those that were restarted between the pairs; then all rounds of a pair follow
    one another."""
    disturbance: Disturbance | None = None
    """What else the machine did; None if that is not known."""

    @property
    def p50(self) -> Comparison | None:
        """The comparison that decides; None if they were not timed."""
        return self.comparisons.get(P50)

    @property
    def is_narrow(self) -> bool:
        """Whether measuring ended because the interval was narrow enough, and not because time was up."""
        return self.p50 is not None and _is_narrow(self.p50, self.plan)

    @property
    def problem(self) -> str | None:
        """Why there is no verdict, as part of a sentence; None where there is one."""
        if self.p50 is None:
            return self.agreement.problem
        sides = {BASELINE: self.baseline, CANDIDATE: self.candidate}
        problems = (
            failures(sides[label], measurement, self.plan) for label, measurement in self.measured.items()
        )
        return next((problem for problem in problems if problem is not None), None)

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        a, b = self.baseline.name, self.candidate.name
        if self.p50 is None or self.problem is not None:
            return f"{b} and {a} are not comparable: {self.problem}."
        errors = sum(value.errors for value in self.measured.values())
        failed = f" {errors} requests failed and are not in the figures." if errors else ""
        interval = self.p50.interval
        ratio, low, high = (
            f"{value:.{interval.digits}f}" for value in (interval.ratio, interval.low, interval.high)
        )
        told = f"{ratio}x (95% CI {low} to {high}; "
        told += (
            f"the machine's own noise is {self.p50.noise:.1%}{_waits(self.p50)}{_others(self.disturbance)})"
        )
        how = self.plan.how
        same = (
            "answers the same" if self.agreement.holds else f"answers differently: {self.agreement.problem}"
        )
        if self.p50.outcome:
            word = "faster" if self.p50.outcome > 0 else "slower"
            return f"{b} is {word} than {a}{how}: {told}, and {same}.{self._scope}{failed}"
        doubt = f"cannot tell on this machine whether {b} is faster or slower than {a}{how}"
        return f"{doubt}: {told}; it {same}.{failed}"

    @property
    def _scope(self) -> str:
        """Of which processes the outcome is known, as a sentence; empty if it would be the same of others."""
        sides = {BASELINE: self.baseline, CANDIDATE: self.candidate}
        single = [
            side.name for label, side in sides.items() if not side.further and label not in self.restarted
        ]
        if not single:
            return ""
        of_which = "these two processes" if len(single) > 1 else f"this process of {single[0]}"
        return f" This holds for {of_which}; a restart can change it."


def _waits(comparison: Comparison) -> str:
    part = f"{comparison.allowance:.1%}"
    return "" if part == "0.0%" else f", waits for a CPU can explain {part}"


def _others(disturbance: Disturbance | None) -> str:
    if disturbance is None or disturbance.others is None or disturbance.others < BUSY:
        return ""
    return f", other programs used {disturbance.others:.0%} of the CPUs"


def failures(contestant: Contestant, measured: Measurement, plan: Plan) -> str | None:
    """That more of its requests failed than may, as part of a sentence; None if not."""
    total = measured.requests + measured.errors
    if measured.errors <= plan.max_errors * total:
        return None
    part = f"{measured.errors} of {total} requests to {contestant.name} failed"
    return f"{part}; {100 * plan.max_errors:g}% are allowed"


def paired_ratios(rounds: Rounds, over: Sequence[str], under: Sequence[str]) -> tuple[float, ...]:
    """For each round, the ratio of two p50s: time of the labels `over` / time of the labels `under`."""
    return tuple(_ratios(medians(rounds, over), medians(rounds, under)))


def until_narrow(plan: Plan, instances: int = 1) -> Callable[[Rounds], bool]:
    """What says of one growing run whether more rounds would not tell more than `plan` asks for.

    It looks at how wide the intervals are and never at what they say: to stop as soon as a difference
    shows would find one between two servers that are the same. Each round is looked at only once, or
    long runs would wait longer and longer between their rounds.
    """
    ratios: list[float] = []
    controls: tuple[list[float], ...] = ([], [])

    def enough(rounds: Rounds) -> bool:
        new = rounds[len(ratios) :]
        ratios.extend(paired_ratios(new, OLD, NEW))
        for control, (one_half, other_half) in zip(controls, HALVES, strict=True):
            control.extend(paired_ratios(new, [one_half], [other_half]))
        return len(ratios) >= FEWEST and _is_narrow(_compared(ratios, controls, instances), plan)

    return enough


def _is_narrow(comparison: Comparison, plan: Plan) -> bool:
    return (
        comparison.width <= plan.ci_width
        and comparison.noise <= plan.ci_width
        and (comparison.effective is None or comparison.instances > 1 or comparison.effective >= FEWEST)
    )


def conclude(
    baseline: Contestant,
    candidate: Contestant,
    agreement: Agreement,
    rounds: Rounds,
    plan: Plan,
    instances: int = 1,
    disturbance: Disturbance | None = None,
    restarted: tuple[str, ...] = (),
) -> Verdict:
    """What finished rounds amount to; round r is of instance r modulo `instances`.

    If a server was restarted, each instance has as many rounds as the others, and they follow one another.
    """
    in_turn = not restarted
    # Over several instances, the interval contains what differs between processes.
    allowance = disturbance.explains(BASELINE, CANDIDATE) if disturbance and instances == 1 else 0.0
    seconds = sum(block.seconds for blocks in rounds for label in blocks.values() for block in label)
    throughput = _ratios(rates(rounds, NEW), rates(rounds, OLD))
    comparisons = {
        P50: _strayed(at_p50(rounds, instances, in_turn=in_turn), paired_ratios(rounds, OLD, NEW), seconds),
        THROUGHPUT: _strayed(
            _compared(
                throughput,
                [_ratios(rates(rounds, [half]), rates(rounds, [other])) for half, other in HALVES],
                instances,
                in_turn,
            ),
            throughput,
            seconds,
        ),
        **{f"p{q}": _at_tail(rounds, q, plan.seed) for q in TAILS},
    }
    return Verdict(
        baseline,
        candidate,
        agreement,
        {
            BASELINE: measure([b for blocks in rounds for label in OLD for b in blocks[label]]),
            CANDIDATE: measure([b for blocks in rounds for label in NEW for b in blocks[label]]),
        },
        {
            figure: None if comparison is None else replace(comparison, allowance=allowance)
            for figure, comparison in comparisons.items()
        },
        plan,
        paired_ratios(rounds, OLD, NEW),
        paired_ratios(rounds, [BASELINE], [CONTROL]),
        timeline(rounds),
        instances=instances,
        restarted=restarted,
        disturbance=disturbance,
    )


def at_p50(rounds: Rounds, instances: int = 1, *, in_turn: bool = True) -> Comparison:
    """What the p50s of the rounds say; round r is of instance r modulo `instances`.

    If they were not measured in turn, each instance has as many rounds, and they follow one another.
    """
    return _compared(
        paired_ratios(rounds, OLD, NEW),
        [paired_ratios(rounds, [half], [other]) for half, other in HALVES],
        instances,
        in_turn,
    )


def _compared(
    ratios: Sequence[float], controls: Iterable[Sequence[float]], instances: int, in_turn: bool = True
) -> Comparison:
    """`controls` are the ratios of each contestant to itself."""
    noise = max(stats.margin(stats.serial_interval(control)[0]) for control in controls)
    if instances == 1:
        interval, effective = stats.serial_interval(ratios)
    else:
        size = len(ratios) // instances
        interval, effective = stats.nested_interval(
            [ratios[n::instances] if in_turn else ratios[n * size : (n + 1) * size] for n in range(instances)]
        )
    return Comparison(interval, noise, effective, instances)


def _strayed(comparison: Comparison, ratios: Sequence[float], seconds: float) -> Comparison:
    """With what other processes could differ by, where a single pair was measured."""
    if comparison.instances > 1:
        return comparison
    deviation = stats.stray(ratios, seconds)
    return replace(comparison, interval=stats.widened(comparison.interval, deviation), stray=deviation)


def _ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(over, under, strict=True)]


def _at_tail(rounds: Rounds, q: int, seed: int) -> Comparison | None:
    """The percentiles of the tail: a round has too few requests for one of its own."""

    def latencies(*labels: str) -> list[np.ndarray[Any, Any]]:
        return [pooled([b for label in labels for b in half[label]]) for half in rounds]

    interval = stats.resampled(latencies(*OLD), latencies(*NEW), q, seed)
    controls = [stats.resampled(latencies(half), latencies(other), q, seed) for half, other in HALVES]
    noise = [stats.margin(control) for control in controls if control is not None]
    return None if interval is None or len(noise) < len(HALVES) else Comparison(interval, max(noise))
