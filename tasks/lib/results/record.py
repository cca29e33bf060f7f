"""A finished benchmark as result.json holds it (schema.Result)."""

from __future__ import annotations

import platform
import re
import shlex
import sys
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from tasks.lib.common.hardware import Hardware
from tasks.lib.common.pinning import Pinning
from tasks.lib.common.revision import revision
from tasks.lib.common.settings import MIXED, Plan
from tasks.lib.common.strict_json import finite
from tasks.lib.measure.measurement import Measurement
from tasks.lib.measure.rounds import Timeline
from tasks.lib.measure.verdict import BASELINE, CANDIDATE, NEW, Comparison, Contestant, Verdict, failures
from tasks.lib.measure.warmup import Warmup
from tasks.lib.measure.watch import Disturbance
from tasks.lib.models.http_file import public
from tasks.lib.results import words
from tasks.lib.results.schema import SCHEMA, Repetition, Result, Run

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Alone:
    """A contestant that was measured by itself."""

    contestant: Contestant
    measured: Measurement
    rounds: int
    """Those that were finished."""
    timeline: Timeline | None = None
    warmup: Warmup | None = None

    def problem(self, plan: Plan) -> str | None:
        """Why its figures say little, as part of a sentence; None where they do."""
        return failures(self.contestant, self.measured, plan)


@dataclass(frozen=True)
class LeftOut:
    """A contestant that was not measured, because its model cannot be optimized or does not gain by it."""

    name: str
    reason: str
    """A sentence."""

    def __str__(self) -> str:
        return words.left_out_note({"name": self.name, "reason": self.reason})


@dataclass(frozen=True)
class Record:
    """One run of a benchmark, with all that is needed to judge it later."""

    time: str
    """UTC, ISO 8601."""
    command: str
    engine: str | None
    """None if this suite started none of the servers."""
    hardware: Hardware
    plan: Plan
    verdict: Verdict | None
    """None for a contestant that was measured alone."""
    alone: Alone | None = None
    pinning: Pinning | None = None
    """None if this suite started none of the servers."""
    engine_version: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    """Of the whole benchmark."""
    takes_photos: bool = False
    """Whether `invoke predict` can ask the model; not saved."""
    why: str = ""
    """Why it is this model, if no person named it."""


def now() -> str:
    """The time of a record."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def command_line() -> str:
    """What was typed, less the passwords of URLs: results are shown to others."""
    return shlex.join(["invoke", *map(public, sys.argv[1:])])


def content(records: Sequence[Record], earlier: Sequence[Repetition] = ()) -> Result:
    """What result.json holds of the runs of one benchmark, of which there is at least one.

    `earlier` are the repetitions that --repeat made before this one.
    """
    first = records[0]
    protocols = {one.plan.protocol for one in records}
    plan = asdict(first.plan) | {
        "connections": list(dict.fromkeys(one.plan.connections for one in records)),
        "protocol": MIXED if len(protocols) > 1 else first.plan.protocol,
    }
    shared = {
        "schema": SCHEMA,
        "time": first.time,
        "command": first.command,
        "engine": first.engine,
        "machine": asdict(first.hardware)
        | {"summary": str(first.hardware), "python": platform.python_version()},
        "versions": {
            name: version(name) for name in ("invoke", "numpy", "httptools", "hpack", "requests", "pillow")
        }
        | (embedded_versions() if first.engine else {})  # what other servers execute with is not known
        | dict(first.engine_version),
        "pinning": asdict(first.pinning) | {"summary": str(first.pinning)} if first.pinning else None,
        "plan": plan,
        "why_this_model": first.why or None,
        "left_out": [asdict(one) for one in first.left_out],
        "suite": asdict(revision(ROOT)),
        "repetitions": [*earlier, *(_repetition(one.verdict) for one in records if one.verdict)],
    }
    # The tests check what is made here against the types, by the JSON Schema made from them.
    return cast(Result, finite(shared) | {"runs": [_run(one) for one in records]})


def _run(record: Record) -> Run:
    done = record.verdict or record.alone
    assert done is not None
    run = finite(
        {
            "time": record.time,
            "connections": record.plan.connections,
            "sentence": sentence(record),
            "alone": _alone(record.alone) if record.alone else None,
            "verdict": _verdict(record.verdict) if record.verdict else None,
            "warmup": asdict(done.warmup) if done.warmup else None,
            "blocks": _blocks(done.timeline, record.verdict) if done.timeline else None,
        }
    )
    return cast(Run, run | {"notes": words.run_notes(cast(Run, run), record.plan)})


def _disturbance(disturbance: Disturbance) -> dict[str, Any]:
    return {
        "others": disturbance.others,
        "stolen": disturbance.stolen,
        "waited": dict(disturbance.waited),
        "migrations": dict(disturbance.migrations),
    }


def _blocks(timeline: Timeline, verdict: Verdict | None) -> dict[str, Any]:
    """Four digits are more than a block of some dozen requests is worth, and there may be thousands."""
    return {
        "label": timeline.label,
        "start": [round(figure, 4) for figure in timeline.start],
        "p50": [float(f"{figure:.4g}") for figure in timeline.p50],
        "rate": [float(f"{figure:.4g}") for figure in timeline.rate],
        **_while_sent(timeline, verdict.disturbance if verdict else None),
    }


def _while_sent(timeline: Timeline, disturbance: Disturbance | None) -> dict[str, list[Any]]:
    """Of each block, what the machine and the block's server did in the span in which it began."""
    spans = disturbance.spans if disturbance else ()
    ends = [span.began + span.seconds - timeline.began for span in spans]
    columns: dict[str, list[Any]] = {
        key: [] for key in ("others", "stolen", "waited", "migrations", "disturbed")
    }
    for label, start in zip(timeline.label, timeline.start, strict=True):
        if not spans:
            for column in columns.values():
                column.append(None)
            continue
        span = spans[min(bisect_right(ends, start), len(spans) - 1)]
        server = CANDIDATE if label in NEW else BASELINE
        shares = {"others": span.others, "stolen": span.stolen, "waited": span.waited.get(server)}
        for key, share in shares.items():
            columns[key].append(None if share is None else round(share, 3))
        columns["migrations"].append(span.migrations.get(server))
        columns["disturbed"].append(span.disturbs(server))
    return columns


