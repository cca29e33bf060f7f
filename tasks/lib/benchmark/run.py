"""Runs a benchmark, prints its result and saves it."""

from __future__ import annotations

from dataclasses import replace

from tasks.lib.benchmark import contest, outcome
from tasks.lib.benchmark.contest import Contest
from tasks.lib.common import console
from tasks.lib.common.settings import Settings
from tasks.lib.common.tables import render
from tasks.lib.results import folders, record, repeatability, shown
from tasks.lib.results.schema import Result


def measure(
    settings: Settings, asked: Contest, format: str, gate: float | None = None, repeats: int = 1
) -> None:
    """Run a benchmark, print and save it. Raises SuiteError as it does, and if `gate` is not passed.

    Several times, each with servers and a seed of its own, it prints how often they come to the same outcome.
    """
    if repeats > 1:
        _repeat(settings, asked, format, gate, repeats)
        return
    done: list[record.Record] = []
    try:
        for finished in contest.run(settings, asked):
            done.append(finished)
    finally:
        # Of several comparisons, those that are finished are worth having even if the next one fails.
        if done:
            content = record.content(done)
            shown.show(content, format)
            # Only now: a folder that cannot be written to must not hide what took minutes to measure.
            _save(settings, content)
    outcome.check_outcome(done, gate)


def _repeat(settings: Settings, asked: Contest, format: str, gate: float | None, repeats: int) -> None:
    done: list[record.Record] = []
    content: Result | None = None
    try:
        for number in range(repeats):
            console.note(f"\nrun {number + 1} of {repeats}")
            plan = replace(asked.plan, seed=asked.plan.seed + number)
            run = list(contest.run(settings, replace(asked, plan=plan)))
            if run:
                content = record.content(run, content["repetitions"] if content else ())
                _save(settings, content)
            done += run
    finally:
        if content is not None:
            console.result(render(repeatability.rows(content["repetitions"]), format))
            for sentence in repeatability.sentences(content["repetitions"]):
                console.note(sentence)
    outcome.check_outcome(done, gate)


def _save(settings: Settings, content: Result) -> None:
    folder = folders.write(settings.paths, content)
    console.note(f"saved: {settings.paths.shown(folder)}/ (report.html, result.json)")
