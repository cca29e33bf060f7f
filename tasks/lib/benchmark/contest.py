"""One benchmark from beginning to end: contestants up, answers compared, speed measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tasks.lib.benchmark import contestants, instances
from tasks.lib.benchmark.contestants import Asked
from tasks.lib.benchmark.restarts import Restarts
from tasks.lib.client import inputs
from tasks.lib.client.rest import client_for
from tasks.lib.client.signature import (
    DEFAULT_SIGNATURE,
    Signature,
    default_signature,
    named_signature,
    signature_names,
)
from tasks.lib.common import console, hardware, pinning, variants
from tasks.lib.common.errors import CannotGain, NotComparable
from tasks.lib.common.hardware import Hardware
from tasks.lib.common.pinning import Pinning
from tasks.lib.common.settings import MIXED, Plan, Settings
from tasks.lib.engines.base import Engine
from tasks.lib.engines.choose import choose
from tasks.lib.measure import agreement, paired, stats, verdict
from tasks.lib.measure.agreement import Agreement
from tasks.lib.measure.load import Load
from tasks.lib.measure.measurement import measure
from tasks.lib.measure.rounds import Instance, Rounds, medians, run_rounds, timeline, warmed_up
from tasks.lib.measure.tolerance import Tolerances
from tasks.lib.measure.verdict import Contestant, Verdict
from tasks.lib.models import choice, obtain, samples, store, user_requests
from tasks.lib.models.samples import Samples
from tasks.lib.models.store import Model
from tasks.lib.optimize import optimize
from tasks.lib.predict import ask
from tasks.lib.results import record
from tasks.lib.results.record import LeftOut


@dataclass(frozen=True)
class Contest:
    """What a person asks for."""

    model: str
    """NAME or NAME@VERSION, for contestants that name none; empty: the setting `model`."""
    baseline: str | None
    """None to measure the candidates by themselves."""
    candidates: Sequence[str]
    engine: str | None
    plan: Plan
    """Its `protocol` and its `connections` are those below."""
    protocol: str | None = None
    """One of settings.PROTOCOLS; None for what addresses say, and REST where there are none."""
    connections: Sequence[int] = (1,)
    """Each number of them is measured by itself."""
    inputs: Path | None = None
    """A photo, a folder of photos, or a file of JSON requests; None for the model's samples."""
    signature: str = ""
    """The one that is measured; the default one if empty."""
    pixels: str | None = None
    """The range in which the model expects pixels, if a person says it."""
    max_difference: Mapping[str, float] = field(default_factory=dict)
    """Of two answers, by output (tolerance.Tolerances.absolute), where it is not what precisions allow."""
    rtol: Mapping[str, float] = field(default_factory=dict)
    """The same in parts of the baseline's numbers."""
    allow_different: bool = False
    """Time them although they answer differently."""
    restart: Mapping[str, str] = field(default_factory=dict)
    """Commands that restart contestants given by address, by verdict.BASELINE and verdict.CANDIDATE."""
    left_out: Mapping[str, CannotGain] = field(default_factory=dict)
    """Contestants by name that an earlier step has found to be without gain."""
    why: str = ""
    """Why it is this model, if no person named it."""


