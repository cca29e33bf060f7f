"""What a finished benchmark ends with: an error and its exit code where it proves nothing."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.lib.common.errors import GateFailed, NotComparable
from tasks.lib.measure.verdict import Verdict
from tasks.lib.results import record

NO_FAILURES = "Look at the log (`invoke serve.logs` for one of this suite), and measure again once none fail."


def check_outcome(done: Sequence[record.Record], min_ratio: float | None) -> None:
    """Raises NotComparable if a comparison has no verdict, GateFailed if one is below `min_ratio`.

    It is below only if its interval as a whole is, and by more than the machine's own noise: what no one
    can tell on this machine is not held against the candidate. With `min_ratio`, a contestant that was left
    out is a comparison without a verdict.
    """
    for single in done:
        problem = single.alone.problem(single.plan) if single.alone is not None else None
        if problem is not None:
            raise NotComparable(f"The figures say little: {problem}.", NO_FAILURES)
    verdicts = [(single, single.verdict) for single in done if single.verdict is not None]
    for single, verdict in verdicts:
        if verdict.p50 is None:
            raise NotComparable(
                f"{verdict.candidate.name} answers differently from {verdict.baseline.name}, so their speeds "
                f"were not compared: {verdict.agreement.problem}.",
                f"{_how_to_look(single, verdict)} --allow-different measures them anyway.",
            )
        if verdict.problem is not None:
            raise NotComparable(
                f"There is no verdict on {verdict.candidate.name}: {verdict.problem}.",
                NO_FAILURES,
            )
    if min_ratio is not None:
        _check_complete(done, min_ratio)
    for _, verdict in verdicts:
        if min_ratio is not None and verdict.p50 is not None and verdict.p50.is_below(min_ratio):
            interval = verdict.p50.interval
            raise GateFailed(
                f"{verdict.candidate.name} is {interval.ratio:.{interval.digits}f}x as fast as "
                f"{verdict.baseline.name}{verdict.plan.how}, reliably below --min-ratio {min_ratio:g}.",
                "Make it faster, or lower --min-ratio.",
            )


def _how_to_look(done: record.Record, verdict: Verdict) -> str:
    """How to see what two contestants answer, as a sentence."""
    sides = (verdict.baseline, verdict.candidate)
    if done.takes_photos and all(side.origin is not None for side in sides):
        return "Compare what `invoke predict PHOTO --variant NAME` prints for each of them."
    return "Send one request to both with curl (`invoke serve` prints such a line) and compare the answers."


def _check_complete(done: Sequence[record.Record], min_ratio: float) -> None:
    """Raises NotComparable if a contestant was left out: no one knows whether it is fast enough."""
    left_out = done[0].left_out if done else ()
    if not left_out:
        return
    compared = any(entry.verdict is not None for entry in done)
    names = " and ".join(entry.name for entry in left_out)
    reasons = " ".join(dict.fromkeys(entry.reason for entry in left_out))
    missing = f"{names} was not compared" if compared else "There was nothing to compare"
    raise NotComparable(
        f"{missing}, so --min-ratio {min_ratio:g} was not checked: {reasons}",
        "Leave out --min-ratio, or name another candidate.",
    )
