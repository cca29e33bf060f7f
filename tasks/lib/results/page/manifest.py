"""Everything else that result.json holds, as tables, whatever keys it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree.ElementTree import Element

from tasks.lib.results.page.figures import KINDS
from tasks.lib.results.page.markup import node, table
from tasks.lib.results.schema import Result, Run
from tasks.lib.results.words import run_name, sides_of

DRAWN = {"blocks", "histogram", "round_ratios", "control_ratios", "notes", "sentence"}
"""Keys whose content is elsewhere on the page, as charts or sentences."""
NOTHING = "-"


def tables(content: Result) -> Iterator[Element]:
    """The benchmark's own: a table of its plain values, and one of each part that has several."""
    parts = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    elsewhere = {*parts, "runs", "repetitions"}
    plain = {key: value for key, value in content.items() if key not in elsewhere}
    for title, part in ({"benchmark": plain} | parts).items():
        yield _listed(title, part)


def tables_of(run: Run, content: Result) -> Iterator[Element]:
    """A run's: its contestants side by side, what holds for both, and figures and outputs likewise."""
    title = run_name(run, content)
    sides = sides_of(run)
    yield _beside(f"{title}: contestants", dict(zip(KINDS[-len(sides) :], sides, strict=True)))
    verdict: dict[str, Any] = dict(run["verdict"] or {})
    agreement: dict[str, Any] = dict(verdict.pop("agreement", {}))
    outputs = agreement.pop("outputs", [])
    figures = {figure: part for figure, part in verdict.pop("comparisons", {}).items() if part is not None}
    both = {key: value for key, value in run.items() if key not in ("verdict", "alone")}
    both |= {key: value for key, value in verdict.items() if key not in KINDS}
    yield _listed(f"{title}: run", both | ({"agreement": agreement} if agreement else {}))
    if figures:
        yield _beside(f"{title}: comparisons", figures)
    if outputs:
        yield _beside(f"{title}: agreement, output by output", {part["name"]: part for part in outputs})


def flat(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """What a mapping holds as rows; keys inside others are joined by a dot."""
    for key, one in value.items():
        place = f"{above}{key}"
        if key in DRAWN:
            continue
        if isinstance(one, Mapping) and one:
            yield from flat(one, f"{place}.")
        elif isinstance(one, list) and any(isinstance(each, Mapping) for each in one):
            yield from flat({str(number): each for number, each in enumerate(one)}, f"{place}.")
        else:
            yield place, _written(one)


def _listed(title: str, part: Mapping[str, Any]) -> Element:
    return _table(title, ["key", "value"], [[key, text] for key, text in flat(part)])


def _beside(title: str, parts: Mapping[str, Mapping[str, Any]]) -> Element:
    """A column for each part, and a row for each key that any of them has."""
    columns = [dict(flat(part)) for part in parts.values()]
    keys = dict.fromkeys(key for column in columns for key in column)
    return _table(
        title, ["", *parts], [[key, *(column.get(key, NOTHING) for column in columns)] for key in keys]
    )


def _table(title: str, heading: list[str], rows: list[list[str]]) -> Element:
    kind = "manifest plain" if heading[0] else "manifest"
    return node("div", table(heading, rows, title, numbers_from=len(heading)), class_=kind)


def _written(value: Any) -> str:
    if value is None or value in ("", {}, []):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ("; " if any(isinstance(item, list) for item in value) else ", ").join(map(_written, value))
    return str(value)
