"""What result.json holds of a benchmark, and what is printed of it.

What is printed is made from what is saved, so `benchmark.show` prints a benchmark again as it was.
"""

from __future__ import annotations

import platform
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tasks.lib.client.rest import protocol_of
from tasks.lib.common.hardware import Hardware
from tasks.lib.common.pinning import Pinning
from tasks.lib.common.settings import GRPC, MIXED, REST, Plan
from tasks.lib.common.strict_json import finite
from tasks.lib.measure import stats
from tasks.lib.measure.agreement import hollow_note
from tasks.lib.measure.rounds import Timeline
from tasks.lib.measure.verdict import BASELINE, CANDIDATE, P50, Contestant, Measurement, Verdict, failures
from tasks.lib.measure.warmup import Warmup
from tasks.lib.models.http_file import public

SCHEMA = 3
"""Raised whenever a key of result.json changes its name or meaning; docs/result.md tells what they are."""

Content = Mapping[str, Any]
"""What result.json holds. Times are in seconds, shares and ratios as fractions."""
Run = Mapping[str, Any]
"""One of its `runs`: one comparison, or one contestant by itself, over one number of connections."""


FALLS_BEHIND = 1.75
"""Measurement.growth from which on a queue is spoken of. Simulated, with 20 to 1000 arrivals in a block: a
server that is busy for nine tenths of the time stays below it, one that gets a tenth more than it can answer
is at 2 to 3."""


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
        return f"{self.name} was left out: {self.reason}"


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


