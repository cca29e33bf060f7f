"""Noise of simulated runs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

NOISE = 0.02
"""Standard deviation of what lingers, in the logarithm of a round's ratio."""


def lingering(
    random: np.random.Generator, runs: int, rounds: int, memory: float, white: float = 0.0
) -> np.ndarray[Any, Any]:
    """Logarithms of so many runs' ratios: noise that lingers, `white` times as much that does not."""
    levels = np.empty((runs, rounds))
    level = random.normal(0, 1, runs)
    for number in range(rounds):
        level = memory * level + math.sqrt(1 - memory**2) * random.normal(0, 1, runs)
        levels[:, number] = level
    return NOISE * (levels + white * random.normal(0, 1, (runs, rounds)))
