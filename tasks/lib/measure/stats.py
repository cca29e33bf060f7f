"""The statistics of a paired comparison.

A round measures both contestants; its log ratio is one observation. Rounds are few and the machine
drifts, so the interval is Student's t over those log ratios (a percentile bootstrap over so few calls
identical servers different in 6 to 12 % of runs), and a difference is claimed only where it also
exceeds what two measurements of one and the same server differ by: the A/A margin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 1000
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
    """The geometric mean of paired ratios with its interval; at least two are needed."""
    logs = np.log(np.asarray(ratios, dtype=float))
    if len(logs) < 2:
        raise ValueError("an interval needs at least two paired ratios")
    half = t_quantile((1 + confidence) / 2, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs))
    mean = logs.mean()
    return Interval(float(np.exp(mean)), float(np.exp(mean - half)), float(np.exp(mean + half)))


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
