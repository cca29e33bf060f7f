"""Prints saved benchmarks: one, or two of them side by side."""

from __future__ import annotations

from pathlib import Path

from tasks.lib.common import console
from tasks.lib.common.strict_json import as_json
from tasks.lib.common.tables import render
from tasks.lib.results import folders, repeatability, words
from tasks.lib.results.schema import Result


def show(content: Result, format: str) -> None:
    """Print a result: as a table with notes and sentences, or as csv or json."""
    if format == "json":
        console.result(as_json(content))
    elif format == "csv":
        console.result(render(words.rows(content), format))
    else:
        sentences = [run["sentence"] for run in content["runs"]]
        table = render(words.rows(content), format)
        console.result("\n".join([words.head(content), table, *words.notes(content), *sentences]))
        repetitions = content.get("repetitions", [])
        if repeatability.is_repeated(repetitions):
            console.result(f"\nwith the runs before it:\n{render(repeatability.rows(repetitions), format)}")
            for sentence in repeatability.sentences(repetitions):
                console.result(sentence)


def show_saved(place: str, format: str) -> None:
    """Print the result in a folder. Raises SettingError if there is none."""
    show(folders.read(Path(place)), format)


def compare(first: str, second: str, format: str) -> None:
    """Print the rows of two saved results in one table, and how their speed-ups differ.

    What makes the two hard to compare is said before. Raises SettingError for a place that holds no result.
    """
    places = first, second
    contents = folders.read(Path(first)), folders.read(Path(second))
    for warning in folders.warnings(*contents):
        console.note(f"careful: {warning}")
    rows = [
        {"result": place, **row}
        for place, content in zip(places, contents, strict=True)
        for row in words.rows(content)
    ]
    columns = dict.fromkeys(column for row in rows for column in row)
    console.result(render([{column: row.get(column) for column in columns} for row in rows], format))
    for difference in repeatability.differences(*contents):
        console.note(difference)
