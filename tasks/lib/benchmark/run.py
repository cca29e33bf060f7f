"""Runs a benchmark, prints its result and saves it."""

from __future__ import annotations

from tasks.lib.benchmark import contest, outcome
from tasks.lib.benchmark.contest import Contest
from tasks.lib.common import console
from tasks.lib.common.settings import Settings
from tasks.lib.results import folders, record, shown


def measure(settings: Settings, asked: Contest, format: str, gate: float | None = None) -> None:
    """Run a benchmark, print and save it. Raises SuiteError as it does, and if `gate` is not passed."""
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
            folder = folders.write(settings.paths, content)
            console.note(f"saved: {settings.paths.shown(folder)}/ (report.html, result.json)")
    outcome.check_outcome(done, gate)
