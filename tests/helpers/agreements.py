"""Answers to compare, and their signatures."""

from __future__ import annotations

import math
from typing import Any

from tasks.lib.client.signature import Tensor
from tasks.lib.measure.agreement import (
    compare_answers,
)
from tasks.lib.measure.tolerance import Tolerances

CLASSES = Tensor("classes", "DT_INT64", (None,))
PROBABILITIES = Tensor("probabilities", "DT_FLOAT", (None, 3))
INF = math.inf
LIMIT = Tolerances(0.05)
Pairs = list[tuple[dict[str, Any], dict[str, Any]]]


def many(pairs: Pairs, scores: str | None = None) -> tuple[int, float]:
    """How many pairs of answers are the same, and their largest difference."""
    found = compare_answers(pairs, scores, LIMIT)
    return found.same, found.difference


def one(a: Any, b: Any, scores: str | None = None, name: str = "y") -> tuple[int, float]:
    """The same of a single output of a single pair of answers."""
    return many([({name: a}, {name: b})], scores)
