"""embedded_server.proving.compare.is_near_tie: two classes whose scores differ by no more than is allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from embedded_server.proving.breaking import Request
from embedded_server.proving.compare import Scales, is_near_tie

PHOTOS = Request("photos", {"image": np.array([b"jpeg"], object)}, "photos", True, 1)
PROBABILITIES = Scales(frozenset({"scores"}), {("photos", "scores"): 1.0})
LOGITS = Scales(frozenset(), {("photos", "scores"): 10.0})


def answered(*scores: list[float], **others: Any) -> dict[str, np.ndarray]:
    rows = np.array(scores, np.float32)
    return {"class": rows.argmax(-1), "scores": rows, **others}


def tie(
    expected: dict[str, np.ndarray], actual: dict[str, np.ndarray], scales: Scales = PROBABILITIES
) -> bool:
    return is_near_tie(PHOTOS, expected, actual, "class", scales, 0.05)


NEAR = answered([0.40, 0.36, 0.24]), answered([0.37, 0.39, 0.24])
SURE = [0.1, 0.9, 0.0]


def test_two_classes_whose_scores_are_near_in_both_answers() -> None:
    assert tie(*NEAR)
    assert tie(answered(SURE, [0.40, 0.36, 0.24]), answered(SURE, [0.37, 0.39, 0.24]))
    # Of other numbers the limit is a part of the largest.
    assert tie(answered([10.0, 9.6, 0.0]), answered([9.8, 9.9, 0.0]), LOGITS)


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (answered([0.44, 0.36, 0.20]), answered([0.39, 0.41, 0.20])),
        (answered([0.39, 0.37, 0.24]), answered([0.35, 0.41, 0.24])),
        (NEAR[0], NEAR[1] | {"class": np.array([2])}),
        (NEAR[0] | {"class": np.array([7])}, NEAR[1]),
        (answered([0.40, 0.36, 0.24], SURE), answered([0.37, 0.39, 0.24], [0.9, 0.1, 0.0])),
        (NEAR[0], NEAR[1] | {"scores": np.ones((1, 2), np.float32)}),
        ({"class": np.array([0])}, {"class": np.array([1])}),
        (NEAR[0] | {"class": np.array([b"cat"], object)}, NEAR[1] | {"class": np.array([b"dog"], object)}),
        (answered([np.nan, 0.36]), answered([0.36, np.nan])),
    ],
)
def test_what_is_no_near_tie(expected: dict[str, np.ndarray], actual: dict[str, np.ndarray]) -> None:
    assert not tie(expected, actual)
    assert not tie(answered([10.0, 9.0, 0.0]), answered([9.8, 9.9, 0.0]), LOGITS)
