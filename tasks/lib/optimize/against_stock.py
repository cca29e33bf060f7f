"""Candidates on real servers: stock and one for each precision answer the same requests over REST.

What was proven in one process is compared once more as clients see it, and timed.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.lib.client.inputs import Given, Sample
from tasks.lib.client.rest import Client
from tasks.lib.client.signature import Signature, default_signature, named_signature, signature_names
from tasks.lib.common import console, processes
from tasks.lib.common.errors import ModelError, RequestRefused, ServerError
from tasks.lib.common.settings import Settings
from tasks.lib.common.variants import Variant
from tasks.lib.engines.base import Server
from tasks.lib.measure import agreement, verdict
from tasks.lib.measure.load import Load
from tasks.lib.measure.measurement import measure
from tasks.lib.measure.rounds import Instance, Rounds, run_rounds, turns
from tasks.lib.measure.tolerance import Tolerances
from tasks.lib.measure.verdict import BASELINE, CANDIDATE, CONTROL, FEWEST, OLD, TWIN, Comparison
from tasks.lib.measure.warmup import warm_up
from tasks.lib.models import user_requests
from tasks.lib.models.samples import Samples
from tasks.lib.models.store import Model
from tasks.lib.optimize.candidates import Candidate, Group, Memory

if TYPE_CHECKING:
    from tasks.lib.engines.local.engine import LocalEngine

ANSWER_SECONDS = 20.0
"""After so long only the fewest requests of a signature are compared: the proof has compared more of them."""
FEWEST_SAMPLES = 3
MEASURED_SECONDS = 30.0
"""For timing all signatures together, or benchmark.max_seconds if that is less. The first one has its fewest
rounds however long they take."""
FIRST_SECONDS = 15.0
"""Of these, for the signature that decides which precision is served."""
WARMUP_SECONDS = 3.0
"""For each signature: it was asked before."""
NARROW = 0.05
"""Of an interval and of the noise: precisions differ by tens of percents."""
LARGEST_BLOCK = 12
"""Requests."""


@dataclass(frozen=True)
class Observed:
    """What servers showed of one signature."""

    stock_p50: float | None
    """Seconds; None where it was not measured."""
    candidates: tuple[Candidate, ...]
    """Those that were given, with what was seen."""
    hollow: str | None = None
    """What is said where the requests are too alike for the model to prove anything."""


BUSY = (429, 503, 504)
"""HTTP statuses of a server that may answer another time."""


@dataclass(frozen=True)
class Bench:
    """Stock and the optimized servers, all of them up."""

    settings: Settings
    engine: LocalEngine
    stock: Server
    optimized: Mapping[str, Server]
    """By precision."""
    given: Given | None
    """Requests of a person's own."""
    made: Samples
    """Those of the model."""

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        """Stock's."""
        return self._client(self.stock).metadata()

    def _client(self, server: Server) -> Client:
        return Client(server.url, self.settings.benchmark.plan.timeout)

    def observed(self, groups: Sequence[Sequence[Candidate]]) -> list[Observed]:
        """Ask and time the candidates of each signature, the deciding signature first.

        Raises ModelError for photos that no signature takes, RequestRefused if stock refuses every request
        that a person has given for a signature.
        """
        self._check_given()
        deadline = time.monotonic() + ANSWER_SECONDS
        compared = [self._compared(candidates, deadline) for candidates in groups]
        left = min(MEASURED_SECONDS, self.settings.benchmark.plan.max_seconds)
        seen = []
        for number, group in enumerate(compared):
            share = min(FIRST_SECONDS, left) if number == 0 else left / (len(groups) - number)
            begun = time.monotonic()
            is_timed = number == 0 or 2 * FEWEST * group.cost <= share
            speeds = self._timed(group, share) if group.agreeing and is_timed else NOT_TIMED
            left = max(0.0, left - (time.monotonic() - begun))
            seen.append(Observed(speeds.stock, tuple(map(speeds.added_to, group.candidates)), group.hollow))
        return seen

    # Answers

    def _check_given(self) -> None:
        if self.given is None or not self.given.photos:
            return
        all_of_it = [named_signature(self.metadata, name) for name in signature_names(self.metadata)]
        if not any(user_requests.takes_photos(self.made, signature) for signature in all_of_it):
            user_requests.requests_for(
                self.made, all_of_it[0], self.given.photos
            )  # raises, naming what it takes

    def _compared(self, candidates: Sequence[Candidate], deadline: float) -> _Compared:
        """The candidates of one signature with their agreement, where stock answers a request."""
        signature = named_signature(self.metadata, candidates[0].group.signatures[0])
        asked = self._asked(signature, self._samples(candidates[0].group, signature), deadline)
        if not asked.bodies:
            return _Compared(tuple(candidates), (), {}, 0.0, None)  # the proof alone decides
        compared = [self._with_agreement(candidate, signature, asked) for candidate in candidates]
        agreeing = {one.precision: seconds for one, seconds in compared if one.refused is None}
        cost = 2 * (asked.seconds + sum(agreeing.values()))
        tolerances = Tolerances(candidates[0].limit)
        scores = agreement.scores_output(signature)
        name = scores.name if scores else None
        hollow = None
        if agreement.exchangeable(asked.answers, name, tolerances) > agreement.MOST_EXCHANGEABLE:
            hollow = f"{signature.name}: {agreement.hollow_note(len(asked.answers))}"
        return _Compared(tuple(one for one, _ in compared), asked.bodies, agreeing, cost, hollow)

    def _samples(self, group: Group, signature: Signature) -> _Samples:
        """The requests that a person has given for a signature or its twins, else made-up ones."""
        if self.given is not None:
            default = self._default_name()
            own = [
                sample
                for name in group.signatures
                for sample in user_requests.given_for(
                    self.given, self.made, replace(signature, name=name), default
                )
            ]
            if own:
                return _Samples(own, are_given=True)
        try:
            return _Samples(self.made.of(signature), are_given=False)
        except ModelError:
            return _Samples([], are_given=False)

    def _default_name(self) -> str:
        try:
            return default_signature(self.metadata).name
        except ModelError:
            return ""

    def _asked(self, signature: Signature, samples: _Samples, deadline: float) -> _Asked:
        """Stock's answers; requests that it refuses are left out, as the proof has compared the errors."""
        client = self._client(self.stock)
        bodies: list[bytes] = []
        answers: list[Mapping[str, Any]] = []
        times: list[float] = []
        refusal: RequestRefused | None = None
        for sample in samples.requests:
            if len(answers) >= FEWEST_SAMPLES and time.monotonic() > deadline:
                break
            before = time.perf_counter()
            try:
                answer = agreement.answer(client, signature, sample.body)
            except RequestRefused as error:
                refusal = error
                continue
            except ServerError:
                client.metadata()  # raises if the server itself is gone
                break  # its answers have another form than one row for one instance
            times.append(time.perf_counter() - before)
            bodies.append(sample.body)
            answers.append(answer)
        if refusal is not None and not bodies and samples.are_given:
            raise refusal
        return _Asked(bodies, answers, statistics.median(times) if times else 0.0)

    def _with_agreement(
        self, candidate: Candidate, signature: Signature, asked: _Asked
    ) -> tuple[Candidate, float]:
        """The candidate with its agreement, and the seconds that one of its answers takes."""
        client = self._client(self.optimized[candidate.precision])
        answers, times = [], []
        for body in asked.bodies:
            before = time.perf_counter()
            try:
                answers.append(agreement.answer(client, signature, body))
            except RequestRefused as error:
                failure = f"it refuses a request that stock answers ({error.message.rstrip('. ')})"
                if error.status in BUSY:
                    failure = f"it does not answer in time ({error.message.rstrip('. ')})"
                return replace(candidate, failure=failure), 0.0
            except ServerError as error:
                client.metadata()  # raises if the server itself is gone
                timed_out = "Timeout" in error.problem
                form = "its answers have a different structure from stock's"
                return replace(candidate, failure="it does not answer in time" if timed_out else form), 0.0
            times.append(time.perf_counter() - before)
        scores = agreement.scores_output(signature)
        alike = agreement.compare_answers(
            zip(asked.answers, answers, strict=True),
            scores.name if scores else None,
            Tolerances(candidate.limit),
        )
        return replace(candidate, agreement=alike), statistics.median(times)

    # Speed

    def _timed(self, compared: _Compared, seconds: float) -> _Speeds:
        """Each precision that agrees against stock, in alternation."""
        plan = self.settings.benchmark.plan
        precisions, bodies = list(compared.agreeing), compared.bodies
        # The fewest rounds take half of the time.
        size = max(1, min(LARGEST_BLOCK, int(seconds / 2 / (2 * FEWEST * max(compared.cost, 1e-6)))))
        sides = {OLD: self.stock, **{_labels(one): self.optimized[one] for one in precisions}}
        with ExitStack() as stack:
            loads = [
                (label, stack.enter_context(Load([server.url], plan.timeout)))
                for labels, server in sides.items()
                for label in labels
            ]
            requests = {label: [load.prepare(body) for body in bodies] for label, load in loads}
            by_label = dict(loads)
            servers = {labels[0]: [by_label[label] for label in labels] for labels in sides}
            block = {name: turns(requests[name], size) for name in servers}
            warm_up(servers, block, Load.send_closed_loop, min(WARMUP_SECONDS, plan.warmup_seconds))
            enough = _Enough(precisions, seconds)
            with console.progress(f"measuring {compared.candidates[0].group}", seconds, unit="s") as bar:
                # Ended by `enough`: the fewest rounds are measured however long they take.
                endless = replace(plan, min_seconds=0, max_seconds=float("inf"))
                rounds = run_rounds([Instance(loads, requests)], size, endless, enough, bar.update)
        p50s = {
            name: measure([block for one in rounds for label in labels for block in one[label]]).p50
            for name, labels in (("", OLD), *((p, _labels(p)) for p in precisions))
        }
        speeds = {p: (p50s[p], verdict.at_p50(_as_pair(rounds, p))) for p in precisions}
        return _Speeds(p50s[""], speeds)

    # Memory

    def memory(self, precision: str, executed: Sequence[Group]) -> Memory:
        """What stock takes, and the server of `precision` before and after it has loaded TensorFlow's part.

        A request with NaN makes it do so; there is none if no signature of `executed` takes floats.
        """
        server = self.optimized[precision]
        stock, before = self.engine.memory(self.stock), self.engine.memory(server)
        broken = next(filter(None, map(self._broken, executed)), None)
        if broken is None:
            return Memory(stock, before, None)
        try:
            self._client(server).predict(broken)
        except RequestRefused:
            pass  # as stock would: it was loaded all the same
        except ServerError as error:
            console.note(f"memory with TensorFlow is not known: {error.problem}")
            return Memory(stock, before, None)
        return Memory(stock, before, self.engine.memory(server))

    def _broken(self, group: Group) -> bytes | None:
        """A request of this signature with NaN in one of its float inputs; None if there is none."""
        signature = named_signature(self.metadata, group.signatures[0])
        name = next((one.name for one in signature.inputs if one.dtype in agreement.FLOATS), None)
        samples = self._samples(group, signature).requests if name is not None else []
        if name is None or not samples:
            return None
        body = json.loads(samples[0].body)
        if "inputs" in body:
            return json.dumps({**body, "inputs": _broken_in(body["inputs"], name)}).encode()
        instances = [_broken_in(instance, name) for instance in body["instances"]]
        return json.dumps({**body, "instances": instances}).encode()


