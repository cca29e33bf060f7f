"""What several runs of one comparison say together: how often they came to the same outcome."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median, stdev

from tasks.lib.measure import stats
from tasks.lib.results.schema import Repetition, Result

OUTCOMES = {1: "faster", 0: "cannot tell", -1: "slower"}
NOT_COMPARABLE = "not comparable"
COLUMNS = ("run", "comparison", "speed-up", "95% CI from", "to", "noise", "outcome")
TELLING = {1: "higher", 0: "cannot tell on this machine", -1: "lower"}


def is_repeated(done: Sequence[Repetition]) -> bool:
    """Whether a comparison was made more than once."""
    return any(len(runs) > 1 for runs in _by_name(done).values())


def rows(done: Sequence[Repetition]) -> list[dict[str, object]]:
    """A row for each comparison of each run, in their order."""
    return [row for name, runs in _by_name(done).items() for row in _rows(name, runs)]


def sentences(done: Sequence[Repetition]) -> Iterator[str]:
    """For each comparison, how often it came to which outcome, and how far its ratios lie apart."""
    for name, runs in _by_name(done).items():
        told = ", ".join(f"{word} in {count}" for word, count in Counter(map(_outcome, runs)).most_common())
        ratios = _ratios(runs)
        spread = ""
        if len(ratios) > 1:
            deviation = stdev(map(math.log, ratios))
            spread = (
                f"; the speed-up was {min(ratios):.3f} to {max(ratios):.3f}, at the median "
                f"{median(ratios):.3f} (standard deviation {deviation:.1%})"
            )
        yield f"{name}: {told} of {len(runs)} runs{spread}"


def differences(first: Result, second: Result) -> Iterator[str]:
    """For each comparison that both results hold, how its speed-up differs between them."""
    # Results from before repetitions were saved do not have the key.
    before, after = (_by_name(content.get("repetitions", ())) for content in (first, second))
    for name in (name for name in before if name in after):
        ratios = [_ratios(runs[name]) for runs in (before, after)]
        if min(map(len, ratios)) < 2:
            yield (
                f"{name}: how far the speed-up differs from one benchmark to the next is not known; repeat "
                "both with `invoke benchmark --repeat 5`"
            )
            continue
        interval = stats.unpaired_interval(*ratios)
        yield (
            f"{name}: the second result's speed-up is {interval} times the first one's "
            f"({len(ratios[1])} and {len(ratios[0])} runs): {TELLING[stats.differs(interval, noise=0)]}"
        )


def _rows(name: str, runs: Sequence[Repetition]) -> Iterator[dict[str, object]]:
    for number, run in enumerate(runs, start=1):
        p50 = run["p50"]
        figures = (
            ("-",) * 4
            if p50 is None
            else (*(f"{p50[key]:.3f}" for key in ("ratio", "low", "high")), f"{p50['noise']:.1%}")
        )
        yield dict(zip(COLUMNS, (number, name, *figures, _outcome(run)), strict=True))


def _by_name(done: Sequence[Repetition]) -> dict[str, list[Repetition]]:
    named: dict[str, list[Repetition]] = {}
    for run in done:
        named.setdefault(run["comparison"], []).append(run)
    return named


def _ratios(runs: Sequence[Repetition]) -> list[float]:
    return [run["p50"]["ratio"] for run in runs if run["p50"] is not None]


def _outcome(run: Repetition) -> str:
    return NOT_COMPARABLE if run["p50"] is None else OUTCOMES[run["p50"]["outcome"]]