def run(settings: Settings, contest: Contest) -> Iterator[record.Record]:
    """Compare each candidate with the baseline, or measure it alone if there is none.

    The candidates are measured one after another, each in a pair with the baseline. A contestant that
    cannot be optimized is left out: what remains is compared, or measured alone if it is a single one.
    Raises CannotGain if none remains. Yields nothing on --dry, after saying what would be done.
    """
    asked = [contestants.parse(name) for name in (contest.baseline, *contest.candidates) if name is not None]
    managed = [entry for entry in asked if not entry.urls]
    for entry in managed:
        variants.check(settings, entry.variant)  # a misspelt one is told before anything is downloaded
    protocol = contestants.protocol(asked, contest.protocol)
    pinned = _pinning(settings, asked)
    if pinned is not None and pinned.is_apart:
        settings = replace(settings, serve=replace(settings.serve, cpus=pinned.servers))
    engine = choose(settings, contest.engine, [entry.variant for entry in managed]) if managed else None
    if any(entry.reference is None for entry in managed) and not contest.why:
        chosen = choice.choose(settings, contest.model)
        contest = replace(contest, model=chosen.model, why=chosen.why)
    references = dict.fromkeys(entry.reference or contest.model for entry in managed)
    models = {reference: obtain.ensure(settings, reference) for reference in references}
    if settings.dry or None in models.values():
        console.note(
            f"would measure {' and '.join(entry.name for entry in asked)} until the interval is narrower "
            f"than {contest.plan.ci_width:.1%}, or for {contest.plan.max_seconds:g} s, starting the servers "
            f"that are not up{'' if pinned is None else f'; {pinned}'}"
        )
        for command in contest.restart.values():
            console.note(f"would run {contest.plan.instances - 1} times between measuring: {command}")
        return
    baseline, candidates, left_out = _entries(
        asked, contest, _without_gain(settings, contest, engine, models, managed)
    )
    comparison = _Run(settings, contest, protocol, engine, models, pinned, hardware.detect(), left_out)
    with ExitStack() as stack:
        if baseline is None:
            for entry in candidates:
                with comparison.up(entry) as contestant:
                    yield from comparison.measured(None, contestant)
            return
        first = instances.Started(baseline, comparison.up, stack)
        number = instances.number_for(contest.plan.instances, max(contest.connections))
        for entry in candidates:
            with ExitStack() as own:
                both = first, instances.Started(entry, comparison.up, own)
                instances.start(both, number, contest.plan.seed)
                yield from comparison.measured(*(side.contestant for side in both))


def _without_gain(
    settings: Settings,
    contest: Contest,
    engine: Engine | None,
    models: Mapping[str, Model | None],
    managed: Sequence[Asked],
) -> dict[str, CannotGain]:
    """Those of `managed` whose model cannot be optimized, by name; the others' models are optimized.

    Before anything is started: it takes minutes, and must not slow down a server that is measured.
    """
    without_gain = dict(contest.left_out)
    for entry in managed:
        model = models[entry.reference or contest.model]
        if entry.name in without_gain or engine is None or model is None:
            continue
        try:
            optimize.resolve(settings, model, variants.find(settings, entry.variant, engine.name))
        except CannotGain as error:
            without_gain[entry.name] = error
    return without_gain


def _entries(
    asked: Sequence[Asked], contest: Contest, without_gain: Mapping[str, CannotGain]
) -> tuple[Asked | None, Sequence[Asked], tuple[LeftOut, ...]]:
    """The baseline, the candidates, and those that are left out.

    A baseline that remains by itself is the only candidate. Raises CannotGain if none remains.
    """
    present = [entry for entry in asked if entry.name not in without_gain]
    if not present:
        raise next(iter(without_gain.values()))
    left_out = tuple(LeftOut(name, error.problem) for name, error in without_gain.items())
    for entry in left_out:
        console.note(str(entry))
    has_baseline = contest.baseline is not None and contest.baseline not in without_gain
    if has_baseline and len(present) > 1:
        return present[0], present[1:], left_out
    return None, present, left_out


