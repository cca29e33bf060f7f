"""What several runs of one comparison say together: how often they came to the same outcome."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median, stdev

from tasks.lib.measure.verdict import Comparison
from tasks.lib.results.record import Record

OUTCOMES = {1: "faster", 0: "cannot tell", -1: "slower"}
NOT_COMPARABLE = "not comparable"
COLUMNS = ("run", "comparison", "speed-up", "95% CI from", "to", "noise", "outcome")


def rows(done: Sequence[Record]) -> list[dict[str, object]]:
    """A row for each comparison of each run, in their order."""
    return [row for name, records in _by_name(done).items() for row in _rows(name, records)]


def sentences(done: Sequence[Record]) -> Iterator[str]:
    """For each comparison, how often it came to which outcome, and how far its ratios lie apart."""
    for name, records in _by_name(done).items():
        outcomes = Counter(map(_outcome, records))
        told = ", ".join(f"{word} in {count}" for word, count in outcomes.most_common())
        ratios = [p50.interval.ratio for p50 in map(_p50, records) if p50 is not None]
        spread = ""
        if len(ratios) > 1:
            deviation = stdev(map(math.log, ratios))
            spread = (
                f"; the speed-up was {min(ratios):.3f} to {max(ratios):.3f}, at the median "
                f"{median(ratios):.3f} (standard deviation {deviation:.1%})"
            )
        yield f"{name}: {told} of {len(records)} runs{spread}"


def _rows(name: str, records: Sequence[Record]) -> Iterator[dict[str, object]]:
    for number, record in enumerate(records, start=1):
        p50 = _p50(record)
        figures = (
            ("-",) * 4
            if p50 is None
            else (
                f"{p50.interval.ratio:.3f}",
                f"{p50.interval.low:.3f}",
                f"{p50.interval.high:.3f}",
                f"{p50.noise:.1%}",
            )
        )
        yield dict(zip(COLUMNS, (number, name, *figures, _outcome(record)), strict=True))


def _by_name(done: Sequence[Record]) -> dict[str, list[Record]]:
    named: dict[str, list[Record]] = {}
    for record in done:
        if record.verdict is not None:
            sides = f"{record.verdict.candidate.name} against {record.verdict.baseline.name}"
            named.setdefault(sides + record.plan.how, []).append(record)
    return named


def _p50(record: Record) -> Comparison | None:
    return None if record.verdict is None or record.verdict.problem is not None else record.verdict.p50


def _outcome(record: Record) -> str:
    p50 = _p50(record)
    return NOT_COMPARABLE if p50 is None else OUTCOMES[p50.outcome]
