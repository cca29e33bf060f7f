"""What models answer, as tables: the best classes where an output scores them, else each output's values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.lib.client import inputs
from tasks.lib.client.signature import Signature
from tasks.lib.common import strict_json
from tasks.lib.measure import agreement

MOST_SHOWN = 60
"""Characters of an output's values in a table; JSON has all of them."""
_DIGITS = 5
Row = dict[str, object]


@dataclass(frozen=True)
class Answered:
    """A request and what it was answered with."""

    request: inputs.Sample
    outputs: Mapping[str, Any]
    """By name: of a request in row form lists with a value for each row, else whole outputs."""

    @property
    def rows(self) -> int | None:
        """How many; None for a request in column form."""
        return inputs.rows_of(self.request.body)


def best_classes(
    answered: Sequence[Answered], signature: Signature, labels: Sequence[str], count: int, called: str
) -> list[Row] | None:
    """The `count` best classes of each row; None if no output scores classes.

    labels: by class number; what the model itself names comes first. called: the heading of the request's
    column.
    """
    scores = agreement.scores_output(signature)
    if scores is None or not all(_has_rows(reply.outputs.get(scores.name)) for reply in answered):
        return None
    every = [value for reply in answered for row in reply.outputs[scores.name] for value in row]
    is_probability = all(0 <= value <= 1 for value in every)
    if not (is_probability or labels or scores.name in agreement.SCORE_NAMES):
        return None
    rows: list[Row] = []
    for reply in answered:
        several = len(reply.outputs[scores.name]) > 1
        for number, values in enumerate(reply.outputs[scores.name]):
            own = _own_names(reply.outputs, signature, number, len(values))
            best = sorted(range(len(values)), key=lambda index: -values[index])[:count]
            for rank, index in enumerate(best):
                name = own.get(index if rank else None) or own.get(index) or _named(labels, index)
                rows.append({
                    called: reply.request.name,
                    **({"row": str(number + 1)} if several else {}),
                    "class": str(index),
                    "name": name,
                    "probability" if is_probability else "score": f"{values[index]:.4f}",
                })  # fmt: skip
    if any("row" in row for row in rows):
        rows = [{called: row[called], "row": row.get("row", "1"), **row} for row in rows]
    return rows


def _has_rows(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(row, list) and row for row in values)


def _named(labels: Sequence[str], index: int) -> str:
    return labels[index] if index < len(labels) else "-"


def _own_names(
    outputs: Mapping[str, Any], signature: Signature, row: int, classes: int
) -> dict[int | None, str]:
    """The names that the model itself gives in its answer: of each class, or under None of the best one."""
    for tensor in signature.outputs:
        values = outputs.get(tensor.name)
        if tensor.dtype != "DT_STRING" or not isinstance(values, list) or row >= len(values):
            continue
        names = values[row]
        if isinstance(names, list) and len(names) == classes:
            return {index: str(name) for index, name in enumerate(names)}
        if isinstance(names, list) and len(names) == 1:
            names = names[0]
        if isinstance(names, str):
            return {None: names}
    return {}


def table(answered: Sequence[Answered]) -> list[Row]:
    """A row for each row of each request, or for a request in column form; a column for each output."""
    rows: list[Row] = []
    several = any((reply.rows or 1) > 1 for reply in answered)
    for reply in answered:
        if reply.rows is None:
            rows.append(
                {"request": reply.request.name, **({"row": "-"} if several else {}), **_shown(reply.outputs)}
            )
            continue
        for number in range(reply.rows):
            values = {name: value[number] for name, value in reply.outputs.items()}
            row = {"row": str(number + 1)} if several else {}
            rows.append({"request": reply.request.name, **row, **_shown(values)})
    return rows


def _shown(outputs: Mapping[str, Any]) -> Row:
    return {name: shown(value) for name, value in outputs.items()}


def shown(value: object) -> str:
    """The first of the values, as many as fit, and how many there are."""
    if not isinstance(value, list):
        return _short(value)
    shape, flat = _shape(value), _flat(value)
    sizes = f"({' x '.join(map(str, shape))})"
    text, is_cut = "", False
    for number, item in enumerate(flat):
        more = f"{' ' if number else ''}{_short(item)}"
        is_cut = len(sizes) + len(text) + len(more) > MOST_SHOWN - len("  ...")
        if is_cut:
            text += " ..."
            break
        text += more
    return f"{sizes} {text}".rstrip() if is_cut or len(shape) > 1 or not text else text


def _shape(value: object) -> list[int]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def _flat(value: object) -> Iterator[object]:
    if not isinstance(value, list):
        yield value
        return
    for item in value:
        yield from _flat(item)


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.{_DIGITS}g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 3]}..."


def as_json(answered: Sequence[Answered]) -> str:
    """All that was answered, whole."""
    return strict_json.as_json(
        [{"request": reply.request.name, "answer": reply.outputs} for reply in answered]
    )
