"""What can be chosen when a model is optimized: each signature in each precision, and which ones are.

Everything here computes; tasks.lib.optimize.optimize acts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.lib.client.signature import DEFAULT_SIGNATURE
from tasks.lib.measure.agreement import Agreement
from tasks.lib.measure.verdict import Comparison
from tasks.lib.models.artefact import AUTO, Converted, Program, Refusal

F32 = "f32"
MOST_REASONS = 6
"""Named in one sentence."""
MIB = 1 << 20
MEMORY = "MiB (with TensorFlow)"
"""The column of what a server takes, and what it takes once a request has made it load TensorFlow's part."""


@dataclass(frozen=True)
class Group:
    """Signatures that are the same in everything but their names."""

    signatures: tuple[str, ...]
    """The one that is asked for all of them first: the default signature if it is among them."""
    program: Program

    def __str__(self) -> str:
        return " = ".join(self.signatures)


def groups(converted: Converted) -> list[Group]:
    """The converted signatures, the one that decides first: the default one, else by multiplications."""
    by_digest: dict[str, list[str]] = {}
    for name in sorted(converted.programs, key=lambda name: (name != DEFAULT_SIGNATURE, name)):
        by_digest.setdefault(converted.programs[name].digest, []).append(name)
    made = [Group(tuple(names), converted.programs[names[0]]) for names in by_digest.values()]
    return sorted(
        made, key=lambda one: (one.signatures[0] != DEFAULT_SIGNATURE, -one.program.multiplications)
    )


@dataclass(frozen=True)
class Proof:
    """What comparing a signature with stock in one process showed (embedded_server.prove)."""

    requests: int
    difference: float
    """The largest, in the unit of the limit."""
    problem: str | None
    """Why it does not answer like stock, as part of a sentence; None if it does."""

    @staticmethod
    def joined(proofs: Iterable[Proof]) -> Proof:
        """What several say together."""
        proofs = list(proofs)
        problem = next((one.problem for one in proofs if one.problem is not None), None)
        return Proof(sum(one.requests for one in proofs), max(one.difference for one in proofs), problem)


@dataclass(frozen=True)
class Candidate:
    """One signature in one precision."""

    group: Group
    precision: str
    limit: float
    """Of the difference."""
    proof: Proof
    agreement: Agreement | None = None
    """Over REST; None where it was not asked, because the proof failed or no request could be made up."""
    failure: str | None = None
    """That the server answers nothing or an error where stock gives an answer, as part of a sentence."""
    p50: float | None = None
    """Seconds; None where it was not measured."""
    speed: Comparison | None = None
    """Against stock; the same."""

    @property
    def refused(self) -> str | None:
        """Why it does not answer like stock, as part of a sentence; None if it does."""
        if self.proof.problem is not None:
            return self.proof.problem
        if self.failure is not None:
            return self.failure
        return None if self.agreement is None or self.agreement.holds else self.agreement.problem

    @property
    def lacked_resources(self) -> bool:
        """Whether it failed for want of time or memory, which another attempt may have."""
        problems = (self.proof.problem, self.failure)
        return any(problem is not None and LACKED.search(problem) for problem in problems)

    @property
    def is_slower(self) -> bool:
        """Whether it is slower than stock beyond interval and noise."""
        return self.speed is not None and self.speed.outcome < 0

    @property
    def difference(self) -> float:
        """The largest from stock that was seen."""
        return max(self.proof.difference, 0.0 if self.agreement is None else self.agreement.difference)

    @property
    def needs_higher_limit(self) -> bool:
        """Whether numbers beyond the limit are all that is wrong, so that a higher limit would accept it."""
        if self.refused is None or self.failure is not None:
            return False
        proven = self.proof.problem is None or DIFFERS.search(self.proof.problem) is not None
        return proven and (self.agreement is None or self.agreement.holds or _is_near(self.agreement))


LACKED = re.compile(
    r"no answer within|SIGKILL|RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED|UNAVAILABLE|it does not answer in time"
)
"""How a failure says that time or memory was lacking; the system kills when memory runs out."""
DIFFERS = re.compile(r"differs by [0-9]")
"""How a proof says that numbers are beyond the limit."""


def _is_near(agreement: Agreement) -> bool:
    """Whether the answers differ in numbers alone, none of them infinitely far."""
    return agreement.same == agreement.inputs and math.isfinite(agreement.difference)


@dataclass(frozen=True)
class Memory:
    """What servers take, in bytes; None where that is not known."""

    stock: int | None
    optimized: int | None
    with_tensorflow: int | None
    """The optimized one, once a request has made it load what TensorFlow executes."""


