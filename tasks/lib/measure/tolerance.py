"""How far the numbers of two answers may be apart, output by output.

As in numpy.allclose, with the baseline's answer as what is right: a number b is near enough to a if
|a - b| <= absolute + relative * |a|.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tasks.lib.common.errors import SettingError
from tasks.lib.common.values import number

EVERY = ""
"""Means all outputs that are not named."""


@dataclass(frozen=True)
class Tolerance:
    """Of one output."""

    absolute: float
    relative: float = 0.0

    def __str__(self) -> str:
        """0.001 + 0.01|a|"""
        parts = [f"{self.absolute:.3g}"] if self.absolute or not self.relative else []
        return " + ".join([*parts, f"{self.relative:.3g}|a|"] if self.relative else parts)


@dataclass(frozen=True)
class Tolerances:
    """Of all outputs of a model: what a precision allows, or what a person asks for instead."""

    limit: float
    """What the precision allows: absolute for probabilities, for others in parts of the largest number."""
    absolute: Mapping[str, float] = field(default_factory=dict)
    """By output, or for EVERY one."""
    relative: Mapping[str, float] = field(default_factory=dict)

    def of(self, output: str, unit: float) -> Tolerance:
        """That of one output, whose differences count in `unit` if the user did not ask for anything else.

        Where only one of the two was asked for, the other is 0.
        """
        absolute, relative = (table.get(output, table.get(EVERY)) for table in (self.absolute, self.relative))
        if absolute is None and relative is None:
            return Tolerance(self.limit * unit)
        return Tolerance(absolute or 0.0, relative or 0.0)

    def check(self, outputs: Iterable[str]) -> None:
        """Raises SettingError if a tolerance is asked for an output that is not among these."""
        known = sorted(outputs)
        for name in (*self.absolute, *self.relative):
            if name != EVERY and name not in known:
                raise SettingError(
                    f"A tolerance names the output {name!r}, which the model does not have.",
                    f"Its outputs are: {', '.join(known)}.",
                )


def parse(texts: Sequence[str], flag: str) -> dict[str, float]:
    """NUMBER or OUTPUT=NUMBER, each given with `flag` -> numbers by output. Raises SettingError."""
    limits: dict[str, float] = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        limits[name.strip() or EVERY] = number(value, flag)
    return limits