@contextmanager
def serving(
    settings: Settings,
    model: Model,
    artefacts: Path,
    precisions: Sequence[str],
    given: Given | None,
    made: Samples,
) -> Iterator[Bench]:
    """Serve stock, and the artefact in the folder `artefacts` in each precision, while the block lasts."""
    from tasks.lib.engines.local.engine import LocalEngine

    # The artefact is not in its place yet: that is what passing this check is for.
    engine = LocalEngine(settings, extra_flags=[f"--optimized_base_path={artefacts}"])
    with ExitStack() as stack:

        def up(variant: Variant) -> Server:
            server = engine.start(model, variant, temporary=True)
            stack.callback(processes.finish, engine.stop, server, settings.serve.stop_grace)
            return server

        stock = up(Variant("check-stock", "tensorflow", "f32"))
        optimized = {p: up(Variant(f"check-{p}", "openvino", p)) for p in precisions}
        yield Bench(settings, engine, stock, optimized, given, made)


@dataclass(frozen=True)
class _Samples:
    requests: Sequence[Sample]
    are_given: bool


@dataclass(frozen=True)
class _Asked:
    """What stock has answered."""

    bodies: Sequence[bytes]
    answers: Sequence[Mapping[str, Any]]
    seconds: float
    """The median of the times."""


