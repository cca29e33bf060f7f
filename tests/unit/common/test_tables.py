"""tasks.lib.common.tables: tables, each read back as its readers read it."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.lib.common.errors import SettingError
from tasks.lib.common.tables import FORMATS, check_format, render

ROWS: list[dict[str, object]] = [
    {"variant": "stock", "p50 ms": "31.2", "max |dp|": "-", "n": 3},
    {"variant": "optimized", "p50 ms": "9.0", "max |dp|": "0.009", "n": None},
]


def cells(line: str) -> list[str]:
    """A line of a GitHub table, cut at the bars that are not escaped."""
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_text_is_aligned_numbers_right_and_names_left() -> None:
    assert render(ROWS).splitlines() == [
        "variant    p50 ms  max |dp|  n",
        "stock        31.2         -  3",
        "optimized     9.0     0.009  -",
    ]


def test_figures_are_printed_as_they_are() -> None:
    rows = [
        {"a": "1.50", "b": "007", "c": "1e3", "d": "+1"},
        {"a": "2.00", "b": "010", "c": "12345678901234567890", "d": "-"},
    ]
    assert render(rows).split() == ["a", "b", "c", "d", *rows[0].values(), *rows[1].values()]


def test_markdown_is_a_table_on_github() -> None:
    heading, rule, *lines = render(ROWS, "markdown").splitlines()
    assert cells(heading) == ["variant", "p50 ms", "max |dp|", "n"]
    assert all(re.fullmatch(r":?-+:?", cell) for cell in cells(rule))
    assert cells(rule)[1].endswith(":")  # numbers to the right
    assert [cells(line) for line in lines] == [
        ["stock", "31.2", "-", "3"],
        ["optimized", "9.0", "0.009", "-"],
    ]


def test_bars_within_cells_do_not_break_a_markdown_table() -> None:
    heading, rule, line = render([{"a|b": "x|y", "c": "z"}], "markdown").splitlines()
    assert len(cells(heading)) == len(cells(rule)) == len(cells(line)) == 2
    assert cells(line) == ["x|y", "z"]


def test_csv_is_read_back() -> None:
    assert list(csv.DictReader(io.StringIO(render(ROWS, "csv")))) == [
        {"variant": "stock", "p50 ms": "31.2", "max |dp|": "-", "n": "3"},
        {"variant": "optimized", "p50 ms": "9.0", "max |dp|": "0.009", "n": "-"},
    ]


TEXT = st.text(st.characters(exclude_characters="\r"), max_size=10)


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4))
def test_csv_holds_any_text(pairs: list[tuple[str, str]]) -> None:
    written = render([{"a": a, "b": b, "end": "x"} for a, b in pairs], "csv")
    read = list(csv.reader(io.StringIO(written, newline="")))
    assert read == [["a", "b", "end"], *([a, b, "x"] for a, b in pairs)]


def test_json_keeps_numbers_and_nothing() -> None:
    assert json.loads(render(ROWS, "json")) == ROWS


@pytest.mark.parametrize(("format", "empty"), [("text", ""), ("markdown", ""), ("csv", ""), ("json", "[]")])
def test_no_rows_are_an_empty_table(format: str, empty: str) -> None:
    assert render([], format) == empty


def test_columns_are_those_of_the_first_row() -> None:
    assert list(csv.reader([*render([{"b": 1, "a": 2}, {"a": 4, "b": 3}], "csv").splitlines()])) == [
        ["b", "a"],
        ["1", "2"],
        ["3", "4"],
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_one(name: str) -> None:
    assert check_format(name) == name
    assert "stock" in render(ROWS, name)


@pytest.mark.parametrize("name", ["", "JSON", "html", "yaml"])
def test_any_other_is_told(name: str) -> None:
    for ask in (check_format, lambda name: render(ROWS, name)):
        with pytest.raises(SettingError) as told:
            ask(name)
        assert told.value.problem == f"There is no format {name!r}."
        assert told.value.remedy == "Choose one of: text, markdown, csv, json."
