"""tasks.lib.measure.agreement: what counts as the same answer, and what does not."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.lib.client.inputs import Sample
from tasks.lib.client.rest import Client
from tasks.lib.client.signature import Signature, Tensor
from tasks.lib.common.errors import RequestRefused, ServerError, SettingError
from tasks.lib.measure.agreement import (
    Agreement,
    answer,
    compare,
    compare_answers,
    exchangeable,
    scores_output,
)
from tasks.lib.measure.tolerance import Tolerance, Tolerances, parse
from tests.helpers.answers import scored
from tests.helpers.scripted import answer as http_answer
from tests.helpers.scripted import say, serving

CLASSES = Tensor("classes", "DT_INT64", (None,))
PROBABILITIES = Tensor("probabilities", "DT_FLOAT", (None, 3))
RESNET = Signature(
    "serving_default", (Tensor("image_bytes", "DT_STRING", (None,)),), (CLASSES, PROBABILITIES)
)
SINGLE = Signature("serving_default", (), (Tensor("y", "DT_FLOAT", (None, 3)),))
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


def within(a: Any, b: Any, tolerances: Tolerances, scores: str | None = None) -> Agreement:
    """A single output "y" of a single pair of answers, held against tolerances."""
    return compare_answers([({"y": a}, {"y": b})], scores, tolerances)


# Which output scores classes


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


# Scores


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


# Other numbers


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


# Not a number


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


# Whole numbers, text, and other things


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


# The verdict over all answers


@pytest.mark.parametrize(
    ("same", "difference", "problem"),
    [
        (12, 0.01, ""),
        (12, 0.05, ""),
        (12, 0.0501, "'p' differs by 0.0501, and 0.05 is allowed"),
        (12, 0.3, "'p' differs by 0.3, and 0.05 is allowed"),
        (11, 0.0, "1 of 12 answers have another top-1 in 'p'"),
        (0, INF, "12 of 12 answers have another top-1 in 'p'"),
        (12, INF, "'p' differs by inf, and 0.05 is allowed"),
    ],
)
def test_it_holds_if_all_are_the_same_within_the_limit(same: int, difference: float, problem: str) -> None:
    found = scored(same, difference)
    assert found.holds is not bool(problem)
    assert found.problem == problem


def test_only_all_of_them_are_100_percent() -> None:
    assert scored(199, 0.0, 200).percent == "99%"
    assert scored(200, 0.0, 200).percent == "100%"


# Output by output


def test_each_output_has_figures_of_its_own() -> None:
    pairs: Pairs = [
        (
            {"classes": 1, "p": [0.2, 0.8], "x": [10.0, 1.0]},
            {"classes": 1, "p": [0.3, 0.7], "x": [10.5, 1.0]},
        ),
        (
            {"classes": 0, "p": [0.6, 0.4], "x": [20.0, 1.0]},
            {"classes": 1, "p": [0.4, 0.6], "x": [20.0, 1.0]},
        ),
    ]
    found = compare_answers(pairs, "p", LIMIT)
    classes, p, x = found.outputs
    assert [one.name for one in found.outputs] == ["classes", "p", "x"]
    assert (classes.same, classes.numbers) == (1, None)
    assert p.numbers is not None
    assert x.numbers is not None
    assert (p.same, p.is_scores, p.numbers.is_probability) == (1, True, True)
    assert p.numbers.absolute == pytest.approx(0.2)
    assert p.numbers.relative == pytest.approx(0.2 / 0.8)
    assert p.numbers.difference == p.numbers.absolute
    assert (x.same, x.is_scores, x.numbers.is_probability) == (2, False, False)
    assert x.numbers.absolute == pytest.approx(0.5)
    assert x.numbers.relative == x.numbers.difference == pytest.approx(0.5 / 20)
    assert x.numbers.tolerance == Tolerance(0.05 * 20)
    assert found.same == 1
    assert found.problem == (
        "1 of 2 answers have another value of 'classes'; 1 of 2 answers have another top-1 in 'p'"
    )


def test_an_output_that_one_of_them_lacks_is_named() -> None:
    found = compare_answers([({"y": 1.0}, {"y": 1.0, "z": 2.0})], None, LIMIT)
    assert found.problem == "1 of 1 answers have another shape of 'z'"


# Tolerances


def test_what_a_person_asks_for_stands_instead_of_what_a_precision_allows() -> None:
    a, b = [100.0, 1.0], [100.0, 1.5]
    assert within(a, b, LIMIT).holds, "0.5 is little compared with 100"
    assert within(a, b, Tolerances(0.05, absolute={"": 0.5})).holds
    found = within(a, b, Tolerances(0.05, absolute={"": 0.4}))
    assert found.problem == "'y' differs by 0.5, and 0.4 is allowed"


def test_a_relative_tolerance_is_of_each_number() -> None:
    a, b = [100.0, 1.0], [104.0, 1.02]
    assert within(a, b, Tolerances(0, relative={"": 0.05})).holds
    found = within(a, [104.0, 1.2], Tolerances(0, relative={"": 0.05}))
    assert found.problem == "'y' differs by 0.2, and 0.05 (0.05|a|) is allowed", "though 4 elsewhere may be"
    assert within(a, [104.0, 1.2], Tolerances(0, absolute={"": 0.2}, relative={"": 0.05})).holds


def test_the_tolerance_of_a_named_output_goes_before_that_of_all() -> None:
    both = Tolerances(0.05, absolute={"": 1.0, "y": 0.1})
    assert not within([1.0], [1.5], both).holds
    assert compare_answers([({"z": 1.0}, {"z": 1.5})], None, both).holds


@given(
    st.lists(st.tuples(st.floats(width=32), st.floats(width=32)), min_size=1, max_size=6),
    st.floats(0, 10),
    st.floats(0, 1),
)
def test_it_is_what_numpy_calls_close(
    pairs: list[tuple[float, float]], absolute: float, relative: float
) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    found = within(a, b, Tolerances(0, absolute={"y": absolute}, relative={"y": relative}))
    with np.errstate(over="ignore", invalid="ignore"):
        assert found.holds == np.allclose(b, a, atol=absolute, rtol=relative, equal_nan=True)


def test_tolerances_are_read_by_output() -> None:
    assert parse(["0.01", "logits=1e-3", "a=b=2"], "--rtol") == {"": 0.01, "logits": 0.001, "a=b": 2.0}
    assert parse([], "--rtol") == {}
    for wrong in ("x=", "x=-1", "much", "nan", ""):
        with pytest.raises(SettingError, match="--rtol"):
            parse([wrong], "--rtol")


def test_a_tolerance_of_an_output_that_is_not_there_is_told() -> None:
    tolerances = Tolerances(0.05, {"": 1.0, "y": 1.0}, {"logits": 1.0})
    tolerances.check(["y", "logits"])
    with pytest.raises(SettingError, match="names the output 'logits', which the model does not have"):
        tolerances.check(["y", "z"])


# Through REST


ONE_ROW = b'{"instances": [1]}'


def client_of(*predictions: Any) -> Any:
    """A server that answers each predict with the next of these."""
    bodies = [json.dumps({"predictions": [each]}).encode() for each in predictions]
    return serving(*(say(http_answer(body)) for body in bodies))


def test_a_single_output_has_no_name_in_the_answer() -> None:
    with client_of([0.1, 0.2, 0.7]) as server:
        assert answer(Client(server.url), SINGLE, ONE_ROW) == {"y": [[0.1, 0.2, 0.7]]}


def test_several_outputs_have_theirs() -> None:
    with client_of({"classes": 2, "probabilities": [0.1, 0.2, 0.7]}) as server:
        found = answer(Client(server.url), RESNET, ONE_ROW)
    assert found == {"classes": [2], "probabilities": [[0.1, 0.2, 0.7]]}


def test_several_rows_and_whole_outputs() -> None:
    rows = b'{"predictions": [[0.1, 0.9], [0.8, 0.2]]}'
    with serving(say(http_answer(rows)), say(http_answer(b'{"outputs": [[1.0], [2.0]]}'))) as server:
        client = Client(server.url)
        assert answer(client, SINGLE, b'{"instances": [1, 2]}') == {"y": [[0.1, 0.9], [0.8, 0.2]]}
        assert answer(client, SINGLE, b'{"inputs": [1, 2]}') == {"y": [[1.0], [2.0]]}
    named = b'{"outputs": {"classes": 2, "probabilities": [0.1, 0.2, 0.7]}}'
    with serving(say(http_answer(named))) as server:
        found = answer(Client(server.url), RESNET, b'{"inputs": 1}')
    assert found == {"classes": 2, "probabilities": [0.1, 0.2, 0.7]}


def test_the_first_class_of_every_row_counts() -> None:
    a, b = {"p": [[0.9, 0.1], [0.4, 0.6]]}, {"p": [[0.9, 0.1], [0.6, 0.4]]}
    assert compare_answers([(a, a)], "p", LIMIT).same == 1
    assert compare_answers([(a, b)], "p", Tolerances(1.0)).same == 0


def test_answers_that_could_be_exchanged_prove_little() -> None:
    alike = [{"p": [[0.7, 0.3 + n / 1e6]]} for n in range(4)]
    unlike = [{"p": [[0.7 - n / 10, 0.3 + n / 10]]} for n in range(4)]
    assert exchangeable(alike, "p", LIMIT) == 1.0
    assert exchangeable(unlike, "p", LIMIT) == 0.0
    assert exchangeable([alike[0], alike[1], unlike[2]], "p", LIMIT) == pytest.approx(1 / 3)
    assert exchangeable(alike[:1], "p", LIMIT) == 0.0


@pytest.mark.parametrize(
    "body",
    [
        b'{"predictions": []}',
        b'{"predictions": [1, 2]}',
        b'{"predictions": 7}',
        b'{"predictions": null}',
        b'{"outputs": [1]}',
        b'{"predictions": [[0.1, 0.2]]}',
        b'{"predictions": [0.5]}',
        b'{"predictions": ["text"]}',
    ],
)
def test_an_answer_of_another_form_is_told(body: bytes) -> None:
    with serving(say(http_answer(body))) as server, pytest.raises(ServerError, match="with one prediction"):
        answer(Client(server.url), RESNET, ONE_ROW)


SAMPLES = [Sample("a.jpg", b'{"instances": [1]}'), Sample("b.jpg", b'{"instances": [2]}')]


def test_every_sample_goes_to_both() -> None:
    first = {"classes": 2, "probabilities": [0.1, 0.2, 0.7]}
    second = {"classes": 0, "probabilities": [0.9, 0.1, 0.0]}
    other = {"classes": 0, "probabilities": [0.88, 0.12, 0.0]}
    with client_of(first, second) as baseline, client_of(first, other) as candidate:
        found = compare(Client(baseline.url), Client(candidate.url), RESNET, SAMPLES, LIMIT)
        for server in (baseline, candidate):
            assert [r.partition(b"\r\n\r\n")[2] for r in server.requests] == [s.body for s in SAMPLES]
    assert (found.inputs, found.same) == (2, 2)
    assert found.difference == pytest.approx(0.02)
    assert found.holds


def test_a_candidate_with_other_outputs_does_not_agree() -> None:
    answers = [{"classes": 2, "probabilities": [0.1, 0.2, 0.7]}] * 2
    strangers = [{"label": 2, "probabilities": [0.1, 0.2, 0.7]}] * 2
    with client_of(*answers) as baseline, client_of(*strangers) as candidate:
        found = compare(Client(baseline.url), Client(candidate.url), RESNET, SAMPLES, LIMIT)
    assert (found.same, found.holds) == (0, False)


def test_models_without_scores_are_compared_by_their_numbers() -> None:
    price = Signature("serving_default", (), (Tensor("price", "DT_FLOAT", (None, 1)),))
    with client_of([100.0], [200.0]) as baseline, client_of([100.0], [201.0]) as candidate:
        found = compare(Client(baseline.url), Client(candidate.url), price, SAMPLES, Tolerances(0.0005))
    assert found.same == 2
    assert found.difference == pytest.approx(1 / 200)
    assert not found.holds


def test_a_refusal_is_not_taken_for_an_answer() -> None:
    refuse = say(http_answer(b'{"error": "no"}', 400))
    with client_of(1, 2) as baseline, serving(refuse) as candidate, pytest.raises(RequestRefused):
        compare(Client(baseline.url), Client(candidate.url), SINGLE, SAMPLES, LIMIT)
