"""Measures servers, and compares them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from invoke import Collection, Context

from tasks.edge import settings, task

if TYPE_CHECKING:
    from tasks.lib.record import Record


@task(
    default=True,
    name="run",
    iterable=["candidate"],
    help={
        "baseline": "the variant to compare with; default: the setting benchmark.baseline (stock)",
        "candidate": "the variant in question, or several; default: the setting benchmark.candidate",
        "alone": "measure the candidate by itself",
        "model": "NAME or NAME@VERSION; default: the setting `model`",
        "engine": "auto, local or docker; default: the setting `engine`",
        "format": "text, markdown, csv or json (a list, where there are several candidates)",
    },
)
def benchmark(
    c: Context,
    baseline: str = "",
    candidate: Sequence[str] | None = None,  # Invoke would take another default for the flag's type
    alone: bool = False,
    model: str = "",
    engine: str = "",
    format: str = "text",
) -> None:
    """Compare two servers: the same answers first, then their speed, paired and in alternation.

    Several candidates are compared with the baseline one after another, and share a table.
    Servers that run are used; others are started, and stopped again. Blocks of requests alternate
    between baseline and candidate in ABBA order, over one connection each, and the baseline is also
    measured against itself: a difference counts only if it is larger than that noise. Exit code 3
    says that the two answer differently and were therefore not timed.
    """
    from tasks.lib import console, contest, record
    from tasks.lib.report import check_format

    its = settings(c)
    check_format(format)
    measured = contest.run(
        its,
        reference=model or its.model,
        baseline=None if alone else baseline or its.benchmark.baseline,
        candidates=candidate or [its.benchmark.candidate],
        engine=engine or None,
    )
    done: list[record.Record] = []
    try:
        for one in measured:
            done.append(one)
    finally:
        # Of several comparisons, those that are finished are worth having whatever became of the next.
        if done:
            _print(done, format)
            # Only now: a folder that cannot be written to must not hide what took minutes to measure.
            for one in done:
                console.note(f"saved: {its.paths.shown(record.write(its.paths, one))}/ (result.json)")
    contest.raise_if_not_comparable(done)


def _print(done: Sequence[Record], format: str) -> None:
    from tasks.lib import console, record
    from tasks.lib.report import render

    if format == "json":
        contents = [record.content(one) for one in done]
        console.result(record.as_json(contents if len(contents) > 1 else contents[0]))
    elif format == "csv":
        console.result(render(record.rows(done), format))
    else:
        notes = dict.fromkeys(line for one in done for line in (one.note, one.model.origin.warning) if line)
        lines = [done[0].head, render(record.rows(done), format), *notes, *(one.sentence for one in done)]
        console.result("\n".join(lines))


ns = Collection("benchmark", benchmark)
