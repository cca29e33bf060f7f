"""Every kind of model in the zoo: converted as far as it has to be, and answered as TensorFlow answers."""

from __future__ import annotations

import concurrent.futures
import contextlib
import random
import re
from collections.abc import Callable, Iterator

import pytest
from zoo import KINDS
from zoo.asking import Asked, fits_json
from zoo.breaking import made_to_break
from zoo.comparing import LIMITS, Failure, difference, unmet
from zoo.control import CHANCE
from zoo.kind import Kind, Request
from zoo.servers import OPTIMIZED, STOCK, Truth, Written, described, serving, write

REPEATS = 3
THREADS = 4
BACKENDS = (STOCK, OPTIMIZED)

every_kind = pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.name) for kind in KINDS])
every_backend = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write(tmp_path_factory.mktemp("zoo"), KINDS)


@pytest.fixture(scope="module")
def truth(written: Written) -> Truth:
    return Truth(written.folder)


@pytest.fixture(scope="module")
def asked(written: Written) -> Iterator[Callable[[str], Asked]]:
    """The server of a backend, started when it is first needed, and once."""
    running: dict[str, Asked | None] = {}
    with contextlib.ExitStack() as stack:

        def start(backend: str) -> Asked:
            if backend not in running:
                running[backend] = None
                running[backend] = stack.enter_context(serving(written, backend))
            server = running[backend]
            assert server, "it did not start"
            return server

        yield start


def test_the_zoo_is_large_and_varied() -> None:
    assert len(KINDS) >= 66
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    optimized = [kind for kind in KINDS if kind.optimized]
    assert len(optimized) >= 45
    assert sum(kind.plain for kind in KINDS) <= 15
    for kind in KINDS:
        assert {signature for signature, _ in kind.requests} == kind.shares.keys(), kind.name


def test_most_kinds_are_optimized(written: Written) -> None:
    reached = [kind for kind in KINDS if any(written.share(kind, s) >= 0.9 for s in kind.shares)]
    assert len(reached) >= 45, sorted({kind.name for kind in KINDS} - {kind.name for kind in reached})


@every_kind
def test_openvino_executes_its_share(written: Written, kind: Kind) -> None:
    assert kind.name not in written.failures, written.failures[kind.name]
    for signature, least in kind.shares.items():
        share = written.share(kind, signature)
        assert share >= least, f"{signature}: {share:.3f}: {written.why_not(kind, signature)}"
    for signature, pattern in kind.reasons.items():
        assert re.search(pattern, written.why_not(kind, signature)), written.why_not(kind, signature)


@every_kind
@every_backend
def test_ordinary_requests(
    written: Written, truth: Truth, asked: Callable[[str], Asked], backend: str, kind: Kind
) -> None:
    before = asked(backend).handed_over(kind.name)
    check(written, truth, asked, backend, kind, kind.requests)
    assert asked(backend).handed_over(kind.name) == before, "TensorFlow executed an ordinary request"


@every_kind
@every_backend
def test_requests_made_to_break(
    written: Written, truth: Truth, asked: Callable[[str], Asked], backend: str, kind: Kind
) -> None:
    check(written, truth, asked, backend, kind, made_to_break(kind))


def check(
    written: Written,
    truth: Truth,
    asked: Callable[[str], Asked],
    backend: str,
    kind: Kind,
    requests: list[Request],
) -> None:
    """Each request over gRPC and, where JSON can carry it, over REST."""
    if kind not in written.kinds_of(backend):
        return  # there is no artefact; test_openvino_executes_its_share tells whether that is right
    server, limit = asked(backend), LIMITS[kind.tolerance]
    problems = []
    for signature, inputs in requests:
        expected, vague = truth.answer(kind, signature, inputs), signature in kind.vague
        answers = {"gRPC": server.by_grpc(kind.name, signature, inputs)}
        if kind.json and fits_json(inputs, expected):
            answers["REST"] = server.by_rest(kind.name, signature, inputs, expected)
        for protocol, answer in answers.items():
            problem = difference(answer, expected, limit, vague)
            if problem:
                problems.append(f"{protocol} {described(signature, inputs)}: {problem}")
    assert not problems, "\n".join([f"{len(problems)} answers differ:", *problems])


OUTCOMES = [pytest.param(kind, id=kind.name) for kind in KINDS if kind.outcomes]


@pytest.mark.parametrize("kind", OUTCOMES)
@every_backend
def test_outcomes(
    written: Written, truth: Truth, asked: Callable[[str], Asked], backend: str, kind: Kind
) -> None:
    """What is written down as right: TensorFlow itself answers it, and so does the server."""
    served = kind in written.kinds_of(backend)
    for outcome in kind.outcomes:
        expected = truth.answer(kind, outcome.signature, outcome.inputs)
        assert unmet(outcome, expected) is None
        if served:
            answer = asked(backend).by_grpc(kind.name, outcome.signature, outcome.inputs)
            assert unmet(outcome, answer) is None, described(outcome.signature, outcome.inputs)
            assert difference(answer, expected, LIMITS[kind.tolerance]) is None


@every_backend
def test_answers_do_not_drift(
    written: Written, truth: Truth, asked: Callable[[str], Asked], backend: str
) -> None:
    """Every ordinary request several times, in any order, from several threads."""
    requests = [
        (kind, *request)
        for kind in written.kinds_of(backend)
        for request in [*kind.requests, *((case.signature, case.inputs) for case in kind.outcomes)]
        if request[0] not in kind.vague
    ] * REPEATS
    random.Random(7).shuffle(requests)
    expected = [truth.answer(*request) for request in requests]
    server = asked(backend)
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(lambda request: server.by_grpc(request[0].name, *request[1:]), requests))
    problems = [
        f"{kind.name} {described(signature, inputs)}: {problem}"
        for (kind, signature, inputs), answer, right in zip(requests, answers, expected, strict=True)
        if (problem := difference(answer, right, LIMITS[kind.tolerance]))
    ]
    assert not problems, "\n".join([f"{len(problems)} answers differ:", *problems])


@every_backend
def test_a_counter_counts(written: Written, asked: Callable[[str], Asked], backend: str) -> None:
    """Every call that changes a variable is seen by the next one, and by the signatures that read it."""
    kind = next(kind for kind in KINDS if kind.name == "counter")
    inputs = kind.requests[0][1]

    def calls(signature: str) -> int:
        answer = asked(backend).by_grpc(kind.name, signature, inputs)
        assert not isinstance(answer, Failure), answer
        return int(answer["calls"])

    before = calls("read")
    assert [calls("serving_default") for _ in range(3)] == [before + 1, before + 2, before + 3]
    assert calls("read") == before + 3


@every_backend
@pytest.mark.parametrize("signature", CHANCE)
def test_chance_is_not_frozen(
    written: Written, asked: Callable[[str], Asked], backend: str, signature: str
) -> None:
    """What an operation draws is another number in every call, also if it needs nothing of the request."""
    kind = next(kind for kind in KINDS if kind.name == "random")
    inputs = next(inputs for name, inputs in kind.requests if name == signature)
    first, second = (asked(backend).by_grpc(kind.name, signature, inputs) for _ in range(2))
    assert not isinstance(first, Failure), first
    assert difference(second, first, 0.0) is not None
