"""tasks.lib.measure.stats: against scipy, and against thousands of simulated comparisons."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from tasks.lib.measure.stats import (
    MINIMUM_SAMPLES,
    Interval,
    differs,
    margin,
    nested_interval,
    percentile,
    ratio_interval,
    serial_interval,
    stray,
    t_cdf,
    t_quantile,
    unpaired_interval,
    widened,
)
from tests.helpers.simulated import lingering

FREEDOMS = (*range(1, 41), 49, 50, 99, 100, 499, 500)


@pytest.mark.parametrize("p", [0.5, 0.51, 0.6, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.9995, 0.99999])
def test_quantiles_are_those_of_scipy(p: float) -> None:
    ours = [t_quantile(p, freedom) for freedom in FREEDOMS]
    theirs = reference.t.ppf(p, FREEDOMS)
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)


@given(st.floats(-1e3, 1e3), st.integers(1, 200))
def test_the_distribution_is_that_of_scipy(t: float, freedom: int) -> None:
    # scipy itself is off by some 1e-10 close to t = 0.
    assert t_cdf(t, freedom) == pytest.approx(reference.t.cdf(t, freedom), abs=1e-9)


@given(st.floats(0.5, 1 - 1e-9), st.integers(1, 200))
def test_a_quantile_is_where_the_distribution_takes_this_value(p: float, freedom: int) -> None:
    assert t_cdf(t_quantile(p, freedom), freedom) == pytest.approx(p, abs=1e-12)


@pytest.mark.parametrize("p", [0.0, 0.49, 1.0, 1.5, math.nan])
def test_a_quantile_that_is_none_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="p is"):
        t_quantile(p, 5)


def test_an_interval_is_that_of_scipy_on_the_logarithms() -> None:
    ratios = [2.1, 2.4, 2.2, 2.6, 2.3]
    logs = np.log(ratios)
    low, high = reference.t.interval(0.95, len(logs) - 1, logs.mean(), reference.sem(logs))
    interval = ratio_interval(ratios)
    assert interval.ratio == pytest.approx(reference.gmean(ratios))
    assert (interval.low, interval.high) == pytest.approx((math.exp(low), math.exp(high)))


def test_a_wider_confidence_is_a_wider_interval() -> None:
    ratios = [1.0, 1.1, 0.95, 1.05]
    narrow, wide = ratio_interval(ratios, 0.8), ratio_interval(ratios, 0.99)
    assert wide.low < narrow.low < narrow.ratio == wide.ratio < narrow.high < wide.high


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=20))
def test_exchanging_the_two_turns_the_interval_over(ratios: list[float]) -> None:
    one, other = ratio_interval(ratios), ratio_interval([1 / ratio for ratio in ratios])
    assert (1 / other.high, 1 / other.ratio, 1 / other.low) == pytest.approx((one.low, one.ratio, one.high))


def test_equal_ratios_leave_no_doubt() -> None:
    interval = ratio_interval([1.5] * 6)
    assert (interval.low, interval.ratio, interval.high) == pytest.approx((1.5, 1.5, 1.5))


@pytest.mark.parametrize("ratios", [[], [1.3]])
def test_one_ratio_is_no_interval(ratios: list[float]) -> None:
    with pytest.raises(ValueError, match="at least two"):
        ratio_interval(ratios)


@pytest.mark.parametrize("rounds", [2, 3, 6, 14])
def test_intervals_hold_the_truth_in_95_percent_of_runs(rounds: int) -> None:
    """2,000 simulated runs of a server that is 1.3 times as fast: 95 % +- 3 standard errors."""
    runs = np.exp(np.random.default_rng(rounds).normal(math.log(1.3), 0.04, (2000, rounds)))
    held = sum(interval.low <= 1.3 <= interval.high for interval in map(ratio_interval, runs))
    assert held / len(runs) == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / len(runs)))


@pytest.mark.parametrize(
    ("rounds", "memory", "white"),
    [(14, 0.0, 0.0), (100, 0.0, 0.0), (100, 0.5, 0.0), (100, 0.8, 0.0), (300, 0.8, 3.0), (300, 0.9, 0.0)],
)
def test_serial_intervals_hold_the_truth_although_neighbours_are_alike(
    rounds: int, memory: float, white: float
) -> None:
    random = np.random.default_rng([rounds, int(100 * memory)])
    runs = np.exp(math.log(1.3) + lingering(random, 2000, rounds, memory, white))
    held = sum(interval.low <= 1.3 <= interval.high for interval, _ in map(serial_interval, runs))
    assert 0.92 <= held / len(runs) <= 0.98
    if memory:  # and the test could fail: neighbours taken for independent hold it too seldom
        naive = sum(interval.low <= 1.3 <= interval.high for interval in map(ratio_interval, runs))
        assert naive / len(runs) < 0.9


def test_the_effective_number_is_that_of_independent_rounds() -> None:
    random = np.random.default_rng(1)
    alone = np.median([serial_interval(run)[1] for run in np.exp(lingering(random, 300, 20, 0.0))])
    alike = np.median([serial_interval(run)[1] for run in np.exp(lingering(random, 300, 20, 0.9))])
    assert alone == pytest.approx(18, abs=3)
    assert alike < 5
    interval, effective = serial_interval([1.5] * 6)
    assert (interval.low, interval.high, effective) == pytest.approx((1.5, 1.5, 6))


@pytest.mark.parametrize(("instances", "rounds"), [(2, 10), (3, 10), (5, 6), (5, 40)])
def test_nested_intervals_hold_the_truth_although_processes_differ(instances: int, rounds: int) -> None:
    """2,000 runs: 3 % between pairs of processes, noise that lingers within them."""
    random = np.random.default_rng([instances, rounds])
    held = naive = 0
    for _ in range(2000):
        between = random.normal(0, 0.03, (instances, 1))
        pairs = np.exp(math.log(1.3) + between + lingering(random, instances, rounds, 0.6))
        interval, effective = nested_interval(pairs)
        assert effective == instances
        held += interval.low <= 1.3 <= interval.high
        flat = ratio_interval(pairs.ravel())
        naive += flat.low <= 1.3 <= flat.high
    assert 0.93 <= held / 2000 <= 0.97
    assert naive / 2000 < 0.8


def test_the_margin_is_how_far_a_server_is_from_itself_at_worst() -> None:
    assert margin(Interval(1.0, 0.99, 1.02)) == pytest.approx(0.02)
    assert margin(Interval(1.0, 0.98, 1.01)) == pytest.approx(1 / 0.98 - 1)
    assert margin(Interval(1.05, 1.04, 1.06)) == pytest.approx(0.06)  # a control that is off counts whole
    assert margin(Interval(1.0, 1.0, 1.0)) == 0


@pytest.mark.parametrize(
    ("low", "high", "noise", "outcome"),
    [
        (1.02, 1.10, 0.01, 1),
        (1.02, 1.10, 0.02, 0),  # not beyond the noise
        (1.001, 1.10, 0.0, 1),
        (0.99, 1.10, 0.0, 0),
        (0.90, 0.98, 0.01, -1),
        (0.90, 0.98, 0.03, 0),
        (0.50, 2.00, 0.0, 0),
        (1.00, 1.00, 0.0, 0),
    ],
)
def test_a_difference_counts_beyond_interval_and_noise(
    low: float, high: float, noise: float, outcome: int
) -> None:
    assert differs(Interval(math.sqrt(low * high), low, high), noise) == outcome


@given(st.floats(0.1, 10), st.floats(1, 2), st.floats(0, 0.5))
def test_faster_one_way_is_slower_the_other(ratio: float, width: float, noise: float) -> None:
    low, high = ratio / width, ratio * width
    outcome = differs(Interval(ratio, low, high), noise)
    # Only where rounding decides may the two ways disagree.
    if min(abs(low / (1 + noise) - 1), abs(high * (1 + noise) - 1)) > 1e-9:
        assert differs(Interval(1 / ratio, 1 / high, 1 / low), noise) == -outcome


@pytest.mark.parametrize(("q", "needed"), [(50, 1), (90, 64), (99, 662)])
def test_a_percentile_needs_enough_requests(q: int, needed: int) -> None:
    assert MINIMUM_SAMPLES[q] == needed
    latencies = np.linspace(0.01, 0.02, needed)
    assert percentile(latencies[:-1], q) is None
    assert percentile(latencies, q) == pytest.approx(np.quantile(latencies, q / 100))


@pytest.mark.parametrize("q", [90, 99])
def test_the_needed_requests_are_those_of_mlperf(q: int) -> None:
    """The fewest requests of which one may be over the limit, and still show the percentile at 99 %."""
    over = 1 - q / 100
    needed = next(n for n in range(1, 2000) if reference.binom.cdf(1, n, over) <= 0.01)
    assert MINIMUM_SAMPLES[q] == needed


def test_what_strays_within_a_second_does_not_shrink_in_longer_runs() -> None:
    random = np.random.default_rng(1)
    short, long = [
        np.median([stray(run, rounds * 0.1) for run in np.exp(lingering(random, 200, rounds, 0.0))])
        for rounds in (40, 640)
    ]
    # Ten rounds of 2 % are measured in a second.
    assert short == pytest.approx(0.02 / math.sqrt(10), rel=0.1)
    assert long == pytest.approx(short, rel=0.1)


def test_a_deviation_widens_an_interval() -> None:
    interval = widened(Interval(1.5, 1.5 * math.exp(-0.03), 1.5 * math.exp(0.03)), 0.04 / 1.96)
    assert (interval.low, interval.ratio, interval.high) == pytest.approx(
        (1.5 * math.exp(-0.05), 1.5, 1.5 * math.exp(0.05))
    )


def test_an_unpaired_interval_is_that_of_scipy_on_the_logarithms() -> None:
    before, after = [1.0, 1.1, 1.2, 1.05], [1.3, 1.9, 1.4]
    interval = unpaired_interval(before, after)
    test = reference.ttest_ind(np.log(after), np.log(before), equal_var=False)
    # Whole degrees of freedom, rounded down: a little wider.
    assert interval.ratio == pytest.approx(np.exp(np.log(after).mean() - np.log(before).mean()))
    standard_error = (math.log(interval.ratio)) / test.statistic
    half = reference.t.ppf(0.975, math.floor(test.df)) * standard_error
    assert math.log(interval.high / interval.ratio) == pytest.approx(half)
    assert math.log(interval.ratio / interval.low) == pytest.approx(half)


def test_an_unpaired_interval_of_equal_ratios_leaves_no_doubt() -> None:
    interval = unpaired_interval([2.0, 2.0], [4.0, 4.0])
    assert (interval.ratio, interval.width) == (pytest.approx(2), pytest.approx(0))