@dataclass(frozen=True)
class Outcome:
    """What build.optimized decided, and from what."""

    asked: str
    """AUTO, or one precision."""
    precision: str | None
    """What is served; None if nothing was accepted."""
    accepted: Mapping[str, Mapping[str, str]]
    """See artefact.Accepted."""
    candidates: tuple[Candidate, ...]
    stock: Mapping[str, float]
    """Stock's p50 in seconds, by the first signature of a group; only where it was measured."""
    lacking: tuple[str, ...] = ()
    """Precisions that were asked for, and that this CPU does not compute natively."""
    unconverted: Mapping[str, str] | None = None
    """Signature -> why TensorFlow executes it."""
    memory: Memory | None = None

    @property
    def rests_on_time(self) -> bool:
        """Whether another attempt could decide otherwise.

        Something answers like stock and is slower, or the machine had no time or memory for the proof.
        """
        return any(candidate.refused is None or candidate.lacked_resources for candidate in self.candidates)


def decide(
    asked: str,
    candidates: Sequence[Candidate],
    stock: Mapping[str, float],
    lacking: Sequence[str],
    unconverted: Mapping[str, str],
) -> Outcome:
    """Choose among `candidates`, which come group by group, the deciding one first.

    With AUTO what is slower than stock is not chosen; a precision that is asked for by name is.
    """
    outcome = Outcome(asked, None, {}, tuple(candidates), stock, tuple(lacking), unconverted)
    precisions = dict.fromkeys(candidate.precision for candidate in candidates)
    if asked == AUTO:
        chosen = _fastest(candidates)
        if chosen is None:
            return outcome
    else:
        chosen = asked
    accepted = {
        precision: _executed(candidates, precision, asked == AUTO and precision == chosen)
        for precision in precisions
    }
    # A precision in which no signature is executed is none to serve.
    accepted = {p: signatures for p, signatures in accepted.items() if p in signatures.values()}
    return replace(outcome, precision=chosen, accepted=accepted) if chosen in accepted else outcome


def _fastest(candidates: Sequence[Candidate]) -> str | None:
    """The fastest precision for the first signature that gains in any; None if none does.

    Where nothing was measured it is the first one: f32 if it is among them.
    """
    gaining = [candidate for candidate in candidates if candidate.refused is None and not candidate.is_slower]
    if not gaining:
        return None
    same = [candidate for candidate in gaining if candidate.group == gaining[0].group]
    return min(same, key=lambda candidate: math.inf if candidate.p50 is None else candidate.p50).precision


def _executed(candidates: Sequence[Candidate], precision: str, must_gain: bool) -> dict[str, str]:
    """Signature -> the precision in which it is executed where `precision` is served.

    In that one if it is accepted there, else in f32 if it is accepted in that.
    """
    executed: dict[str, str] = {}
    for tried in (F32, precision):
        for candidate in candidates:
            if (
                candidate.precision == tried
                and candidate.refused is None
                and not (must_gain and candidate.is_slower)
            ):
                executed.update(dict.fromkeys(candidate.group.signatures, tried))
    return executed


def refusal(model: str, outcome: Outcome) -> Refusal:
    """Why nothing was accepted, and what to do."""
    reasons = _reasons(outcome)
    named = "; ".join(reasons[:MOST_REASONS])
    more = f"; and {len(reasons) - MOST_REASONS} more" if len(reasons) > MOST_REASONS else ""
    advice = serve_as_it_is(model)
    slower = [candidate.precision for candidate in outcome.candidates if candidate.refused is None]
    if slower:
        advice += f", or ask for it by name: `invoke build.optimized --model {model} --precision {slower[0]}`"
    elif any(candidate.needs_higher_limit for candidate in outcome.candidates):
        advice += ", or raise optimize.max_difference in invoke.yaml if such a difference does not matter"
    return Refusal(f"{model} cannot be optimized: {named}{more}.", f"{advice}.")


def serve_as_it_is(model: str) -> str:
    """What to do with a model that cannot be optimized, without its full stop."""
    return f"Serve it as it is with `invoke serve --model {model}`"


def _reasons(outcome: Outcome) -> list[str]:
    """Clauses; what has the same reason shares one."""
    single = len({candidate.group for candidate in outcome.candidates}) <= 1 and not outcome.unconverted
    places: dict[str, list[Candidate]] = {}
    for candidate in outcome.candidates:
        places.setdefault(_reason(candidate), []).append(candidate)
    reasons = [f"{_where(those, single)} {reason}" for reason, those in places.items()]
    reasons += [f"this CPU does not compute {precision} natively" for precision in outcome.lacking]
    names: dict[str, list[str]] = {}
    for name, reason in (outcome.unconverted or {}).items():
        names.setdefault(reason, []).append(name)
    return reasons + [f"{', '.join(those)}: {reason}" for reason, those in names.items()]