def _repetition(verdict: Verdict) -> dict[str, Any]:
    p50 = verdict.p50 if verdict.problem is None else None
    return {
        "comparison": f"{verdict.candidate.name} against {verdict.baseline.name}{verdict.plan.how}",
        "p50": _comparison(p50) if p50 else None,
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return asdict(comparison.interval) | {
        "noise": comparison.noise,
        "outcome": comparison.outcome,
        "effective": comparison.effective,
        "allowance": comparison.allowance,
        "stray": comparison.stray,
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "baseline": _side(verdict.baseline, verdict.measured.get(BASELINE)),
        "candidate": _side(verdict.candidate, verdict.measured.get(CANDIDATE)),
        "agreement": asdict(verdict.agreement)
        | {
            name: getattr(verdict.agreement, name) for name in ("holds", "percent", "difference", "is_hollow")
        },
        "comparisons": {
            figure: _comparison(comparison) if comparison else None
            for figure, comparison in verdict.comparisons.items()
        },
        "problem": verdict.problem,
        "is_narrow": verdict.is_narrow,
        "rounds": len(verdict.round_ratios),
        "instances": verdict.instances,
        "restarted": verdict.restarted,
        "disturbance": _disturbance(verdict.disturbance) if verdict.disturbance else None,
        "round_ratios": verdict.round_ratios,
        "control_ratios": verdict.control_ratios,
    }


def _alone(alone: Alone) -> dict[str, Any]:
    return _side(alone.contestant, alone.measured) | {"rounds": alone.rounds}


def _side(contestant: Contestant, measured: Measurement | None) -> dict[str, Any]:
    warning = contestant.origin.warning if contestant.origin else None
    return asdict(contestant) | {"warning": warning, "measured": asdict(measured) if measured else None}


def embedded_versions() -> dict[str, str]:
    """The versions that docker/embedded/requirements.lock pins of what executes models."""
    from tasks.lib.embedded import environment

    text = (ROOT / environment.LOCK).read_text()
    return dict(re.findall(r"^(tensorflow|tensorflow-cpu|openvino)==([^\s;]+)", text, re.MULTILINE))


def sentence(record: Record) -> str:
    """The last line: the outcome in words."""
    if record.verdict is not None:
        return record.verdict.sentence
    assert record.alone is not None
    measured = record.alone.measured
    failed = f" {measured.errors} requests failed." if measured.errors else ""
    hint = "There was nothing to compare it with." if record.left_out else "Without --alone it is compared."
    return (
        f"{record.alone.contestant.name} alone{record.plan.how}: {words.milliseconds(measured.p50)} ms at "
        f"p50, {measured.rate:.1f} requests/s. {hint}{failed}"
    )
