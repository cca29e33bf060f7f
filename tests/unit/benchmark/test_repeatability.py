"""tasks.lib.benchmark.repeatability: what several runs of one comparison say together."""

from __future__ import annotations

from dataclasses import replace

from tasks.lib.benchmark import repeatability
from tasks.lib.common.tables import render
from tasks.lib.measure.stats import Interval
from tasks.lib.measure.verdict import Comparison
from tasks.lib.results.record import Record
from tests.helpers.records import COMPARED, DONE, NOT_COMPARABLE, OPTIMIZED


def with_ratio(ratio: float, name: str = "optimized", noise: float = 0.01) -> Record:
    """A run that measured this speed-up."""
    p50 = Comparison(Interval(ratio, ratio / 1.01, ratio * 1.01), noise)
    candidate = replace(OPTIMIZED, name=name)
    return replace(DONE, verdict=replace(COMPARED, candidate=candidate, comparisons={"p50": p50}))


def test_the_same_outcome_each_time() -> None:
    done = [with_ratio(ratio) for ratio in (2.0, 2.2, 2.1)]
    (sentence,) = repeatability.sentences(done)
    assert sentence == (
        "optimized against stock: faster in 3 of 3 runs; the speed-up was 2.000 to 2.200, at the median "
        "2.100 (standard deviation 4.8%)"
    )
    assert [row["run"] for row in repeatability.rows(done)] == [1, 2, 3]
    assert "2.200" in render(repeatability.rows(done))


def test_outcomes_that_differ_are_counted() -> None:
    done = [with_ratio(1.1), with_ratio(1.1), with_ratio(1.005), with_ratio(0.9), NOT_COMPARABLE]
    (sentence,) = repeatability.sentences(done)
    assert sentence.startswith(
        "optimized against stock: faster in 2, cannot tell in 1, slower in 1, not comparable in 1 of 5 runs; "
    )
    assert [row["outcome"] for row in repeatability.rows(done)][2:] == [
        "cannot tell",
        "slower",
        "not comparable",
    ]


def test_each_comparison_is_counted_by_itself() -> None:
    done = [with_ratio(2.0), with_ratio(0.5, "another")] * 2
    assert [sentence.partition(" of")[0] for sentence in repeatability.sentences(done)] == [
        "optimized against stock: faster in 2",
        "another against stock: slower in 2",
    ]