def now() -> str:
    """The time of a record."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def command_line() -> str:
    """What was typed, less the passwords of URLs: results are shown to others."""
    return shlex.join(["invoke", *map(public, sys.argv[1:])])


def content(records: Sequence[Record]) -> dict[str, Any]:
    """What result.json holds of the runs of one benchmark, of which there is at least one."""
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
        "left_out": [asdict(one) for one in first.left_out],
    }
    whole: dict[str, Any] = finite(shared)
    return whole | {"runs": [_run(one) for one in records]}


def _run(record: Record) -> Run:
    done = record.verdict or record.alone
    assert done is not None
    run: dict[str, Any] = finite(
        {
            "time": record.time,
            "connections": record.plan.connections,
            "sentence": _sentence(record),
            "alone": _alone(record.alone) if record.alone else None,
            "verdict": _verdict(record.verdict) if record.verdict else None,
            "warmup": asdict(done.warmup) if done.warmup else None,
            "blocks": _blocks(done.timeline) if done.timeline else None,
        }
    )
    return run | {"notes": _notes(run, record.plan)}


def _blocks(timeline: Timeline) -> dict[str, Any]:
    """Four digits are more than a block of some dozen requests is worth, and there may be thousands."""
    return {
        "label": timeline.label,
        "start": [round(one, 4) for one in timeline.start],
        "p50": [float(f"{one:.4g}") for one in timeline.p50],
        "rate": [float(f"{one:.4g}") for one in timeline.rate],
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
            figure: asdict(one.interval) | {"noise": one.noise, "outcome": one.outcome} if one else None
            for figure, one in verdict.comparisons.items()
        },
        "problem": verdict.problem,
        "is_narrow": verdict.is_narrow,
        "rounds": len(verdict.round_ratios),
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

    text = (Path(__file__).resolve().parents[3] / environment.LOCK).read_text()
    return dict(re.findall(r"^(tensorflow|tensorflow-cpu|openvino)==([^\s;]+)", text, re.MULTILINE))


def _sentence(record: Record) -> str:
    """The last line: the outcome in words."""
    if record.verdict is not None:
        return record.verdict.sentence
    assert record.alone is not None
    measured = record.alone.measured
    failed = f" {measured.errors} requests failed." if measured.errors else ""
    hint = "There was nothing to compare it with." if record.left_out else "Without --alone it is compared."
    return (
        f"{record.alone.contestant.name} alone{record.plan.how}: {milliseconds(measured.p50)} ms at p50, "
        f"{measured.rate:.1f} requests/s. {hint}{failed}"
    )


def _notes(run: Run, plan: Plan) -> list[str]:
    """What is said below the table."""
    sides = sides_of(run)
    warnings = [one["warning"] for one in sides if one["warning"]]
    measured = [one["measured"] for one in sides if one["measured"]]
    if not measured:
        return list(dict.fromkeys(warnings))
    verdict = run["verdict"]
    rounds = (verdict or run["alone"])["rounds"]
    notes = []
    if verdict is not None:
        # Results from before this was looked at do not have the key.
        if verdict["agreement"].get("is_hollow"):
            notes.append(hollow_note(verdict["agreement"]["inputs"]))
        told = [
            f"{figure} {_speedup(one)}" for figure, one in verdict["comparisons"].items() if figure != P50
        ]
        notes.append(f"also: {', '.join(told)}")
        if verdict["is_narrow"]:
            ended = f"until the interval was narrower than {100 * plan.ci_width:g}%"
        else:
            ended = f"until {plan.max_seconds:g} s had passed"
        notes.append(f"measured in {rounds} rounds, {ended}")
    if run["warmup"] and not run["warmup"]["steady"]:
        notes.append(f"latency was not steady yet after {run['warmup']['seconds']:.1f} s of warm-up")
    requests = min(one["requests"] for one in measured)
    for side in sides:
        notes += _queue(side, plan)
    missing = {q: n for q, n in stats.MINIMUM_SAMPLES.items() if requests < n}
    for side in sides:
        notes += _shares(side)
    if missing:
        needs = " and ".join(f"p{q} needs {n} requests" for q, n in missing.items())
        notes.append(f"{needs}, this run has {requests}: give a larger --max-seconds or a smaller --ci-width")
    if verdict is not None:
        notes += [
            f"to compare p{q} too, {2 * n} requests are needed, and this run has {requests}"
            for q, n in stats.MINIMUM_SAMPLES.items()
            if n <= requests and verdict["comparisons"].get(f"p{q}", True) is None  # the noise takes half
        ]
    return [*notes, *dict.fromkeys(warnings)]


def _queue(side: Content, plan: Plan) -> list[str]:
    """That a queue was still growing when blocks ended, in open loop."""
    growth = side["measured"].get("growth")
    if plan.rate is None or growth is None or growth < FALLS_BEHIND:
        return []
    return [
        f"{side['name']} does not keep up with {plan.rate:g} requests/s: in the later half of a block they "
        f"took {growth:.1f} times as long as in the earlier half, and would take longer still if more than "
        f"{plan.block_seconds:g} s of them arrived (benchmark.block_seconds)"
    ]


def _shares(side: Content) -> list[str]:
    """How the requests were shared among replicas, where there are several."""
    if len(side["urls"]) < 2:
        return []
    sent = side["measured"]["sent"]
    told = [f"{url} {count / sum(sent):.0%}" for url, count in zip(side["urls"], sent, strict=True)]
    return [f"replicas of {side['name']}: {', '.join(told)}"]


def sides_of(run: Run) -> list[Content]:
    """The contestants, baseline first."""
    if run["verdict"] is None:
        return [run["alone"]]
    return [run["verdict"]["baseline"], run["verdict"]["candidate"]]


def head(content: Content) -> str:
    """The line above the table: what was measured, and where."""
    models = " and ".join(dict.fromkeys(one["model"] for run in content["runs"] for one in sides_of(run)))
    engine = f"{content['engine']} engine" if content["engine"] else "servers not started here"
    over = " · gRPC" if _protocol(content) == GRPC else ""
    return f"{models} · {engine}{over} · {content['machine']['summary']}"


def _protocol(content: Content) -> str:
    """What requests were sent over. Results do not say it that are from before there was a choice."""
    return str(content["plan"].get("protocol", REST))


def notes(content: Content) -> list[str]:
    """What is said below the table: what holds for one run with its name, and what holds for all."""
    common = common_notes(content)
    own = [(run_name(run, content), note) for run in content["runs"] for note in run["notes"]]
    return [f"{name}: {note}" for name, note in own if note not in common] + common


def common_notes(content: Content) -> list[str]:
    """What every run says, and what is said once for the whole benchmark."""
    runs = content["runs"]
    common = [note for note in runs[0]["notes"] if all(note in run["notes"] for run in runs)]
    shared = [content["pinning"]["summary"]] if content["pinning"] else []
    # Results from before contestants could be left out do not have the key.
    left_out = [str(LeftOut(**one)) for one in content.get("left_out", ())]
    return left_out + common + shared + _busy(content["machine"])


BUSY = 2.0
"""Programs for each CPU, in the last minute: more than building and loading models leave behind."""


def _busy(machine: Content) -> list[str]:
    """What is said of a machine that had much else to do when the benchmark began."""
    load, cores = machine["load"], machine["cores"]
    if load is None or load[0] <= BUSY * cores:
        return []
    return [f"other programs kept the machine busy when this began (load {load[0]:.1f}, {cores} CPUs)"]


def run_name(run: Run, content: Content) -> str:
    """What a run is called among the others of its benchmark."""
    connections = run["connections"]
    how = f" over {connections} connection{'s' if connections > 1 else ''}" if is_swept(content) else ""
    return str(sides_of(run)[-1]["name"]) + how


def is_swept(content: Content) -> bool:
    """Whether the number of connections is worth a column. In open loop a single one is only a cap."""
    plan = content["plan"]
    return len(plan["connections"]) > 1 or (plan["rate"] is None and plan["connections"] != [1])


def rows(content: Content) -> list[dict[str, object]]:
    """The table: a row for each contestant, the baseline's once for each number of connections."""
    table: list[dict[str, object]] = []
    seen = set()
    for run in content["runs"]:
        connections = run["connections"]
        made = _rows(run, content)
        table += made if connections not in seen else made[-1:]
        seen.add(connections)
    return table


