"""Axes: where a value is on one, and which values are labelled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

CLOSEST = 0.075
"""Of an axis' length, between two ticks: at 280 pixels there is still room for their numbers."""

NARROWEST = 1.05
"""How many times its beginning the end of a logarithmic axis is, at least."""


@dataclass(frozen=True)
class Axis:
    """One direction of a chart, from `low` to `high`."""

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    """Values and how they are written."""
    scale: Callable[[float], float] = float
    """Increasing; equal steps of it are equally long."""

    def at(self, value: float) -> float:
        """Where `value` is: 0 at the beginning of the axis, 1 at its end."""
        begin, end = self.scale(self.low), self.scale(self.high)
        return (self.scale(value) - begin) / (end - begin)


def linear(title: str, high: float, rounded: bool = True) -> Axis:
    """From 0 to `high`, or to the next tick if that is to be `rounded` up."""
    high = high if high > 0 else 1.0
    step = _step(high)
    if rounded:
        high = step * math.ceil(high / step - 1e-9)
    return Axis(title, 0.0, high, _written(_multiples(0.0, high, step)))


def logarithmic(title: str, values: Iterable[float]) -> Axis:
    """Around `values`, which are above 0, with a little room at both ends."""
    shown = list(values)
    low, high = min(shown), max(shown)
    # So that a spread of a hundredth does not look like one of a half.
    room = max((high / low) ** 0.06, math.sqrt(NARROWEST * low / high))
    low, high = low / room, high * room
    if high / low < 5:
        wanted = _multiples(low, high, _step(high - low))
    else:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        digits = (1, 1.5, 2, 3, 5, 7) if high / low < 20 else (1, 2, 5) if high / low < 2000 else (1,)
        wanted = [digit * 10.0**decade for decade in decades for digit in digits]
    return Axis(title, low, high, _apart(wanted, low, high), math.log)


def chosen(title: str, values: Sequence[float]) -> Axis:
    """Logarithmic, with a tick at each of `values`: those that were measured and no others."""
    low, high = min(values) / 1.15, max(values) * 1.15
    return Axis(title, low, high, _apart(sorted(values), low, high), math.log)


def tail(title: str, count: int) -> Axis:
    """Shares of `count` requests: each tenth of those that remain is as long as the one before.

    Values are shares from 0 to below 1.
    """
    high = 1 - 1 / max(count, 2)
    nines = range(1, 1 + max(1, math.floor(math.log10(max(count, 2)) + 1e-9)))
    shares = [0.0, 0.5, *(1 - 0.1**n for n in nines)]
    ticks = tuple((share, f"{100 * share:.8g}") for share in shares if share <= high + 1e-12)
    return Axis(title, 0.0, high, ticks, lambda share: -math.log10(1 - share))


def _step(length: float) -> float:
    """The step of 1, 2 or 5 times a power of ten that divides `length` into six parts or less."""
    rough = length / 6
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= rough * (1 - 1e-9))


def _multiples(low: float, high: float, step: float) -> list[float]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * count for count in range(first, last + 1)]


def _apart(values: Sequence[float], low: float, high: float) -> tuple[tuple[float, str], ...]:
    """Those between `low` and `high` that are far enough from the one before on a logarithmic axis."""
    kept: list[float] = []
    length = math.log(high / low)
    for value in values:
        near = kept and math.log(value / kept[-1]) < CLOSEST * length
        if low <= value <= high and not near:
            kept.append(value)
    return _written(kept)


def _written(values: Sequence[float]) -> tuple[tuple[float, str], ...]:
    return tuple((value, f"{value:.6g}") for value in values)