def _reason(candidate: Candidate) -> str:
    if candidate.refused is not None:
        return candidate.refused
    assert candidate.speed is not None
    return f"it is slower than stock ({candidate.speed.interval} times as fast)"


def _where(those: Sequence[Candidate], single: bool) -> str:
    if single:
        return "in " + " and ".join(one.precision for one in those)
    return ", ".join(f"{one.group} in {one.precision}" for one in those) + ":"


# The table


def table(outcome: Outcome) -> list[dict[str, object]]:
    """What the choice was made from: a row for each signature in each precision, and for stock."""
    rows: list[dict[str, object]] = []
    for group in dict.fromkeys(candidate.group for candidate in outcome.candidates):
        # Memory is a server's: it is told once, with the first signature.
        memory = None if rows else outcome.memory
        rows.append(_stock_row(group, outcome.stock.get(group.signatures[0]), memory))
        rows += [
            _row(candidate, outcome, memory) for candidate in outcome.candidates if candidate.group == group
        ]
    rows += [
        _row_of("every", "optimized", precision, decision="this CPU does not compute it natively")
        for precision in outcome.lacking
    ]
    rows += [
        _row_of(name, "stock", F32, decision=f"TensorFlow: {reason}")
        for name, reason in (outcome.unconverted or {}).items()
    ]
    return rows


def _row_of(signature: str, variant: str, precision: str, **cells: str) -> dict[str, object]:
    columns = (
        "in OpenVINO", "p50 ms", "speed-up [95% CI]", MEMORY, "same top-1", "max |dp|",
        "limit", "decision",
    )  # fmt: skip
    return {
        "signature": signature,
        "variant": variant,
        "precision": precision,
        **dict.fromkeys(columns, "-"),
        **cells,
    }


def _stock_row(group: Group, p50: float | None, memory: Memory | None) -> dict[str, object]:
    cells = {} if p50 is None else {"p50 ms": _milliseconds(p50), "speed-up [95% CI]": "1.00"}
    if memory is not None:
        cells[MEMORY] = _mebibytes(memory.stock)
    return _row_of(str(group), "stock", F32, **cells)


def _row(candidate: Candidate, outcome: Outcome, memory: Memory | None) -> dict[str, object]:
    agreement, speed, p50 = candidate.agreement, candidate.speed, candidate.p50
    return _row_of(
        str(candidate.group),
        "optimized",
        candidate.precision,
        **{
            "in OpenVINO": _percent(candidate.group.program.share),
            "p50 ms": "-" if p50 is None else _milliseconds(p50),
            "speed-up [95% CI]": "-" if speed is None else str(speed.interval),
            MEMORY: "-" if memory is None or candidate.precision != outcome.precision else _two_sizes(memory),
            "same top-1": "-" if agreement is None else agreement.percent,
            "max |dp|": f"{candidate.difference:.2g}",
            "limit": f"{candidate.limit:g}",
            "decision": _decision(candidate, outcome),
        },
    )


def _decision(candidate: Candidate, outcome: Outcome) -> str:
    if candidate.refused is not None:
        return candidate.refused
    executed = outcome.accepted.get(outcome.precision or "", {}).get(candidate.group.signatures[0])
    slower = "slower than stock"
    if executed == candidate.precision:
        return f"chosen, {slower}" if candidate.is_slower else "chosen"
    if candidate.is_slower:
        return slower
    if candidate.p50 is None or candidate.precision == outcome.precision:
        return "agrees"
    return "agrees, slower" if _is_slowest(candidate, outcome) else f"agrees, {outcome.precision} is served"


def _is_slowest(candidate: Candidate, outcome: Outcome) -> bool:
    same = [one for one in outcome.candidates if one.group == candidate.group and one.p50 is not None]
    return candidate.p50 == max(one.p50 or 0.0 for one in same)


def _two_sizes(memory: Memory) -> str:
    return f"{_mebibytes(memory.optimized)} ({_mebibytes(memory.with_tensorflow)})"


def _mebibytes(size: int | None) -> str:
    return "-" if size is None else f"{size / MIB:.0f}"


def _percent(share: float) -> str:
    """Rounded down: "100%" means all of it."""
    return f"{math.floor(100 * share + 1e-9)}%"


def _milliseconds(seconds: float) -> str:
    milliseconds = seconds * 1000
    return f"{milliseconds:.1f}" if milliseconds >= 1 else f"{milliseconds:.2f}"
