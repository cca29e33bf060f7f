"""The statistics of a paired comparison.

A round measures both contestants; its log ratio is one observation. Rounds of one pair of processes resemble
their neighbours, so their interval counts fewer of them (`serial_interval`). Processes of one program differ
for as long as they run, so with several pairs each pair is one observation (`nested_interval`). A difference
is claimed only if it also exceeds what two measurements of one and the same server differ by: the A/A margin.
docs/method.md has the formulas, their sources, and the simulations behind the constants.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 1000
BATCHES = 20
"""Of neighbouring rounds. Their means show what lasts longer than a round, which noise within rounds hides.
Of 12 to 32 batches, this number kept the coverage nearest to 95 % (tests/benchmarks/interval_coverage.py)."""
NORMAL = 1.96
"""Within so many standard deviations are 95 % of a normal distribution."""
PERSISTENCE = 1.0
"""Seconds. Two processes of one program differ for a whole run by about as much as the ratio of a single pair
strays within this time, or less (docs/method.md: measured)."""
MOST_CORRELATED = 0.97
"""More cannot be told apart from a series that never returns to its mean."""
ROUNDING = 1e-12
"""Equal ratios differ by less."""
MINIMUM_SAMPLES = {50: 1, 90: 64, 99: 662}
"""Requests that a percentile needs to mean anything: MLPerf LoadGen's early-stopping counts at 99 %
confidence (https://github.com/mlcommons/inference_policies, "early stopping")."""


@dataclass(frozen=True)
class Interval:
    """A ratio with its 95 % confidence interval."""

    ratio: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """How wide it is, relative to the ratio: 0.02 is 2 %."""
        return (self.high - self.low) / self.ratio

    @property
    def digits(self) -> int:
        """Decimals that it is told with: with two, 1.004 from 1.002 to 1.006 would be nothing at all."""
        return 2 if self.high - self.low >= 0.02 else 3

    def __str__(self) -> str:
        """2.41 [2.37, 2.45]"""
        ratio, low, high = (f"{one:.{self.digits}f}" for one in (self.ratio, self.low, self.high))
        return f"{ratio} [{low}, {high}]"


def t_cdf(t: float, freedom: int) -> float:
    """Student's t distribution function for a whole number of degrees of freedom.

    Closed form: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    angle = math.atan2(t, math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    term = cosine if freedom % 2 else 1.0
    total = 0.0
    for k in range(3 if freedom % 2 else 2, freedom + 1, 2):
        total += term
        term *= cosine * cosine * (k - 1) / k
    within = 2 / math.pi * (angle + sine * total) if freedom % 2 else sine * total
    return (1 + within) / 2


def t_quantile(p: float, freedom: int) -> float:
    """The t that `t_cdf` takes to `p`, for p in [0.5, 1), by bisection to machine precision."""
    if not 0.5 <= p < 1:
        raise ValueError(f"p is {p}, and must be at least 0.5 and below 1")
    low, high = 0.0, 1.0
    while t_cdf(high, freedom) < p:
        high *= 2
    while low < (middle := (low + high) / 2) < high:
        if t_cdf(middle, freedom) < p:
            low = middle
        else:
            high = middle
    return middle


def ratio_interval(ratios: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The geometric mean of independent paired ratios with its interval; at least two are needed."""
    logs = _logs(ratios)
    half = t_quantile((1 + confidence) / 2, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs))
    return _around(logs.mean(), half)


def unpaired_interval(before: Sequence[float], after: Sequence[float]) -> Interval:
    """How many times as large the geometric mean of `after` is as that of `before`: independent ratios.

    Two of each are needed. Their spreads may differ (Welch, "The generalization of Student's problem when
    several different population variances are involved", Biometrika 1947).
    """
    a, b = _logs(before), _logs(after)
    shares = [logs.var(ddof=1) / len(logs) for logs in (a, b)]
    variance = sum(shares)
    squares = sum(share**2 / (len(logs) - 1) for share, logs in zip(shares, (a, b), strict=True))
    freedom = math.floor(variance**2 / squares) if squares else len(a) + len(b) - 2
    half = t_quantile((1 + CONFIDENCE) / 2, freedom) * math.sqrt(variance)
    return _around(b.mean() - a.mean(), half)


def serial_interval(ratios: Sequence[float], confidence: float = CONFIDENCE) -> tuple[Interval, float]:
    """The geometric mean of paired ratios in the order of measuring, its interval, and the effective number.

    Neighbours may be alike. The means of BATCHES batches are taken for an autoregressive series of order 1,
    whose n values say as much about the mean as n (1 - r) / (1 + r) independent ones; r is corrected for its
    bias in short series (Kendall 1954). At least two ratios are needed.
    """
    logs = _logs(ratios)
    batches = _batches(logs)
    effective = _effective(batches)
    quantile = t_quantile((1 + confidence) / 2, max(1, math.floor(effective) - 1))
    return _around(logs.mean(), quantile * batches.std(ddof=1) / math.sqrt(effective)), effective


