"""tasks.lib.measure.verdict: the outcome in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.lib.measure import paired, stats
from tasks.lib.measure.verdict import BASELINE, CANDIDATE, Verdict
from tests.helpers.answers import scored
from tests.helpers.contestants import OPTIMIZED, STOCK
from tests.helpers.simulated_servers import PLAN, told


@pytest.mark.parametrize(
    ("interval", "noise", "sentence"),
    [
        (
            stats.Interval(2.41, 2.37, 2.45),
            0.013,
            "optimized is faster than stock: 2.41x (95% CI 2.37 to 2.45; the machine's own noise is 1.3%), "
            "and answers the same.",
        ),
        (
            stats.Interval(0.905, 0.9, 0.91),
            0.02,
            "optimized is slower than stock: 0.905x (95% CI 0.900 to 0.910; the machine's own noise is 2.0%"
            "), and answers the same.",
        ),
        (
            stats.Interval(1.01, 0.99, 1.03),
            0.004,
            "cannot tell on this machine whether optimized is faster or slower than stock: "
            "1.01x (95% CI 0.99 to 1.03; the machine's own noise is 0.4%); it answers the same.",
        ),
        (
            stats.Interval(1.004, 1.002, 1.006),
            0.001,
            "optimized is faster than stock: 1.004x (95% CI 1.002 to 1.006; the machine's own noise is 0.1%"
            "), and answers the same.",
        ),
    ],
)
def test_the_outcome_in_words(interval: stats.Interval, noise: float, sentence: str) -> None:
    assert told(interval, noise).sentence == sentence


def test_a_verdict_on_two_processes_says_so() -> None:
    done = replace(told(FASTER, 0.013), instances=1, restarted=())
    assert done.sentence.endswith("the same. This holds for these two processes; a restart can change it.")


@pytest.mark.parametrize(("restarted", "single"), [(BASELINE, "optimized"), (CANDIDATE, "stock")])
def test_a_verdict_on_one_process_of_one_side_says_so(restarted: str, single: str) -> None:
    done = replace(told(FASTER, 0.013), restarted=(restarted,))
    sentence = f"the same. This holds for this process of {single}; a restart can change it."
    assert done.sentence.endswith(sentence)
    side = {BASELINE: "candidate", CANDIDATE: "baseline"}[restarted]
    several = replace(getattr(done, side), further=(("http://127.0.0.1:3/v1/models/net",),))
    assert replace(done, **{side: several}).sentence.endswith("the same.")


def test_failed_requests_are_said() -> None:
    sentence = told(FASTER, 0.013, errors=3).sentence
    assert sentence.endswith("and answers the same. 3 requests failed and are not in the figures.")


FASTER = stats.Interval(2.41, 2.37, 2.45)
OTHER = scored(9, 0.3)


def test_too_many_failed_requests_spoil_the_verdict() -> None:
    assert told(FASTER, 0.013, errors=6).problem is None
    spoiled = told(FASTER, 0.013, errors=14)
    assert spoiled.problem == "14 of 686 requests to stock failed; 1% are allowed"
    assert spoiled.sentence == (
        "optimized and stock are not comparable: 14 of 686 requests to stock failed; 1% are allowed."
    )


def test_other_answers_that_were_timed_all_the_same_are_said() -> None:
    sentence = told(FASTER, 0.013, agreement=OTHER).sentence
    assert sentence.startswith("optimized is faster than stock: 2.41x (")
    assert sentence.endswith(", and answers differently: 3 of 12 answers have another top-1 in 'p'.")


def test_what_does_not_answer_the_same_is_not_timed() -> None:
    """Nothing listens at these addresses: a single request would be an error."""
    done = paired.judge(STOCK, OPTIMIZED, OTHER, [b"{}"], PLAN)
    assert done == Verdict(STOCK, OPTIMIZED, OTHER, {}, {}, PLAN, (), ())
    assert (
        done.sentence == "optimized and stock are not comparable: 3 of 12 answers have another top-1 in 'p'."
    )
