"""One signature proven: the optimized model answers like TensorFlow, or a clause says where it does not.

1. Ordinary requests, and those that the user gave: both answer, and TensorFlow's answers say of what scale
   the outputs are.
2. Requests made to break it.
3. The first ordinary ones three times in turn: answers that drift show.
4. All ordinary ones from four threads at once, twice: answers that depend on their neighbours show.

The time is bounded. The requests come in the order of what they tell, and those that are left when the time
is up are left out; but never the first ones of each step.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from embedded_server.common import errors
from embedded_server.execution.backend import Array, Backend
from embedded_server.execution.signature import Signature
from embedded_server.proving import breaking, numbers, templates
from embedded_server.proving.breaking import Request
from embedded_server.proving.compare import (
    Comparison,
    Disagreement,
    Outcome,
    Scales,
    ask,
    compare,
    excused,
    is_near_tie,
)
from embedded_server.proving.templates import Template

ROUNDING: Mapping[str, float] = {"f32": 1e-6, "bf16": 4e-3}
"""How much each precision changes a number, as a part of it: a bit more than half a step."""

STOCK, OPTIMIZED = "TensorFlow", "the optimized model"

_SHARES = {"ordinary": 0.45, "breaking": 0.75}
"""Of the time, after which each step ends."""
_CORE_ORDINARY = 3
_CORE_BREAKING = 2
_REPEATED = 4
_TIMES = 3
_THREADS = 4
_GIVEN = "given"
_MOST_GIVEN = 40
_MOST_TEMPLATES = 4
_MOST_KEPT = 256 << 20
"""Bytes of ordinary requests and answers that are kept for the steps after the first."""


@dataclass(frozen=True)
class Finding:
    """What the proof of a signature found.

    requests: how many different ones both were asked.
    difference: the largest over ordinary and given requests, in the unit of the limit.
    problem: a clause on the worst disagreement; None if there is none.
    """

    requests: int
    difference: float
    problem: str | None


def prove(
    stock: Backend,
    optimized: Backend,
    signature: Signature,
    limit: float,
    given: Sequence[Mapping[str, Array]] = (),
    photos: Sequence[bytes] = (),
    seconds: float = 20.0,
    examples: Sequence[bytes] = (),
    rounding: float = ROUNDING["f32"],
    watch: Callable[[str, str], None] = lambda who, label: None,
    skipped: Collection[str] = (),
) -> Finding:
    """Compare `optimized` with `stock` over one signature.

    limit: the largest difference allowed (compare says in which unit).
    given: inputs of requests that the user gave. photos, examples: JPEG files and serialized tf.Examples, for
    a signature with one input of strings. seconds: when to stop asking.
    rounding: of the precision; see ROUNDING.
    watch: is told who is asked, STOCK or OPTIMIZED, and what, before that happens.
    skipped: labels of requests that must not be made.
    """
    for name, spec in (*signature.inputs.items(), *signature.outputs.items()):
        if spec.dtype.numpy is None:
            return Finding(0, 0.0, f"{name!r} is of type {spec.dtype.name}, which no request can carry")
    proof = _Proof(stock, optimized, signature, limit, rounding, seconds, watch, skipped)
    proof.run(given, {"photo": photos, "tf.Example": examples})
    return proof.finding()


@dataclass(frozen=True)
class _Kept:
    """An ordinary request and TensorFlow's answer to it."""

    request: Request
    expected: Outcome


class _Decided(Exception):
    """There is a disagreement that no limit allows: nothing else matters."""


