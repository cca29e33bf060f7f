"""tasks.lib.measure.agreement: the verdict over all answers, tolerances, and answers through REST."""

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
)
from tasks.lib.measure.tolerance import Tolerance, Tolerances, parse
from tests.helpers.agreements import CLASSES, INF, LIMIT, PROBABILITIES, Pairs
from tests.helpers.answers import scored
from tests.helpers.scripted import answer as http_answer
from tests.helpers.scripted import say, serving

RESNET = Signature(
    "serving_default", (Tensor("image_bytes", "DT_STRING", (None,)),), (CLASSES, PROBABILITIES)
)
SINGLE = Signature("serving_default", (), (Tensor("y", "DT_FLOAT", (None, 3)),))


def within(a: Any, b: Any, tolerances: Tolerances, scores: str | None = None) -> Agreement:
    """A single output "y" of a single pair of answers, held against tolerances."""
    return compare_answers([({"y": a}, {"y": b})], scores, tolerances)


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


def answered(scores: list[float], **others: Any) -> dict[str, Any]:
    """An answer of one row whose first class is in `classes`."""
    first = max(range(len(scores)), key=scores.__getitem__)
    return {"probabilities": [scores], "classes": [first], **others}


NEAR = answered([0.40, 0.36, 0.24]), answered([0.37, 0.39, 0.24])


def test_a_near_tie_is_the_same_and_counted_by_itself() -> None:
    same = answered([0.9, 0.1, 0.0])
    found = compare_answers([(same, same), NEAR], "probabilities", LIMIT)
    assert (found.inputs, found.same, found.near_ties, found.holds) == (2, 1, 1, True)
    assert found.percent == "1 same, 1 near tie"
    assert {output.name: (output.same, output.near_ties) for output in found.outputs} == {
        "classes": (1, 1),
        "probabilities": (1, 1),
    }
    assert compare_answers([NEAR] * 2, "probabilities", LIMIT).percent == "0 same, 2 near ties"


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (answered([0.44, 0.36, 0.20]), answered([0.39, 0.41, 0.20])),  # the baseline is sure
        (answered([0.39, 0.37, 0.24]), answered([0.35, 0.41, 0.24])),  # the candidate is sure
        (NEAR[0], NEAR[1] | {"classes": [2]}),  # it names a third class
        (NEAR[0], {"probabilities": NEAR[1]["probabilities"]}),
        (NEAR[0] | {"name": ["cat"]}, NEAR[1] | {"name": ["dog"]}),  # text says nothing about scores
        (NEAR[0] | {"count": [3]}, NEAR[1] | {"count": [4]}),
        ({"probabilities": [[0.4, 0.36]]}, {"probabilities": [[0.37, 0.39, 0.24]]}),
        ({"probabilities": [[math.nan, 0.36]]}, {"probabilities": [[0.36, math.nan]]}),
    ],
)
def test_what_is_no_near_tie_is_different(a: dict[str, Any], b: dict[str, Any]) -> None:
    found = compare_answers([(a, b)], "probabilities", LIMIT)
    assert (found.same, found.near_ties, found.holds) == (0, 0, False)


def test_every_row_of_a_near_tie_is_near() -> None:
    def rows(*scores: list[float]) -> dict[str, Any]:
        return {"probabilities": list(scores)}

    sure = [0.1, 0.9]
    assert compare_answers(
        [(rows([0.51, 0.49], sure), rows([0.49, 0.51], sure))], "probabilities", LIMIT
    ).holds
    other = rows([0.49, 0.51], [0.9, 0.1])
    assert not compare_answers([(rows([0.51, 0.49], sure), other)], "probabilities", LIMIT).holds


def test_a_near_tie_needs_a_limit_that_allows_it() -> None:
    assert not compare_answers([NEAR], "probabilities", Tolerances(0.0005)).holds


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
