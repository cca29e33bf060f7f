"""tasks.lib.predict.answers: what is shown of an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.lib.client.inputs import Sample
from tasks.lib.client.signature import Signature, Tensor
from tasks.lib.predict import answers
from tasks.lib.predict.answers import Answered

SCORES = Tensor("probabilities", "DT_FLOAT", (None, 3))
NAMES = Tensor("names", "DT_STRING", (None, 3))
NAME = Tensor("name", "DT_STRING", (None,))


def signature(*outputs: Tensor) -> Signature:
    return Signature("serving_default", (), outputs)


def answered(outputs: dict[str, Any], rows: int | None = 1) -> Answered:
    body = {"inputs": 1} if rows is None else {"instances": [0] * rows}
    return Answered(Sample("line-1", json.dumps(body).encode()), outputs)


def names(rows: list[answers.Row] | None) -> list[object]:
    assert rows is not None
    return [row["name"] for row in rows]


def test_the_best_classes_with_their_labels() -> None:
    one = answered({"probabilities": [[0.1, 0.7, 0.2]]})
    rows = answers.best_classes([one], signature(SCORES), ["a", "b"], 2, "photo")
    assert rows == [
        {"photo": "line-1", "class": "1", "name": "b", "probability": "0.7000"},
        {"photo": "line-1", "class": "2", "name": "-", "probability": "0.2000"},
    ]


def test_names_of_the_model_itself_come_first() -> None:
    one = answered({"probabilities": [[0.1, 0.7, 0.2]], "names": [["x", "y", "z"]]})
    assert names(answers.best_classes([one], signature(SCORES, NAMES), ["a"], 3, "photo")) == ["y", "z", "x"]


def test_one_name_is_that_of_the_best_class() -> None:
    for given in ("y", ["y"]):
        one = answered({"probabilities": [[0.1, 0.7, 0.2]], "name": [given]})
        found = answers.best_classes([one], signature(SCORES, NAME), ["a", "b", "c"], 2, "photo")
        assert names(found) == ["y", "c"]


def test_several_rows_are_numbered() -> None:
    one = answered({"probabilities": [[0.6, 0.4], [0.1, 0.9]]}, rows=2)
    rows = answers.best_classes([one], signature(SCORES), [], 1, "request")
    assert rows is not None
    assert [(row["row"], row["class"]) for row in rows] == [("1", "0"), ("2", "1")]


def test_scores_beyond_1_are_no_probabilities() -> None:
    one = answered({"probabilities": [[3.0, -1.0]]})
    rows = answers.best_classes([one], signature(SCORES), [], 1, "photo")
    assert rows == [{"photo": "line-1", "class": "0", "name": "-", "score": "3.0000"}]


def test_numbers_that_are_no_scores_have_no_classes() -> None:
    embedding = Tensor("embedding", "DT_FLOAT", (None, 2))
    one = answered({"embedding": [[3.0, -1.0]]})
    assert answers.best_classes([one], signature(embedding), [], 1, "photo") is None
    assert answers.best_classes([one], signature(NAME), [], 1, "photo") is None


def test_each_output_is_a_column_and_each_row_a_row() -> None:
    one = answered({"a": [1.0, 2.5], "b": [["x"], ["y"]]}, rows=2)
    assert answers.table([one]) == [
        {"request": "line-1", "row": "1", "a": "1", "b": "x"},
        {"request": "line-1", "row": "2", "a": "2.5", "b": "y"},
    ]


def test_a_request_in_column_form_is_one_row() -> None:
    assert answers.table([answered({"boxes": [[0.5, 1.0]], "count": 1}, rows=None)]) == [
        {"request": "line-1", "boxes": "(1 x 2) 0.5 1", "count": "1"}
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456789, "0.12346"),
        (3, "3"),
        (True, "true"),
        ("text", "text"),
        ([0.5, 1.0], "0.5 1"),
        ([], "(0)"),
        ([[1, 2], [3, 4]], "(2 x 2) 1 2 3 4"),
        ({"b64": "AA=="}, '{"b64": "AA=="}'),
    ],
)
def test_values_are_short(value: object, text: str) -> None:
    assert answers.shown(value) == text


def test_what_is_long_is_cut_and_says_how_much_there_is() -> None:
    text = answers.shown([1.5] * 1000)
    assert text.startswith("(1000) 1.5 1.5")
    assert text.endswith(" ...")
    assert len(text) <= answers.MOST_SHOWN
    assert len(answers.shown("x" * 1000)) == answers.MOST_SHOWN


def test_json_has_everything() -> None:
    told = json.loads(answers.as_json([answered({"a": [[float(n) for n in range(100)]]})]))
    assert told == [{"request": "line-1", "answer": {"a": [[float(n) for n in range(100)]]}}]
