"""tasks.lib.results.schema: result.json is what its types, its JSON Schema and its documentation say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.helpers.records import ALONE, DONE, NOT_COMPARABLE, over, saved
from tests.helpers.result_schema import keys, result_schema

ROOT = Path(__file__).resolve().parents[3]
PUBLISHED = ROOT / "docs" / "result.schema.json"
DOCUMENTED = ROOT / "docs" / "result.md"


@pytest.fixture(scope="module")
def validator() -> Any:
    published = json.loads(PUBLISHED.read_text())
    jsonschema.Draft202012Validator.check_schema(published)
    return jsonschema.Draft202012Validator(published)


def test_the_published_schema_is_made_from_the_types() -> None:
    """python tests/helpers/result_schema.py > docs/result.schema.json"""
    assert json.loads(PUBLISHED.read_text()) == result_schema()


@pytest.mark.parametrize(
    "records",
    [(DONE,), (ALONE,), (NOT_COMPARABLE,), (over(1), over(4)), (over(64, rate=20.0),)],
    ids=["compared", "alone", "different", "swept", "open loop"],
)
def test_results_are_valid(validator: Any, records: Any) -> None:
    validator.validate(saved(*records))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("machine", "cores"), "two"),
        (("runs", 0, "verdict", "rounds"), None),
        (("runs", 0, "verdict", "agreement", "more"), 1),
        (("plan", "seed"), None),
    ],
)
def test_others_are_not(validator: Any, place: tuple[Any, ...], value: Any) -> None:
    content = saved(DONE)
    part: Any = content
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    assert not validator.is_valid(content)


def test_every_key_is_documented() -> None:
    told = set(re.findall(r"`([a-z_0-9]+)(?:\.[a-z_]+)?`", DOCUMENTED.read_text()))
    assert keys() - told == set()


def test_every_documented_key_exists() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \|", DOCUMENTED.read_text(), re.MULTILINE)
    named = {key for row in rows for key in re.findall(r"`([a-z_0-9]+)`", row)}
    assert len(named) > 15
    assert named - keys() == set()