@dataclass(frozen=True)
class _Run:
    """A contest with its places known."""

    settings: Settings
    contest: Contest
    protocol: str
    """What servers of this suite are asked over."""
    engine: Engine | None
    models: Mapping[str, Model | None]
    pinning: Pinning | None
    machine: Hardware
    """As it was at the beginning."""
    left_out: tuple[LeftOut, ...]

    def up(self, asked: Asked, *, another: bool = False) -> AbstractContextManager[Contestant]:
        model = None if asked.urls else self.models[asked.reference or self.contest.model]
        engine = None if asked.urls else self.engine
        return contestants.up(self.settings, asked, engine, model, self.protocol, another=another)

    def measured(self, baseline: Contestant | None, candidate: Contestant) -> Iterator[record.Record]:
        """One record for each number of connections."""
        metadata = client_for((baseline or candidate).url, self.contest.plan.timeout).metadata()
        signature = self._signature(metadata)
        requests = self._requests(
            metadata, signature, [side for side in (baseline, candidate) if side is not None]
        )
        bodies = [sample.body for sample in requests]
        answers, takes_photos, restart = None, False, None
        if baseline is not None:
            takes_photos = ask.can_classify(signature)
            console.note(f"comparing answers over {len(requests)} inputs")
            answers = self._agreement(baseline, candidate, signature, requests)
            restart = self._restarts(
                baseline,
                candidate,
                answers,
                partial(self._agreement, baseline, candidate, signature, requests),
            )
        for connections in self.contest.connections:
            protocols = {side.protocol for side in (baseline, candidate) if side is not None}
            plan = replace(
                self.contest.plan,
                connections=connections,
                protocol=MIXED if len(protocols) > 1 else candidate.protocol,
            )
            started, outcome, alone = record.now(), None, None
            apart = self.pinning is not None and self.pinning.is_apart
            with pinning.confined(self.pinning.client if self.pinning and apart else ()):
                if baseline is None or answers is None:
                    alone = _alone(candidate, bodies, plan)
                else:
                    outcome = self._compare(baseline, candidate, answers, bodies, plan, restart)
            yield record.Record(
                time=started,
                command=record.command_line(),
                engine=self.engine.name if self.engine is not None else None,
                hardware=self.machine,
                plan=plan,
                verdict=outcome,
                alone=alone,
                pinning=self.pinning,
                engine_version=self.engine.version() if self.engine is not None else {},
                left_out=self.left_out,
                takes_photos=takes_photos,
                why=self.contest.why,
            )
            if outcome is not None and outcome.p50 is None:
                return  # they answer differently, at any number of connections

    def _agreement(
        self,
        baseline: Contestant,
        candidate: Contestant,
        signature: Signature,
        requests: Sequence[inputs.Sample],
    ) -> Agreement:
        """Every replica is asked, and held against the baseline's first."""
        timeout = self.contest.plan.timeout
        limit = self._limit(baseline, candidate)
        tolerances = Tolerances(limit, self.contest.max_difference, self.contest.rtol)
        tolerances.check(tensor.name for tensor in signature.outputs)
        return agreement.worst(
            agreement.compare(
                client_for(baseline.url, timeout), client_for(url, timeout), signature, requests, tolerances
            )
            for url in (*baseline.urls[1:], *candidate.urls)
        )

    def _compare(
        self,
        baseline: Contestant,
        candidate: Contestant,
        answers: Agreement,
        bodies: Sequence[bytes],
        plan: Plan,
        restart: Restarts | None,
    ) -> Verdict:
        different = self.contest.allow_different
        if not answers.holds and not different:
            return paired.judge(baseline, candidate, answers, bodies, plan)
        with console.progress(_doing(plan, baseline, candidate), plan.max_seconds, unit="s") as bar:
            return paired.judge(
                baseline,
                candidate,
                answers,
                bodies,
                plan,
                allow_different=different,
                progress=bar.update,
                restart=restart,
            )

    def _restarts(
        self,
        baseline: Contestant,
        candidate: Contestant,
        answers: Agreement,
        compare: Callable[[], Agreement],
    ) -> Restarts | None:
        """None where no command restarts a server."""
        sides = {verdict.BASELINE: baseline, verdict.CANDIDATE: candidate}
        commands, seed = self.contest.restart, self.contest.plan.seed
        if answers.holds or self.contest.allow_different:
            for command in commands.values():
                console.note(f"between measuring, this is run: {command}")
        return Restarts(self.settings, commands, sides, answers, compare, seed) if commands else None

    def _limit(self, *both: Contestant) -> float:
        """What precisions allow. A server that this suite did not start is held to the strictest limit."""
        allowed = self.settings.optimize.max_difference
        return max(allowed.get(side.precision, min(allowed.values())) for side in both)

    def _signature(self, metadata: Mapping[str, Any]) -> Signature:
        """The one that is measured: the person's, that of their first request, or the default one."""
        if self.contest.signature:
            return named_signature(metadata, self.contest.signature)
        signature = default_signature(metadata)
        place = self.contest.inputs
        if place is not None and place.suffix.lower() in inputs.REQUEST_SUFFIXES:
            name = inputs.signature_of(inputs.requests_in(place)[0].body, signature.name)
            return named_signature(metadata, name)
        if signature.name != DEFAULT_SIGNATURE:
            others = ", ".join(name for name in signature_names(metadata) if name != signature.name)
            choice = f"; --signature chooses another one ({others})" if others else ""
            console.note(
                f"the signature {signature.name!r} is measured: there is no {DEFAULT_SIGNATURE}{choice}"
            )
        return signature

    def _requests(
        self, metadata: Mapping[str, Any], signature: Signature, sides: Sequence[Contestant]
    ) -> Sequence[inputs.Sample]:
        """A person's own requests, the model's samples, or what its metadata lets one make up.

        Raises ModelError if there are none, NotComparable if the model's answers are random.
        """
        made = self._samples(sides)
        if self.contest.inputs is not None:
            default = self.contest.signature or default_signature(metadata).name
            return user_requests.from_path(self.contest.inputs, made, signature, default, self.contest.pixels)
        if made is None:
            of_suite = inputs.sample_photos(self.settings.paths)
            return inputs.requests_of(signature, of_suite, self.contest.pixels)
        if made.is_random(signature.name) and len(sides) > 1:
            raise NotComparable(
                f"{sides[0].model} answers the same request differently from call to call, so its servers "
                "cannot be compared.",
                "Export it without dropout and random operations, or measure one server with --alone.",
            )
        if made.lacks_range(signature.name):
            console.note(samples.UNKNOWN_RANGE)
        return made.of(signature)

    def _samples(self, sides: Sequence[Contestant]) -> Samples | None:
        """Those of the model that is measured; None if only its metadata is known."""
        ours = next((side for side in sides if side.origin is not None), None)
        model = None if ours is None else store.find(self.settings.paths, ours.model)
        if model is None:
            if self.contest.inputs is None:
                console.note(
                    "requests are made up from the metadata of the server alone; --inputs gives others"
                )
            return None
        own_samples = samples.if_possible(self.settings, model, self.contest.pixels)
        if own_samples is None and self.contest.inputs is None:
            console.note(
                "requests are made up from the metadata of the server alone; after `invoke build.embedded` "
                "they fit what the model does with its inputs"
            )
        return own_samples


