"""Measures servers, and compares them."""

from __future__ import annotations

from invoke import Collection, Context

from tasks.edge import settings, task


@task(
    default=True,
    name="run",
    help={
        "baseline": "the variant to compare with; default: the setting benchmark.baseline (stock)",
        "candidate": "the variant in question; default: the setting benchmark.candidate (optimized)",
        "alone": "measure the candidate by itself",
        "model": "NAME or NAME@VERSION; default: the setting `model`",
        "engine": "auto, local or docker; default: the setting `engine`",
        "format": "text, markdown, csv or json",
    },
)
def benchmark(
    c: Context,
    baseline: str = "",
    candidate: str = "",
    alone: bool = False,
    model: str = "",
    engine: str = "",
    format: str = "text",
) -> None:
    """Compare two servers: the same answers first, then their speed, paired and in alternation.

    Servers that run are used; others are started, and stopped again. Blocks of requests alternate
    between baseline and candidate in ABBA order, over one connection each, and the baseline is also
    measured against itself: a difference counts only if it is larger than that noise. Exit code 3
    says that the two answer differently and were therefore not timed.
    """
    from tasks.lib import console, contest, record
    from tasks.lib.report import check_format, render

    its = settings(c)
    check_format(format)
    done = contest.run(
        its,
        reference=model or its.model,
        baseline=None if alone else baseline or its.benchmark.baseline,
        candidate=candidate or its.benchmark.candidate,
        engine=engine or None,
    )
    if done is None:
        return
    if format == "json":
        console.result(record.as_json(record.content(done)))
    elif format == "csv":
        console.result(render(record.rows(done), format))
    else:
        table = render(record.rows(done), format)
        lines = [done.head, table, done.note, done.model.origin.warning, done.sentence]
        console.result("\n".join(line for line in lines if line))
    # Only now: a folder that cannot be written to must not hide what took minutes to measure.
    folder = record.write(its.paths, done)
    console.note(f"saved: {its.paths.shown(folder)}/ (result.json)")
    contest.raise_if_not_comparable(done)


ns = Collection("benchmark", benchmark)