def _rows(run: Run, content: Content) -> list[dict[str, object]]:
    verdict = run["verdict"]
    table = [_row(one, run, content) for one in sides_of(run)]
    if verdict is None:
        return table
    p50 = verdict["comparisons"].get(P50)
    noise = f"1.00 (noise {p50['noise']:.1%})" if p50 else "-"
    difference = verdict["agreement"]["difference"]
    apart = _difference_heading(content)
    compared = (
        {"speed-up [95% CI]": noise, "same top-1": "-", apart: "-"},
        {
            "speed-up [95% CI]": _speedup(p50),
            "same top-1": verdict["agreement"]["percent"],
            apart: "inf" if difference is None else f"{difference:.2g}",
        },
    )
    return [row | more for row, more in zip(table, compared, strict=True)]


def _difference_heading(content: Content) -> str:
    """What the largest difference of two answers is: of probabilities, or else in parts of a number."""
    numbers = [
        output["numbers"]
        for run in content["runs"]
        if run["verdict"]
        for output in run["verdict"]["agreement"]["outputs"]
    ]
    found = [one["is_probability"] for one in numbers if one]
    return "max |dp|" if any(found) or not found else "max rel. diff"


def _row(side: Content, run: Run, content: Content) -> dict[str, object]:
    measured, rate = side["measured"] or {}, content["plan"]["rate"]
    return {
        "variant": side["name"],
        "backend": side["backend"],
        "precision": side["precision"],
        **({"protocol": protocol_of(side["urls"][0])} if _protocol(content) == MIXED else {}),
        **({"connections": run["connections"]} if is_swept(content) else {}),
        **({} if rate is None else {"offered/s": f"{rate:g}"}),
        **{f"p{q} ms": milliseconds(measured.get(f"p{q}")) for q in stats.MINIMUM_SAMPLES},
        "req/s": f"{measured['rate']:.1f}" if measured else "-",
    }


def _speedup(comparison: Content | None) -> str:
    return "-" if comparison is None else str(interval(comparison))


def interval(comparison: Content) -> stats.Interval:
    """That of one figure."""
    return stats.Interval(*(comparison[key] for key in ("ratio", "low", "high")))


def milliseconds(seconds: float | None) -> str:
    """Seconds as a table shows them, to three digits or a tenth; "-" for what was not measured."""
    if seconds is None:
        return "-"
    shown = seconds * 1000
    return f"{shown:.{1 if shown >= 10 else 2 if shown >= 1 else 3}f}"
