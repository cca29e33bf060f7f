"""What a comparison of answers came to, for tests of what is done with it."""

from __future__ import annotations

from tasks.lib.measure.agreement import Agreement, Numbers, Output
from tasks.lib.measure.tolerance import Tolerance


def scored(same: int, difference: float, inputs: int = 12) -> Agreement:
    """Probabilities "p" that differ by so much, where 0.05 is allowed."""
    numbers = Numbers(difference, difference, True, Tolerance(0.05), difference, 0.05)
    return Agreement(inputs, same, (Output("p", True, same, numbers),))
