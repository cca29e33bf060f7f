"""tasks.lib.measure.agreement: what counts as the same answer, and what does not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.lib.client.signature import Signature, Tensor
from tasks.lib.measure.agreement import (
    scores_output,
)
from tests.helpers.agreements import CLASSES, INF, PROBABILITIES, many, one


@pytest.mark.parametrize(
    ("outputs", "chosen"),
    [
        ([CLASSES, PROBABILITIES], "probabilities"),
        ([Tensor("output_0", "DT_FLOAT", (None, 10))], "output_0"),
        ([Tensor("output_0", "DT_HALF", (None, None))], "output_0"),
        ([Tensor("logits", "DT_FLOAT", (None, 9)), Tensor("scores", "DT_FLOAT", (None, 9))], "scores"),
        ([Tensor("logits", "DT_FLOAT", (None, 9)), Tensor("softmax", "DT_FLOAT", (None, 9))], "softmax"),
        ([Tensor("a", "DT_FLOAT", (None, 9)), Tensor("b", "DT_FLOAT", (None, 9))], None),
        ([Tensor("price", "DT_FLOAT", (None, 1))], None),
        ([Tensor("price", "DT_FLOAT", (None,))], None),
        ([Tensor("mask", "DT_FLOAT", (None, 8, 8))], None),
        ([Tensor("anything", "DT_FLOAT", None)], None),
        ([Tensor("probabilities", "DT_INT64", (None, 3))], None),
        ([Tensor("scores", "DT_FLOAT", (None, 1)), Tensor("other", "DT_FLOAT", (None, 5))], "other"),
        ([], None),
    ],
)
def test_the_output_with_a_score_for_each_class(outputs: list[Tensor], chosen: str | None) -> None:
    found = scores_output(Signature("serving_default", (), tuple(outputs)))
    assert (found.name if found else None) == chosen


def test_equal_answers_agree() -> None:
    assert one([0.1, 0.7, 0.2], [0.1, 0.7, 0.2], "y") == (1, 0.0)


def test_the_difference_of_probabilities_is_absolute() -> None:
    same, difference = one([0.1, 0.7, 0.2], [0.1, 0.68, 0.22], "y")
    assert same == 1
    assert difference == pytest.approx(0.02)


def test_another_first_class_is_not_the_same_however_small_the_difference() -> None:
    same, difference = one([0.5, 0.4999], [0.4999, 0.5], "y")
    assert same == 0
    assert difference == pytest.approx(0.0001)


def test_scores_above_1_are_compared_by_their_size() -> None:
    same, difference = one([-20.0, 10.0], [-20.0, 9.8], "y")
    assert same == 1
    assert difference == pytest.approx(0.2 / 20)


def test_only_scores_name_a_class() -> None:
    assert one([0.5, 0.4999], [0.4999, 0.5], None)[0] == 1


def test_the_difference_of_other_numbers_is_relative_to_the_largest() -> None:
    assert one([100.0, 2.0], [101.0, 2.0])[1] == pytest.approx(0.01)
    assert one([0.01, 0.002], [0.011, 0.002])[1] == pytest.approx(0.1)  # small outputs are not forgiven
    assert one(-4.0, -5.0)[1] == pytest.approx(0.25)


def test_it_is_relative_over_all_answers() -> None:
    """A value that happens to be near zero must not make a small difference look large."""
    pairs = [({"y": 0.001}, {"y": 0.002}), ({"y": 10.0}, {"y": 10.0})]
    assert many(pairs) == (2, pytest.approx(0.0001))
    assert many(pairs[::-1]) == (2, pytest.approx(0.0001))


def test_each_output_has_a_size_of_its_own() -> None:
    pairs = [({"big": 1000.0, "small": 0.1}, {"big": 1000.0, "small": 0.2})]
    assert many(pairs)[1] == pytest.approx(1.0)


def test_where_the_baseline_is_zero_the_difference_is_absolute() -> None:
    assert one([0.0, 0.0], [0.0, 0.003])[1] == pytest.approx(0.003)


def test_the_worst_of_all_outputs_and_answers_counts() -> None:
    pairs = [
        ({"classes": 1, "scores": [0.2, 0.8]}, {"classes": 1, "scores": [0.2, 0.8]}),
        ({"classes": 0, "scores": [0.6, 0.4]}, {"classes": 0, "scores": [0.5, 0.5]}),
        ({"classes": 0, "scores": [0.9, 0.1]}, {"classes": 1, "scores": [0.8, 0.2]}),
    ]
    same, difference = many(pairs, "scores")
    assert same == 2  # the classes of the third differ, though its scores do not
    assert difference == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("a", "b", "difference"),
    [
        ([math.nan, 1.0], [math.nan, 1.0], 0.0),
        ([math.nan, 1.0], [0.5, 1.0], INF),
        ([0.5, 1.0], [math.nan, 1.0], INF),
        ([INF, 1.0], [INF, 1.0], 0.0),
        ([-INF, 1.0], [-INF, 1.5], 0.5),
        ([INF, 1.0], [-INF, 1.0], INF),
        ([INF, 1.0], [2.0, 1.0], INF),
        ([1.0, 2.0], [1.0, INF], INF),
        ([None, 1.0], [math.nan, 1.0], 0.0),  # null is how some servers write NaN
        (math.nan, math.nan, 0.0),
        (math.nan, 1.0, INF),
        ([math.nan] * 3, [math.nan] * 3, 0.0),
    ],
)
def test_not_a_number_is_equal_only_to_itself(a: Any, b: Any, difference: float) -> None:
    assert one(a, b)[1] == pytest.approx(difference)


def test_scores_of_which_one_is_not_a_number_do_not_agree() -> None:
    same, difference = one([0.1, 0.9], [math.nan, 0.9], "y")
    assert (same, difference) == (0, INF)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (3, 3, 1),
        (3, 4, 0),
        ([3, 5], [3, 5], 1),
        ([3, 5], [5, 3], 0),
        ("cat", "cat", 1),
        ("cat", "dog", 0),
        (["cat", "dog"], ["cat"], 0),
        (True, True, 1),
        (True, False, 0),
        ({"b64": "AA=="}, {"b64": "AA=="}, 1),
        ({"b64": "AA=="}, {"b64": "AQ=="}, 0),
        ([], [], 1),
        (None, None, 1),
        (3, "3", 0),
    ],
)
def test_whole_numbers_and_text_are_equal_or_not(a: Any, b: Any, same: int) -> None:
    assert one(a, b) == (same, 0.0)
    assert one(b, a) == (same, 0.0)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([0.1, 0.2], [0.1, 0.2, 0.3]),
        ([0.1, 0.2], [[0.1, 0.2]]),
        ([0.1, 0.2], 0.1),
        ([0.1, 0.2], "text"),
        ([0.1, 0.2], ["cat", "dog"]),
        ([0.1, 0.2], {"b64": "AA=="}),
        ([0.1, 0.2], None),
        ([0.1, 0.2], [[0.1], 0.2]),
        ([0.1, 0.2], []),
        ([0.1, 0.2], [0.1, "x"]),
        ([0.1, 0.2], [0.1, 10**400]),
    ],
)
@pytest.mark.parametrize("scores", ["y", None])
def test_another_shape_or_kind_is_not_the_same(a: Any, b: Any, scores: str | None) -> None:
    assert one(a, b, scores) == (0, INF)
    assert one(b, a, scores) == (0, INF)


def test_numbers_are_numbers_however_they_are_written() -> None:
    assert one([1, 0], [1.0, 0.0], "y") == (1, 0.0)


@pytest.mark.parametrize(("a", "b"), [({"x": 1.0}, {}), ({}, {"x": 1.0}), ({"x": 1}, {"z": 1})])
def test_a_missing_output_is_not_the_same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert many([(a | {"y": 1.0}, b | {"y": 1.0})]) == (0, INF)


def test_one_bad_answer_among_good_ones_is_not_forgotten() -> None:
    good = ({"y": [1.0, 2.0]}, {"y": [1.0, 2.0]})
    bad = ({"y": [1.0, 2.0]}, {"y": [1.0]})
    for pairs in ([bad, good], [good, bad], [good, bad, good]):
        assert many(pairs, "y") == (len(pairs) - 1, INF)


@given(st.lists(st.floats(allow_infinity=True, allow_nan=True, width=32), min_size=1, max_size=8))
def test_any_answer_agrees_with_itself(values: list[float]) -> None:
    assert one(values, list(values), "y") == (1, 0.0)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8),
)
def test_probabilities_differ_by_their_largest_distance(pairs: list[tuple[float, float]]) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    same, difference = one(a, b, "y")
    assert difference == pytest.approx(max(abs(x - y) for x, y in pairs))
    assert same == (np.argmax(a) == np.argmax(b))