def _alone(contestant: Contestant, bodies: Sequence[bytes], plan: Plan) -> record.Alone:
    label = verdict.CANDIDATE
    p50s: list[float] = []

    def enough(done: Rounds) -> bool:
        p50s.extend(medians(done[len(p50s) :], [label]))
        return len(done) >= verdict.FEWEST and stats.serial_interval(p50s)[0].width <= plan.ci_width

    with Load(contestant.urls, plan.timeout, plan.connections) as load:
        requests = {label: [load.prepare(body) for body in bodies]}
        with console.progress(_doing(plan, contestant), plan.max_seconds, unit="s") as bar:
            warmup = warmed_up({label: [load]}, bodies, plan)
            rounds = run_rounds([Instance([(label, load)], requests)], plan.block, plan, enough, bar.update)
    measured = measure([block for finished in rounds for block in finished[label]])
    return record.Alone(contestant, measured, len(rounds), timeline(rounds), warmup)


def _pinning(settings: Settings, asked: Sequence[Asked]) -> Pinning | None:
    """All servers on the same CPUs; None if this suite started none of them."""
    theirs = [entry.name for entry in asked if entry.urls]
    if len(theirs) == len(asked):
        return None
    if theirs:
        usable = pinning.usable() or ()
        return Pinning(settings.serve.cpus or usable, usable, f"{theirs[0]} was not started by this suite")
    return pinning.plan(settings.serve.cpus, hardware.cores())


def _doing(plan: Plan, *sides: Contestant) -> str:
    return f"measuring {' and '.join(side.name for side in sides)}{plan.how}"
