"""Measures servers, and compares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from invoke import Collection, Context

from tasks.edge import settings, task

if TYPE_CHECKING:
    from tasks.lib.benchmark.contest import Contest
    from tasks.lib.common.settings import Plan, Settings
    from tasks.lib.results.record import Content

CONTESTANT = "a variant, NAME@VERSION[:VARIANT], or URLs of a model on any servers (a,b: replicas)"
MOST = 1000
"""Connections; more need more open files than most systems allow."""
OPEN = "64"
"""Connections in open loop, at most: with few, requests would wait for each other here, not at the server."""


@task(
    default=True,
    name="run",
    iterable=["candidate", "max_difference", "rtol"],
    help={
        "baseline": f"{CONTESTANT}; default: the setting benchmark.baseline (stock)",
        "candidate": "the one in question, named alike, or several; default: the setting benchmark.candidate",
        "alone": "measure the candidate by itself",
        "model": "NAME or NAME@VERSION; default: the setting `model`",
        "engine": "auto, local or docker; default: the setting `engine`",
        "inputs": "a folder of photos, or a file of JSON requests, one a line; default: the model's samples",
        "signature": "of the model; default: serving_default, or the first one",
        "pixels": "range of the pixels that the model expects: 0..1, 0..255 or -1..1; default: told by it",
        "protocol": "rest or grpc; default: what addresses begin with (http:// or grpc://), or rest",
        "connections": "requests in flight at a time; several, as in 1,4,16, are measured in turn",
        "rate": "requests per second that arrive whatever the server does; default: closed loop",
        "ci-width": "measure until the interval is as narrow; default: the setting benchmark.ci_width (2%)",
        "max-seconds": "but no longer than this; default: the setting benchmark.max_seconds",
        "min-ratio": "exit with 2 if the candidate is with certainty less than so many times as fast",
        "max-difference": "of two answers, NUMBER or OUTPUT=NUMBER; default: optimize.max_difference",
        "rtol": "the same in parts of the baseline's numbers: |a-b| <= max-difference + rtol|a|",
        "allow-different": "time them even if they answer differently",
        "format": "text, markdown, csv or json",
    },
)
def benchmark(
    c: Context,
    baseline: str = "",
    candidate: Sequence[str] | None = None,  # Invoke would take another default for the flag's type
    alone: bool = False,
    model: str = "",
    engine: str = "",
    inputs: str = "",
    signature: str = "",
    pixels: str = "",
    protocol: str = "",
    connections: str = "",
    rate: str = "",
    ci_width: str = "",
    max_seconds: str = "",
    min_ratio: str = "",
    max_difference: Sequence[str] | None = None,
    rtol: Sequence[str] | None = None,
    allow_different: bool = False,
    format: str = "text",
) -> None:
    """Compare two servers: the same answers first, then their speed, paired and in alternation.

    Several candidates are compared with the baseline one after another, and share a table.
    Servers that run are used; others are started, and stopped again. Blocks of requests alternate
    between baseline and candidate in ABBA order, and the baseline is also measured against itself: a
    difference counts only if it is larger than that noise. Over gRPC, addresses are written
    grpc://HOST:PORT/v1/models/NAME. With --rate, latency counts from the time at
    which a request was to be sent, so that a slow server cannot hide its queue: requests arrive for a
    second (the setting benchmark.block_seconds) until the next server's turn. A model that cannot be
    optimized, or does not gain by it, is measured as stock alone. Exit code 2 says that the candidate is
    below --min-ratio, 3 that there is no verdict: the two answer differently, too many requests failed,
    or --min-ratio is given and there is nothing to compare.
    """
    from pathlib import Path

    from tasks.lib.benchmark.contest import Contest
    from tasks.lib.common.tables import check_format
    from tasks.lib.common.values import number
    from tasks.lib.measure import tolerance
    from tasks.lib.models import samples

    its = settings(c)
    check_format(format)
    gate = number(min_ratio, "--min-ratio") if min_ratio else None
    _check_alone(alone, {"--baseline": baseline, "--min-ratio": min_ratio})
    asked = Contest(
        model=model or its.model,
        baseline=None if alone else baseline or its.benchmark.baseline,
        candidates=candidate or [its.benchmark.candidate],
        engine=engine or None,
        plan=_plan(its, rate, ci_width, max_seconds),
        protocol=_protocol(protocol),
        connections=_connections(connections or ("1" if not rate else OPEN)),
        inputs=Path(inputs) if inputs else None,
        signature=signature,
        pixels=samples.check_pixels(pixels),
        max_difference=tolerance.parse(max_difference or (), "--max-difference"),
        rtol=tolerance.parse(rtol or (), "--rtol"),
        allow_different=allow_different,
    )
    measure(its, asked, format, gate)


def measure(its: Settings, asked: Contest, format: str, gate: float | None = None) -> None:
    """Run a benchmark, print and save it. Raises SuiteError as it does, and if `gate` is not passed."""
    from tasks.lib.benchmark import contest
    from tasks.lib.common import console
    from tasks.lib.results import folders, record

    done: list[record.Record] = []
    try:
        for one in contest.run(its, asked):
            done.append(one)
    finally:
        # Of several comparisons, those that are finished are worth having even if the next one fails.
        if done:
            content = record.content(done)
            _print(content, format)
            # Only now: a folder that cannot be written to must not hide what took minutes to measure.
            folder = folders.write(its.paths, content)
            console.note(f"saved: {its.paths.shown(folder)}/ (report.html, result.json)")
    contest.check_outcome(done, gate)


@task(
    positional=["result"], help={"result": "a folder below results/", "format": "text, markdown, csv or json"}
)
def show(c: Context, result: str, format: str = "text") -> None:
    """Print a saved benchmark again."""
    from pathlib import Path

    from tasks.lib.common.tables import check_format
    from tasks.lib.results import folders

    settings(c)
    check_format(format)
    _print(folders.read(Path(result)), format)


@task(
    positional=["first", "second"],
    help={
        "first": "a folder below results/",
        "second": "another one",
        "format": "text, markdown, csv or json",
    },
)
def compare(c: Context, first: str, second: str, format: str = "text") -> None:
    """Set two saved benchmarks side by side, and say what makes them hard to compare.

    They were not measured in alternation: what differs between them may be the machine of that day.
    """
    from pathlib import Path

    from tasks.lib.common import console
    from tasks.lib.common.tables import check_format, render
    from tasks.lib.results import folders, record

    settings(c)
    check_format(format)
    both = [folders.read(Path(name)) for name in (first, second)]
    for warning in folders.warnings(*both):
        console.note(f"careful: {warning}")
    rows = [
        {"result": name, **row}
        for name, one in zip((first, second), both, strict=True)
        for row in record.rows(one)
    ]
    columns = dict.fromkeys(column for row in rows for column in row)
    console.result(render([{column: row.get(column) for column in columns} for row in rows], format))


def _check_alone(alone: bool, compared: Mapping[str, str]) -> None:
    """Raises SettingError for a flag that means nothing where nothing is compared."""
    from tasks.lib.common.errors import SettingError

    given = [flag for flag, value in compared.items() if value]
    if alone and given:
        raise SettingError(
            f"With --alone nothing is compared, so {' and '.join(given)} would be ignored.",
            f"Leave out --alone, or {' and '.join(given)}.",
        )


def _protocol(text: str) -> str | None:
    from tasks.lib.common.errors import SettingError
    from tasks.lib.common.settings import PROTOCOLS

    if text and text not in PROTOCOLS:
        raise SettingError(f"There is no protocol {text!r}.", f"Choose one of: {', '.join(PROTOCOLS)}.")
    return text or None


def _connections(text: str) -> list[int]:
    from tasks.lib.common.values import whole_number

    return list(dict.fromkeys(whole_number(one, "--connections", 1, MOST) for one in text.split(",")))


def _plan(its: Settings, rate: str, ci_width: str, max_seconds: str) -> Plan:
    from dataclasses import replace

    from tasks.lib.common.values import number, share

    plan = its.benchmark.plan
    if rate:
        plan = replace(plan, rate=number(rate, "--rate", 0.1))
    if ci_width:
        plan = replace(plan, ci_width=share(ci_width, "--ci-width"))
    if max_seconds:
        plan = replace(plan, max_seconds=number(max_seconds, "--max-seconds"))
    return plan


def _print(content: Content, format: str) -> None:
    from tasks.lib.common import console
    from tasks.lib.common.strict_json import as_json
    from tasks.lib.common.tables import render
    from tasks.lib.results import record

    if format == "json":
        console.result(as_json(content))
    elif format == "csv":
        console.result(render(record.rows(content), format))
    else:
        sentences = [run["sentence"] for run in content["runs"]]
        table = render(record.rows(content), format)
        console.result("\n".join([record.head(content), table, *record.notes(content), *sentences]))


ns = Collection("benchmark", benchmark, show, compare)
