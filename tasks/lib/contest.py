"""One benchmark from beginning to end: contestants up, answers compared, speed measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from tasks.lib import agreement, console, contestants, inputs, obtain, record, variants, verdict
from tasks.lib.client import Client
from tasks.lib.engines.choose import choose
from tasks.lib.errors import NotComparable
from tasks.lib.hardware import detect
from tasks.lib.load import Load
from tasks.lib.settings import Settings
from tasks.lib.signature import default_signature
from tasks.lib.verdict import Contestant, Plan, Verdict


def run(
    settings: Settings, reference: str, baseline: str | None, candidates: Sequence[str], engine: str | None
) -> Iterator[record.Record]:
    """Compare each candidate with `baseline`, or measure it alone where `baseline` is None.

    One after another, each paired with the baseline anew. Yields nothing on --dry, after saying what
    would be done.
    """
    names = [name for name in (baseline, *candidates) if name is not None]
    for name in names:
        variants.check(settings, name)  # a misspelt one is told before anything is downloaded or started
    chosen = choose(settings, engine, names)
    plan = verdict.plan_of(settings.benchmark)
    model = obtain.ensure(settings, reference)
    if settings.dry or model is None:
        console.note(
            f"would measure {' and '.join(names)} of {model or reference}, {plan.rounds} rounds "
            f"of {plan.block_requests} requests twice, starting the servers that are not up"
        )
        return
    with ExitStack() as stack:
        against = None
        if baseline is not None:
            against = stack.enter_context(contestants.up(settings, chosen, model, baseline))
        for name in candidates:
            started, outcome, alone = record.now(), None, None
            with contestants.up(settings, chosen, model, name) as contestant:
                if against is None:
                    alone = _alone(settings, contestant, plan)
                else:
                    outcome = _compare(settings, against, contestant, plan)
            command = record.command_line()
            yield record.Record(started, command, chosen.name, model, detect(), plan, outcome, alone)


def raise_if_not_comparable(done: Sequence[record.Record]) -> None:
    """Raises NotComparable if a candidate answered differently from its baseline."""
    verdicts = [one.verdict for one in done if one.verdict is not None]
    for different in (one for one in verdicts if not one.agreement.holds):
        a, b = different.baseline.name, different.candidate.name
        raise NotComparable(
            f"{b} answers differently from {a}, so their speeds were not compared.",
            "Find out why: build the candidate anew, or look at both with `invoke predict --variant`.",
        )


def _compare(settings: Settings, baseline: Contestant, candidate: Contestant, plan: Plan) -> Verdict:
    a = Client(baseline.url, plan.timeout)
    metadata = a.metadata()
    samples = _samples(settings, metadata)
    limit = max(settings.optimize.max_difference[one.precision] for one in (baseline, candidate))
    console.note(f"comparing answers over {len(samples)} inputs")
    answers = agreement.compare(
        a, Client(candidate.url, plan.timeout), default_signature(metadata), samples, limit
    )
    bodies = [sample.body for sample in samples]
    if not answers.holds:
        return verdict.judge(baseline, candidate, answers, bodies, plan)
    label = f"measuring {baseline.name} and {candidate.name}"
    with console.progress(label, plan.rounds, unit="round") as bar:
        return verdict.judge(baseline, candidate, answers, bodies, plan, bar.update)


def _alone(settings: Settings, contestant: Contestant, plan: Plan) -> record.Alone:
    metadata = Client(contestant.url, plan.timeout).metadata()
    with Load([contestant.url], plan.timeout) as connection:
        prepared = [connection.prepare(sample.body) for sample in _samples(settings, metadata)]
        requests = verdict.turns(prepared, plan.block_requests)
        label = verdict.CANDIDATE
        with console.progress(f"measuring {contestant.name}", plan.rounds, unit="round") as bar:
            rounds = verdict.run_rounds([(label, connection)], {label: requests}, plan, bar.update)
    measured = verdict.measure([block for one in rounds for block in one[label]])
    return record.Alone(contestant, measured, len(rounds))


def _samples(settings: Settings, metadata: Mapping[str, Any]) -> Sequence[inputs.Sample]:
    return inputs.requests_for(metadata, inputs.sample_photos(settings.paths))
