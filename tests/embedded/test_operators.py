"""Every operation of the allow-list is computed by OpenVINO as by TensorFlow (converting/operations.py).

The short form: a few variants of each operation and type. operators_long.py compares all of them, with new
numbers each time, for as long as it is told.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterator, Sequence

import operator_cases
import pytest
import tensorflow as tf
from embedded_server.converting.operations import PROVEN
from operator_cases import Case
from operator_comparison import Graph, Result, compare_graph
from operator_refusals import REFUSALS, Refusal, answers, tensorflow_refuses

_PROFILES = ("special", "ties", "low", 1.0)
_VARIANTS, _VARIANTS_OF_OTHERS = 2, 1
"""How many cases of an operation the short form compares: those of float32, and those of each other type."""


@pytest.fixture(scope="module")
def cases() -> dict[str, list[Case]]:
    """By operation."""
    found: dict[str, list[Case]] = {}
    names = {case.name for case in operator_cases.traps()}
    for case in operator_cases.cases():
        if case.name in names:
            continue  # they have a test of their own
        found.setdefault(case.op, []).append(case)
    return found


@pytest.mark.parametrize("op", sorted(PROVEN))
def test_openvino_computes_it_as_tensorflow(cases: dict[str, list[Case]], op: str) -> None:
    """Also that the rules let a case of it through for each type that they say is proven."""
    covered: set[tuple[str, tf.DType, bool]] = set()
    problems = []
    for variants in _by_type(cases.get(op, [])):
        count = _VARIANTS if tf.float32 in _types(variants[0]) else _VARIANTS_OF_OTHERS
        tried = _spread(variants, count)[: 4 * count]
        with contextlib.closing(_admitted(tried)) as graphs:
            for graph in itertools.islice(graphs, count):
                covered |= graph.covered()
                problems.extend(_problems(graph))
    assert not problems, "\n".join(problems)
    assert not list(_missing(op, covered))


@pytest.mark.parametrize("case", operator_cases.traps(), ids=lambda case: case.name)
def test_traps(case: Case) -> None:
    """The rules keep these out, or OpenVINO computes them as TensorFlow."""
    for graph in _admitted([case]):
        assert not list(_problems(graph))


def _admitted(cases: Sequence[Case]) -> Generator[Graph, None, None]:
    """The graphs that the rules let into a body."""
    for case in cases:
        graph = Graph(case)
        try:
            if graph.refused() is None:
                yield graph
        finally:
            graph.close()


def _by_type(cases: Sequence[Case]) -> list[list[Case]]:
    found: dict[tuple[object, ...], list[Case]] = {}
    for case in cases:
        if not case.differs:
            made = ""
            if case.op in ("Cast", "Fill"):
                made = case.variant
            elif case.of_shapes:
                made = case.variant.split()[-1]
            found.setdefault((_types(case), made), []).append(case)
    return list(found.values())


def _types(case: Case) -> tuple[tf.DType, ...]:
    return tuple(tensor.dtype for tensor in case.inputs)


def _spread(cases: Sequence[Case], count: int) -> list[Case]:
    """All, but first some that are far from each other in the list, where neighbours are alike."""
    step = max(1, len(cases) // count)
    first = list(range(0, len(cases), step))
    return [cases[n] for n in (*first, *(n for n in range(len(cases)) if n % step))]


def _problems(graph: Graph) -> Iterator[str]:
    result = Result()
    graph.compile()
    compare_graph(graph, _PROFILES, (1, 3), 7, result)
    if result.problem:
        yield f"{graph.case.name}: {result.problem}"


def _missing(op: str, covered: set[tuple[str, tf.DType, bool]]) -> Iterator[str]:
    """The types for which the table has the operation, and no case has."""
    outputs = operator_cases.output_types(op)
    for dtype in PROVEN[op].types:
        if dtype in outputs and not {(op, dtype, False), (op, dtype, True)} & covered:
            yield dtype.name
    if PROVEN[op].shapes:
        for dtype in (tf.int32, tf.int64):
            if dtype in outputs and (op, dtype, True) not in covered:
                yield f"{dtype.name} of shapes"


@pytest.mark.parametrize(
    "case", [case for case in operator_cases.cases() if case.differs], ids=lambda case: case.name
)
def test_what_differs_is_kept_out_of_bodies(case: Case) -> None:
    graph = Graph(case)
    try:
        assert graph.refused() is not None, case.differs
    finally:
        graph.close()


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_what_tensorflow_refuses_is_not_answered(refusal: Refusal) -> None:
    """Sizes do not fit. The rules or the condition on sizes see that, or OpenVINO fails too."""
    graph = Graph(refusal.case)
    try:
        assert tensorflow_refuses(graph, refusal), "TensorFlow answers"
        kept_out = graph.refused() is not None or graph.breaks_condition(refusal.values())
        assert kept_out or not answers(graph, refusal)
    finally:
        graph.close()