class _Proof:
    def __init__(
        self,
        stock: Backend,
        optimized: Backend,
        signature: Signature,
        limit: float,
        rounding: float,
        seconds: float,
        watch: Callable[[str, str], None],
        skipped: Collection[str],
    ) -> None:
        self._watch = watch
        self._skipped = skipped
        self._stock = stock
        self._optimized = optimized
        self._signature = signature
        self._limit = limit
        self._rounding = rounding
        self._seconds = seconds
        self._began = time.monotonic()
        self._scales = Scales(frozenset(), {})
        self._requests = 0
        self._difference = 0.0
        self._worst: tuple[float, str] | None = None
        """The largest disagreement that another limit would allow."""
        self._problem: str | None = None
        """One that no limit allows."""

    def run(self, given: Sequence[Mapping[str, Array]], samples: Mapping[str, Sequence[bytes]]) -> None:
        """Ask both. `finding` says what came of it."""
        maker = breaking.Maker(self._signature)
        fitting = self._fitting_templates(maker)
        ordinary = breaking.ordinary(maker, fitting, samples, self._text_input())
        kept = self._asked_of_stock(breaking.alternating(_given(self._signature, given), ordinary))
        self._scales = Scales.learned((entry.request, entry.expected) for entry in kept)
        try:
            if not any(not isinstance(entry.expected, errors.ServingError) for entry in kept):
                self._problem = (
                    "TensorFlow answers none of the requests that the proof makes: give some of your own"
                )
                raise _Decided
            kept = self._asked_of_optimized(kept)
            kept = [entry for entry in kept if not isinstance(entry.expected, errors.ServingError)]
            bases = {
                entry.request.family: entry.request
                for entry in reversed(kept)
                if entry.request.family in (_GIVEN, *samples)
            }
            self._break(breaking.breaking(maker, self._signature, fitting, list(bases.values())))
            self._repeat(kept)
            self._ask_at_once(kept)
        except _Decided:
            pass

    def finding(self) -> Finding:
        problem = self._problem or (None if self._worst is None else self._worst[1])
        return Finding(self._requests, self._difference, problem)

    def _past(self, share: float) -> bool:
        return time.monotonic() - self._began > share * self._seconds

    def _text_input(self) -> str | None:
        if len(self._signature.inputs) != 1:
            return None
        ((name, spec),) = self._signature.inputs.items()
        return name if numbers.kind_of(spec) == "s" else None

    def _fitting_templates(self, maker: breaking.Maker) -> list[Template]:
        """Sizes for the open dimensions that TensorFlow takes; the likeliest ones if it takes none."""
        candidates = list(templates.templates(self._signature))
        if len(candidates) == 1:
            return candidates
        fitting: list[Template] = []
        told: list[int] = []
        for number, template in enumerate(candidates):
            if len(fitting) == _MOST_TEMPLATES or (fitting and number >= _MOST_TEMPLATES):
                break
            outcome = self._ask_stock(maker.request(template, numbers.NORMAL, 1))
            if not isinstance(outcome, errors.ServingError):
                fitting.append(template)
            else:
                told += templates.sizes_in(str(outcome))
        if fitting:
            return fitting
        likely = islice(templates.templates(self._signature, told), 4, 24)
        for template in chain(likely, templates.uneven_templates(self._signature, told)):
            if templates.elements_of(template) > numbers.MOST_ELEMENTS:
                continue
            outcome = self._ask_stock(maker.request(template, numbers.NORMAL, 1))
            if not isinstance(outcome, errors.ServingError):
                return [template]
        return candidates[:1]

    def _asked_of_stock(self, requests: Iterable[Request]) -> list[_Kept]:
        kept: list[_Kept] = []
        size = answered = 0
        for request in requests:
            if request.label in self._skipped:
                continue
            if answered >= _CORE_ORDINARY and (self._past(_SHARES["ordinary"] / 2) or size > _MOST_KEPT):
                break
            expected = self._ask_stock(request)
            kept.append(_Kept(request, expected))
            if not isinstance(expected, errors.ServingError):
                answered += 1
                size += sum(array.nbytes for array in (*request.inputs.values(), *expected.values()))
        return kept

    def _asked_of_optimized(self, kept: Sequence[_Kept]) -> list[_Kept]:
        """Those of `kept` that the time is enough for."""
        answered = 0
        for number, entry in enumerate(kept):
            if answered >= _CORE_ORDINARY and self._past(_SHARES["ordinary"]):
                return list(kept[:number])
            answered += not isinstance(entry.expected, errors.ServingError)
            self._requests += 1
            self._check(entry, self._ask_optimized(entry.request))
        return list(kept)

    def _ask_stock(self, request: Request) -> Outcome:
        self._watch(STOCK, request.label)
        return ask(self._stock, self._signature.name, request.inputs)

    def _ask_optimized(self, request: Request) -> Outcome:
        self._watch(OPTIMIZED, request.label)
        return ask(self._optimized, self._signature.name, request.inputs)

    def _break(self, requests: Iterator[Request]) -> None:
        for number, request in enumerate(requests):
            if number >= _CORE_BREAKING and self._past(_SHARES["breaking"]):
                return
            if request.label in self._skipped:
                continue
            expected = self._ask_stock(request)
            actual = self._ask_optimized(request)
            self._requests += 1
            self._check(_Kept(request, expected), actual)

    def _repeat(self, kept: Sequence[_Kept]) -> None:
        for _ in range(_TIMES):
            for entry in kept[:_REPEATED]:
                self._check(entry, self._ask_optimized(entry.request), "asked again")

    def _ask_at_once(self, kept: Sequence[_Kept]) -> None:
        order = [*kept, *kept]
        random.Random(0).shuffle(order)
        # Those after the first ones check the time themselves: no thread knows how long the others take.
        order = [*kept[:_THREADS], *order]
        self._watch(OPTIMIZED, "several requests at the same time")

        def answer(position: int) -> Outcome | None:
            if position >= _THREADS and self._past(1.0):
                return None
            return ask(self._optimized, self._signature.name, order[position].request.inputs)

        with ThreadPoolExecutor(_THREADS) as threads:
            for entry, actual in zip(order, threads.map(answer, range(len(order))), strict=True):
                if actual is not None:
                    self._check(entry, actual, "with other requests at the same time")

    def _check(self, entry: _Kept, actual: Outcome, circumstance: str = "") -> None:
        """Note what a comparison finds. Raises _Decided."""
        comparison = self._compare(entry, actual)
        if entry.request.ordinary:
            self._difference = max(self._difference, comparison.difference)
        if not comparison.disagreements:
            return
        if entry.request.ordinary and not circumstance:
            self._check_stock(entry)
        label = ", ".join(part for part in (entry.request.label, circumstance) if part)
        for disagreement in comparison.disagreements:
            text = f"{disagreement.text} ({label})"
            if disagreement.amount is None:
                self._problem = text
                raise _Decided
            if self._worst is None or disagreement.amount > self._worst[0]:
                self._worst = disagreement.amount, text

    def _compare(self, entry: _Kept, actual: Outcome) -> Comparison:
        """Without the disagreements that TensorFlow's own indecision excuses."""
        comparison = compare(entry.request, entry.expected, actual, self._scales, self._limit)
        counted = tuple(
            disagreement
            for disagreement in comparison.disagreements
            if not self._excused(entry, actual, disagreement)
        )
        return Comparison(comparison.difference, counted)

    def _excused(self, entry: _Kept, actual: Outcome, disagreement: Disagreement) -> bool:
        if disagreement.output is None or isinstance(entry.expected, errors.ServingError):
            return False
        assert not isinstance(actual, errors.ServingError)
        answers = entry.expected, actual
        if is_near_tie(entry.request, *answers, disagreement.output, self._scales, self._limit):
            return True
        return excused(
            self._stock, self._signature.name, entry.request,
            entry.expected[disagreement.output], actual[disagreement.output],
            disagreement.output, self._rounding,
        )  # fmt: skip

    def _check_stock(self, entry: _Kept) -> None:
        """Raises _Decided if TensorFlow does not agree with itself."""
        again = self._ask_stock(entry.request)
        if self._compare(entry, again).disagreements:
            self._problem = "TensorFlow answers the same request differently each time"
            raise _Decided


def _given(signature: Signature, given: Sequence[Mapping[str, Array]]) -> Iterator[Request]:
    """The user's requests; if there are many, some from beginning to end."""
    chosen = np.unique(np.linspace(0, len(given) - 1, min(len(given), _MOST_GIVEN)).astype(int))
    for number in chosen.tolist():
        inputs = given[number]
        rows = {
            len(inputs[name])
            for name, spec in signature.inputs.items()
            if inputs[name].ndim and (spec.shape is None or spec.shape[:1] == (None,))
        }
        yield Request(
            f"request {number + 1} of those given",
            inputs,
            _GIVEN,
            True,
            rows.pop() if len(rows) == 1 else None,
        )