def stray(ratios: Sequence[float], seconds: float) -> float:
    """How far the ratio strays within PERSISTENCE: one standard deviation of its logarithm.

    `ratios` were measured over so many seconds, in their order. Longer runs do not make it smaller.
    """
    batches = _batches(_logs(ratios))
    return float(batches.std(ddof=1)) * math.sqrt(seconds / len(batches) / PERSISTENCE)


def widened(interval: Interval, deviation: float) -> Interval:
    """The interval with one more independent deviation of the logarithm in it, normally distributed."""
    half = math.hypot(math.log(interval.high / interval.ratio), NORMAL * deviation)
    return _around(math.log(interval.ratio), half)


def _batches(logs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.array([part.mean() for part in np.array_split(logs, min(len(logs), BATCHES))])


def nested_interval(
    ratios: Sequence[Sequence[float]], confidence: float = CONFIDENCE
) -> tuple[Interval, float]:
    """The same over several pairs of processes; `ratios` holds those of each pair.

    A two-level model (Kalibera and Jones 2013): the means of the pairs are independent, and their spread
    contains both what differs between processes and what is left of the noise within them. At least two pairs
    are needed.
    """
    means = [float(np.exp(_mean(pair))) for pair in ratios]
    return ratio_interval(means, confidence), float(len(means))


def _mean(ratios: Sequence[float]) -> float:
    return float(np.log(np.asarray(ratios, dtype=float)).mean())


def _logs(ratios: Sequence[float]) -> np.ndarray[Any, Any]:
    if len(ratios) < 2:
        raise ValueError("an interval needs at least two paired ratios")
    logs: np.ndarray[Any, Any] = np.log(np.asarray(ratios, dtype=float))
    return logs


def _around(mean: float, half: float) -> Interval:
    return Interval(float(np.exp(mean)), float(np.exp(mean - half)), float(np.exp(mean + half)))


def _effective(series: np.ndarray[Any, Any]) -> float:
    """How many independent values say as much about the mean as these do; 2 at least."""
    count, left = len(series), series - series.mean()
    square = float(left @ left)
    if square <= count * ROUNDING**2:
        return float(count)
    correlation = float(left[1:] @ left[:-1]) / square
    correlation += (1 + 3 * correlation) / count
    correlation = min(max(correlation, 0.0), MOST_CORRELATED)
    return max(2.0, count * (1 - correlation) / (1 + correlation))


def resampled(
    over: Sequence[np.ndarray[Any, Any]], under: Sequence[np.ndarray[Any, Any]], q: int, seed: int
) -> Interval | None:
    """The ratio of two q-th percentiles, each over all rounds, with an interval by resampling rounds.

    `over` and `under` hold a round's latencies each, of the same rounds: a round is drawn as a whole, for
    requests of one round are alike. None where there are too few samples (MINIMUM_SAMPLES).
    """
    if len(over) < 2 or any(sum(map(len, side)) < MINIMUM_SAMPLES[q] for side in (over, under)):
        return None
    times = np.random.default_rng(seed).multinomial(len(over), [1 / len(over)] * len(over), RESAMPLES)
    # The first row draws every round once: that is the ratio itself.
    times = np.concatenate([np.ones((1, len(over)), dtype=int), times])
    ratios = _percentiles(over, times, q) / _percentiles(under, times, q)
    low, high = np.percentile(ratios[1:], [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return Interval(float(ratios[0]), float(low), float(high))


def _percentiles(
    rounds: Sequence[np.ndarray[Any, Any]], times: np.ndarray[Any, Any], q: int
) -> np.ndarray[Any, Any]:
    """For each row of `times`, the q-th percentile of the rounds, each taken so many times."""
    pooled = np.concatenate(rounds)
    order = np.argsort(pooled)
    values, origin = pooled[order], np.repeat(np.arange(len(rounds)), list(map(len, rounds)))[order]
    percentiles = []
    for one in times:
        reached = np.cumsum(one[origin])
        percentiles.append(values[np.searchsorted(reached, q / 100 * reached[-1])])
    return np.array(percentiles)


def margin(control: Interval) -> float:
    """The A/A margin: how far from 1 the interval of a server against itself reaches (0.013: 1.3 %)."""
    return max(control.high, 1 / control.low) - 1


def differs(interval: Interval, noise: float) -> int:
    """1 if the ratio is above 1 beyond interval and noise, -1 if below, 0 if it cannot be told."""
    if interval.low > 1 + noise:
        return 1
    if interval.high < 1 / (1 + noise):
        return -1
    return 0


def percentile(latencies: np.ndarray[Any, Any], q: int) -> float | None:
    """The q-th percentile, or None where there are too few samples for it to mean anything."""
    if len(latencies) < MINIMUM_SAMPLES[q]:
        return None
    return float(np.percentile(latencies, q))
