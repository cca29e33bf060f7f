"""tasks.lib.results.repeatability: what several runs of one comparison say together."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from tasks.lib.common.tables import render
from tasks.lib.measure.stats import Interval
from tasks.lib.measure.verdict import Comparison
from tasks.lib.results import record, repeatability
from tasks.lib.results.record import Record
from tasks.lib.results.schema import Repetition, Result
from tests.helpers.records import ALONE, COMPARED, DONE, NOT_COMPARABLE, OPTIMIZED


def told(*done: Record) -> list[Repetition]:
    """What a result holds of them."""
    content = record.content(done[:1])
    for each in done[1:]:
        content = record.content([each], content["repetitions"])
    return content["repetitions"]


def with_ratio(ratio: float, name: str = "optimized", noise: float = 0.01) -> Record:
    """A run that measured this speed-up."""
    p50 = Comparison(Interval(ratio, ratio / 1.01, ratio * 1.01), noise)
    candidate = replace(OPTIMIZED, name=name)
    return replace(DONE, verdict=replace(COMPARED, candidate=candidate, comparisons={"p50": p50}))


def test_the_same_outcome_each_time() -> None:
    done = told(*(with_ratio(ratio) for ratio in (2.0, 2.2, 2.1)))
    (sentence,) = repeatability.sentences(done)
    assert sentence == (
        "optimized against stock: faster in 3 of 3 runs; the speed-up was 2.000 to 2.200, at the median "
        "2.100 (standard deviation 4.8%)"
    )
    assert [row["run"] for row in repeatability.rows(done)] == [1, 2, 3]
    assert "2.200" in render(repeatability.rows(done))


def test_outcomes_that_differ_are_counted() -> None:
    done = told(with_ratio(1.1), with_ratio(1.1), with_ratio(1.005), with_ratio(0.9), NOT_COMPARABLE)
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
    done = told(*[with_ratio(2.0), with_ratio(0.5, "another")] * 2)
    assert [sentence.partition(" of")[0] for sentence in repeatability.sentences(done)] == [
        "optimized against stock: faster in 2",
        "another against stock: slower in 2",
    ]


def repeated(*ratios: float) -> Result:
    """The result of the last run of --repeat, which measured these speed-ups."""
    *earlier, last = map(with_ratio, ratios)
    return record.content([last], told(*earlier))


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        ((2.0, 2.02, 1.98), (3.0, 3.02, 2.98), "higher"),
        ((3.0, 3.02, 2.98), (2.0, 2.02, 1.98), "lower"),
        ((2.0, 2.2, 1.8), (2.1, 1.9, 2.05), "cannot tell on this machine"),
    ],
)
def test_two_results_differ_by_more_than_their_runs(
    before: tuple[float, ...], after: tuple[float, ...], outcome: str
) -> None:
    (sentence,) = repeatability.differences(repeated(*before), repeated(*after))
    assert sentence.startswith("optimized against stock: the second result's speed-up is ")
    assert sentence.endswith(f"times the first one's (3 and 3 runs): {outcome}")


def test_of_single_runs_nothing_is_known_about_their_spread() -> None:
    single = record.content([with_ratio(2.0)])
    (sentence,) = repeatability.differences(single, single)
    assert sentence.endswith("is not known; repeat both with `invoke benchmark --repeat 5`")
    assert not repeatability.is_repeated(single["repetitions"])


def test_results_without_a_comparison_in_common_say_nothing() -> None:
    one, other = record.content([with_ratio(2.0)]), record.content([with_ratio(2.0, "another")])
    older = {key: value for key, value in one.items() if key != "repetitions"}
    assert not [
        *repeatability.differences(one, other),
        *repeatability.differences(one, record.content([ALONE])),
    ]
    assert not [*repeatability.differences(one, cast(Result, older))]