@dataclass(frozen=True)
class _Compared:
    """The candidates of one signature after answers were compared."""

    candidates: tuple[Candidate, ...]
    bodies: Sequence[bytes]
    """The requests that stock answers."""
    agreeing: Mapping[str, float]
    """The precisions that agree, and the seconds that an answer takes in each."""
    cost: float
    """What one request under every label of a round takes, in seconds."""
    hollow: str | None
    """See Observed."""


@dataclass(frozen=True)
class _Speeds:
    stock: float | None
    precisions: Mapping[str, tuple[float | None, Comparison]]
    """p50 in seconds, and against stock."""

    def added_to(self, candidate: Candidate) -> Candidate:
        if candidate.precision not in self.precisions or candidate.refused is not None:
            return candidate
        p50, speed = self.precisions[candidate.precision]
        return replace(candidate, p50=p50, speed=speed)


NOT_TIMED = _Speeds(None, {})


class _Enough:
    """Whether the rounds are narrow enough for every precision, or the time is up; never before FEWEST."""

    def __init__(self, precisions: Sequence[str], seconds: float) -> None:
        self._precisions = precisions
        self._deadline = time.monotonic() + seconds

    def __call__(self, rounds: Rounds) -> bool:
        if len(rounds) < FEWEST:
            return False
        if time.monotonic() >= self._deadline:
            return True
        compared = [verdict.at_p50(_as_pair(rounds, precision)) for precision in self._precisions]
        return all(one.interval.width <= NARROW and one.noise <= NARROW for one in compared)


def _labels(precision: str) -> tuple[str, str]:
    """Two for the same reason as a verdict's candidate has two: all blocks are of one size."""
    return f"{precision} {CANDIDATE}", f"{precision} {TWIN}"


def _as_pair(rounds: Rounds, precision: str) -> Rounds:
    """The rounds as those of stock and of one precision alone."""
    candidate, twin = _labels(precision)
    return [
        {BASELINE: one[BASELINE], CONTROL: one[CONTROL], CANDIDATE: one[candidate], TWIN: one[twin]}
        for one in rounds
    ]


def _broken_in(values: Any, name: str) -> Any:
    """An instance, or whole inputs, with NaN for every number of one input."""
    if isinstance(values, dict) and name in values:
        return {**values, name: _of_nan(values[name])}
    return _of_nan(values)


def _of_nan(value: Any) -> Any:
    """Nested lists with NaN for every number."""
    return [_of_nan(item) for item in value] if isinstance(value, list) else float("nan")
