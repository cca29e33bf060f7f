"""tasks.lib.optimize.candidates: which precision serves each signature, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tasks.lib.measure.agreement import compare_answers
from tasks.lib.measure.stats import Interval
from tasks.lib.measure.tolerance import Tolerances
from tasks.lib.measure.verdict import Comparison
from tasks.lib.models.artefact import AUTO, Converted, Program
from tasks.lib.optimize import candidates
from tasks.lib.optimize.candidates import Candidate, Group, Memory, Outcome, Proof, decide, table

LIMITS = {"f32": 0.0005, "bf16": 0.05}
GOOD = Proof(57, 1e-6, None)
FAR = Proof(57, 0.3, "'y' differs by 0.3, and 0.05 is allowed (3 rows, numbers up to 1e+06)")
UNLIKE = Proof(57, 0.3, "2 of 57 answers have another value of 'n'")
DEFAULT = Group(("serving_default", "predict"), Program(0.9999, 100, "a"))
HEAVY = Group(("score",), Program(1.0, 1000, "b"))
LIGHT = Group(("count",), Program(0.5, 10, "c"))


def one(
    precision: str,
    group: Group = DEFAULT,
    proof: Proof = GOOD,
    p50: float | None = 0.010,
    ratio: float | None = 2.0,
    **more: Any,
) -> Candidate:
    """A candidate that is `ratio` times as fast as stock, give or take 2 %, with a noise of 1 %."""
    speed = None if ratio is None else Comparison(Interval(ratio, ratio * 0.98, ratio * 1.02), 0.01)
    return Candidate(group, precision, LIMITS[precision], proof, p50=p50, speed=speed, **more)


def unmeasured(precision: str, group: Group = DEFAULT, proof: Proof = GOOD, **more: Any) -> Candidate:
    return one(precision, group, proof, p50=None, ratio=None, **more)


def decided(*tried: Candidate, asked: str = AUTO, **more: Any) -> Outcome:
    found = {"stock": {}, "lacking": (), "unconverted": {}, **more}
    return decide(asked, tried, **found)


def answers(a: object, b: object, limit: float = 0.05, scores: str | None = None) -> Any:
    return compare_answers([({"y": a}, {"y": b})], scores, Tolerances(limit))


# Groups


def test_signatures_that_share_a_program_are_one_group() -> None:
    programs = {"predict": DEFAULT.program, "serving_default": DEFAULT.program}
    converted = Converted({"score": HEAVY.program, "count": LIGHT.program, **programs}, {})
    assert candidates.groups(converted) == [DEFAULT, HEAVY, LIGHT]
    assert str(DEFAULT) == "serving_default = predict"


# Decisions


def test_the_fastest_of_the_default_signature_serves_all() -> None:
    outcome = decided(
        one("f32", p50=0.010), one("bf16", p50=0.008), one("f32", HEAVY, p50=0.010), one("bf16", HEAVY)
    )  # fmt: skip
    assert outcome.precision == "bf16"
    everywhere = dict.fromkeys(("serving_default", "predict", "score"))
    assert outcome.accepted == {p: dict.fromkeys(everywhere, p) for p in ("f32", "bf16")}


def test_a_signature_that_disagrees_stays_and_the_others_keep_their_gain() -> None:
    outcome = decided(
        one("f32"), one("bf16", p50=0.005), one("f32", HEAVY), unmeasured("bf16", HEAVY, FAR),
        unmeasured("f32", LIGHT, UNLIKE), unmeasured("bf16", LIGHT, UNLIKE),
    )  # fmt: skip
    assert outcome.precision == "bf16"
    assert outcome.accepted["bf16"] == {"serving_default": "bf16", "predict": "bf16", "score": "f32"}
    assert outcome.accepted["f32"] == {"serving_default": "f32", "predict": "f32", "score": "f32"}


def test_what_is_slower_is_not_chosen_by_itself() -> None:
    outcome = decided(one("f32"), one("bf16", ratio=0.9, p50=0.03), one("f32", HEAVY, ratio=0.5))
    assert outcome.precision == "f32"
    assert outcome.accepted["f32"] == {"serving_default": "f32", "predict": "f32"}
    # Served only if it is asked for by name.
    assert outcome.accepted["bf16"]["serving_default"] == "bf16"


def test_what_is_slower_is_chosen_when_asked_for() -> None:
    outcome = decided(one("f32", ratio=0.5), asked="f32")
    assert outcome.precision == "f32"
    assert outcome.accepted == {"f32": {"serving_default": "f32", "predict": "f32"}}


def test_a_difference_within_the_noise_is_no_reason() -> None:
    assert decided(one("f32", ratio=0.975)).precision == "f32"


def test_the_next_signature_decides_where_the_first_has_no_gain() -> None:
    outcome = decided(
        unmeasured("f32", proof=FAR), unmeasured("bf16", proof=FAR),
        one("f32", HEAVY, p50=0.01), one("bf16", HEAVY, p50=0.009),
    )  # fmt: skip
    assert outcome.precision == "bf16"
    assert outcome.accepted["bf16"] == {"score": "bf16"}


def test_without_a_measurement_it_is_the_precise_one() -> None:
    assert decided(unmeasured("f32"), unmeasured("bf16")).precision == "f32"


@pytest.mark.parametrize("asked", [AUTO, "f32"])
def test_nothing_is_accepted(asked: str) -> None:
    outcome = decided(unmeasured("f32", proof=FAR), asked=asked)
    assert (outcome.precision, outcome.accepted) == (None, {})
    assert not outcome.rests_on_time


def test_a_precision_that_the_cpu_lacks() -> None:
    outcome = decided(asked="bf16", lacking=("bf16",))
    assert outcome.precision is None
    why = candidates.refusal("net@1", outcome)
    assert why.problem == "net@1 cannot be optimized: this CPU does not compute bf16 natively."


# Reasons


def refusal(*tried: Candidate, **more: Any) -> tuple[str, str]:
    why = candidates.refusal("net@1", decided(*tried, **more))
    return why.problem, why.remedy


def test_a_difference_beyond_the_limit_can_be_allowed() -> None:
    problem, remedy = refusal(unmeasured("bf16", proof=FAR))
    assert problem == f"net@1 cannot be optimized: in bf16 {FAR.problem}."
    assert remedy == (
        "Serve it as it is with `invoke serve --model net@1`, or raise optimize.max_difference in "
        "invoke.yaml if such a difference does not matter."
    )


@pytest.mark.parametrize(
    "candidate",
    [
        unmeasured("bf16", proof=UNLIKE),
        unmeasured("bf16", proof=Proof(57, math.inf, "'y' differs by inf, and 0.05 is allowed")),
        unmeasured("bf16", proof=Proof(57, math.nan, "'y' differs by nan, and 0.05 is allowed")),
        unmeasured(
            "bf16", proof=Proof(3, 0.0, "stock answers with an error, and the optimized model does not")
        ),
        unmeasured("bf16", failure="it refuses a request that stock answers (no)"),
        unmeasured("bf16", agreement=answers([1.0], [math.nan])),
        unmeasured("bf16", agreement=answers([1.0], [1.0, 2.0])),
        unmeasured("bf16", agreement=answers(1, 2)),
        unmeasured("bf16", agreement=answers([0.9, 0.1], [0.1, 0.9], scores="y")),
    ],
)
def test_a_higher_limit_is_no_advice_where_it_does_not_help(candidate: Candidate) -> None:
    problem, remedy = refusal(candidate)
    assert candidate.refused is not None
    assert candidate.refused in problem
    assert remedy == "Serve it as it is with `invoke serve --model net@1`."


def test_a_difference_over_rest_can_be_allowed_too() -> None:
    problem, remedy = refusal(unmeasured("bf16", agreement=answers([1.0, 0.5], [1.0, 0.6])))
    assert problem == "net@1 cannot be optimized: in bf16 'y' differs by 0.1, and 0.05 is allowed."
    assert "raise optimize.max_difference" in remedy


def test_what_is_slower_can_be_asked_for() -> None:
    outcome = decided(one("f32", ratio=0.5), unmeasured("bf16", proof=FAR))
    assert outcome.rests_on_time
    why = candidates.refusal("net@1", outcome)
    assert why.problem == (
        "net@1 cannot be optimized: in f32 it is slower than stock (0.50 [0.49, 0.51] times as fast); "
        f"in bf16 {FAR.problem}."
    )
    assert "`invoke build.optimized --model net@1 --precision f32`" in why.remedy


def test_signatures_are_named_where_there_are_several() -> None:
    problem, _ = refusal(
        unmeasured("f32", proof=UNLIKE),
        unmeasured("f32", HEAVY, FAR),
        unconverted={"train": "it changes 'n'"},
    )
    assert problem == (
        f"net@1 cannot be optimized: serving_default = predict in f32: {UNLIKE.problem}; "
        f"score in f32: {FAR.problem}; train: it changes 'n'."
    )


def test_many_reasons_are_counted() -> None:
    groups = [Group((f"s{n}",), Program(1.0, n, str(n))) for n in range(16)]
    problem, _ = refusal(*(unmeasured("f32", group, UNLIKE) for group in groups))
    assert problem.count("in f32") == 16  # all for one reason
    proofs = [Proof(1, 1.0, f"'y' differs by {n}, and 0.1 is allowed") for n in range(16)]
    problem, _ = refusal(*map(unmeasured, ["f32"] * 16, groups, proofs))
    assert problem.endswith("; and 10 more.")
    assert problem.count("in f32") == candidates.MOST_REASONS


def test_one_reason_for_both_precisions() -> None:
    problem, _ = refusal(unmeasured("f32", proof=UNLIKE), unmeasured("bf16", proof=UNLIKE))
    assert problem == f"net@1 cannot be optimized: in f32 and bf16 {UNLIKE.problem}."


@pytest.mark.parametrize(
    "problem", ["there is no answer within 140 s (1 row)", "the process ends with SIGKILL (7 rows)"]
)
def test_what_the_machine_had_no_room_for_may_come_out_otherwise(problem: str) -> None:
    assert decided(unmeasured("f32", proof=Proof(1, 0.0, problem))).rests_on_time


# The table


def rows(outcome: Outcome) -> list[Sequence[object]]:
    made = table(outcome)
    assert len({tuple(row) for row in made}) == 1
    return [list(row.values()) for row in made]


def test_a_row_for_each_signature_and_precision() -> None:
    outcome = decided(
        one("f32", p50=0.0123, agreement=answers([1.0], [1.0001])),
        one("bf16", p50=0.008, ratio=3.0),
        one("f32", HEAVY, p50=0.0005, ratio=0.5),
        unmeasured("bf16", HEAVY, FAR),
        stock={"serving_default": 0.0241},
        unconverted={"train": "it changes the variable counter"},
    )
    outcome = replace(outcome, memory=Memory(640 << 20, 800 << 20, 1200 << 20))
    assert list(table(outcome)[0]) == [
        "signature", "variant", "precision", "in OpenVINO", "p50 ms", "speed-up [95% CI]",
        "MiB (with TensorFlow)", "same top-1", "max |dp|", "limit", "decision",
    ]  # fmt: skip
    name, sure = "serving_default = predict", ["1e-06", "0.0005"]
    left = "TensorFlow: it changes the variable counter"
    assert rows(outcome) == [
        [name, "stock", "f32", "-", "24.1", "1.00", "640", "-", "-", "-", "-"],
        [name, "optimized", "f32", "99%", "12.3", "2.00 [1.96, 2.04]", "-", "100%", "0.0001", "0.0005",
         "agrees, slower"],
        [name, "optimized", "bf16", "99%", "8.0", "3.00 [2.94, 3.06]", "800 (1200)", "-", "1e-06", "0.05",
         "chosen"],
        ["score", "stock", "f32", "-", "-", "-", "-", "-", "-", "-", "-"],
        ["score", "optimized", "f32", "100%", "0.50", "0.50 [0.49, 0.51]", "-", "-", *sure,
         "slower than stock"],
        ["score", "optimized", "bf16", "100%", "-", "-", "-", "-", "0.3", "0.05", FAR.problem],
        ["train", "stock", "f32", "-", "-", "-", "-", "-", "-", "-", left],
    ]  # fmt: skip


def decisions(outcome: Outcome) -> list[object]:
    return [row["decision"] for row in table(outcome)]


def test_a_signature_executed_in_f32_where_bf16_is_served() -> None:
    outcome = decided(one("f32"), one("bf16", p50=0.008), one("f32", HEAVY), unmeasured("bf16", HEAVY, FAR))
    assert decisions(outcome) == ["-", "agrees, slower", "chosen", "-", "chosen", FAR.problem]


def test_a_faster_one_that_is_not_what_the_default_signature_wants() -> None:
    outcome = decided(
        one("f32"), one("bf16", p50=0.008), one("f32", HEAVY, p50=0.01), one("bf16", HEAVY, p50=0.02)
    )
    assert decisions(outcome) == ["-", "agrees, slower", "chosen", "-", "agrees, bf16 is served", "chosen"]


def test_one_that_is_slower_and_was_asked_for() -> None:
    assert decisions(decided(one("f32", ratio=0.5), asked="f32")) == ["-", "chosen, slower than stock"]


def test_one_that_was_not_measured() -> None:
    assert decisions(decided(unmeasured("f32"), unmeasured("bf16"))) == ["-", "chosen", "agrees"]


def test_a_row_for_what_the_cpu_lacks() -> None:
    *_, lacking = table(decided(one("f32"), lacking=("bf16",)))
    assert (lacking["precision"], lacking["decision"]) == ("bf16", "this CPU does not compute it natively")


@pytest.mark.parametrize(
    ("memory", "cells"),
    [
        (Memory(640 << 20, 800 << 20, None), ["640", "800 (-)"]),
        (Memory(None, None, None), ["-", "- (-)"]),
    ],
)
def test_memory_that_is_not_known(memory: Memory, cells: list[str]) -> None:
    outcome = replace(decided(one("f32")), memory=memory)
    assert [row["MiB (with TensorFlow)"] for row in table(outcome)] == cells


def test_proofs_of_signatures_that_share_a_program() -> None:
    assert Proof.joined([GOOD, FAR]) == Proof(114, 0.3, FAR.problem)
