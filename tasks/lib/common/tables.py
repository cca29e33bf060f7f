"""Tables, in the formats that people and programs read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence

from tasks.lib.common.errors import SettingError

FORMATS = ("text", "markdown", "csv", "json")


def check_format(name: str) -> str:
    """`name` if it is a format. Raises SettingError otherwise, before any work is done."""
    if name not in FORMATS:
        raise SettingError(f"There is no format {name!r}.", f"Choose one of: {', '.join(FORMATS)}.")
    return name


def render(rows: Sequence[Mapping[str, object]], format: str = "text") -> str:
    """`rows` as a table; the keys of the first row are the columns.

    Values are printed as they are, so the caller rounds them; JSON keeps numbers as numbers.
    """
    check_format(format)
    if format == "json":
        return json.dumps([dict(row) for row in rows], indent=2)
    columns = list(rows[0]) if rows else []
    cells = [["-" if row[column] is None else str(row[column]) for column in columns] for row in rows]
    if format == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([columns, *cells])
        return text.getvalue().rstrip("\n")
    import tabulate

    # Its default widens every column by two for headings; a line of results has to fit a terminal.
    tabulate.MIN_PADDING = 0
    if format == "markdown":
        # A bar would begin a new cell, in the heading "max |dp|" too.
        columns = [column.replace("|", r"\|") for column in columns]
        cells = [[cell.replace("|", r"\|") for cell in row] for row in cells]
    table: str = tabulate.tabulate(
        cells,
        headers=columns,
        tablefmt="pipe" if format == "markdown" else "plain",
        # Numbers arrive formatted as text; aligning right is all that is left to do.
        disable_numparse=True,
        colalign=[_alignment([row[i] for row in cells]) for i in range(len(columns))] if cells else None,
    )
    return table


def _alignment(values: Sequence[str]) -> str:
    return "right" if all(v[:1] in "-+.0123456789" for v in values) else "left"
