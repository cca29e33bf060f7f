"""What is printed of a result: head line, table, notes.

It is made from what is saved, so `benchmark.show` prints a benchmark again as it was.
"""

from __future__ import annotations

from tasks.lib.client.rest import protocol_of
from tasks.lib.common.settings import GRPC, MIXED, REST, Plan
from tasks.lib.measure import stats
from tasks.lib.measure.agreement import hollow_note
from tasks.lib.measure.verdict import P50
from tasks.lib.results.schema import Comparison, LeftOut, Machine, Measured, Result, Run, Side, Verdict

FALLS_BEHIND = 1.75
"""Measurement.growth from which on a queue is spoken of. Simulated, with 20 to 1000 arrivals in a block: a
server that is busy for nine tenths of the time stays below it, one that gets a tenth more than it can answer
is at 2 to 3."""


def left_out_note(left_out: LeftOut) -> str:
    """That a contestant was not measured, and why."""
    return f"{left_out['name']} was left out: {left_out['reason']}"


def run_notes(run: Run, plan: Plan) -> list[str]:
    """What is said below the table."""
    sides = sides_of(run)
    warnings = [one["warning"] for one in sides if one["warning"]]
    measured = [one["measured"] for one in sides if one["measured"]]
    if not measured:
        return list(dict.fromkeys(warnings))
    verdict = run["verdict"]
    rounds = rounds_of(run)
    notes = []
    if verdict is not None:
        # Results from before this was looked at do not have the key.
        if verdict["agreement"].get("is_hollow"):
            notes.append(hollow_note(verdict["agreement"]["inputs"]))
        told = [
            f"{figure} {_speedup(one)}" for figure, one in verdict["comparisons"].items() if figure != P50
        ]
        notes.append(f"also: {', '.join(told)}")
        if verdict.get("restarted"):
            ended = f"{rounds // verdict['instances']} of each pair"
        elif verdict["is_narrow"]:
            ended = f"until the interval was narrower than {100 * plan.ci_width:g}%"
        else:
            ended = f"until {plan.max_seconds:g} s had passed"
        number = verdict.get("instances", 1)
        processes = f" of {number} processes of {_several(verdict)}" if number > 1 else ""
        notes.append(f"measured in {rounds} rounds{processes}, {ended}")
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


def _several(verdict: Verdict) -> str:
    """Which servers were measured in several processes: all of them but those given by address."""
    sides = {"baseline": verdict["baseline"], "candidate": verdict["candidate"]}
    restarted = verdict.get("restarted", [])
    names = [side["name"] for label, side in sides.items() if label in restarted or side.get("further")]
    return names[0] if len(names) == 1 else "each server"


def _queue(side: Side, plan: Plan) -> list[str]:
    """That a queue was still growing when blocks ended, in open loop."""
    growth = measured_of(side).get("growth")
    if plan.rate is None or growth is None or growth < FALLS_BEHIND:
        return []
    return [
        f"{side['name']} does not keep up with {plan.rate:g} requests/s: in the later half of a block they "
        f"took {growth:.1f} times as long as in the earlier half, and would take longer still if more than "
        f"{plan.block_seconds:g} s of them arrived (benchmark.block_seconds)"
    ]


def _shares(side: Side) -> list[str]:
    """How the requests were shared among replicas, where there are several."""
    if len(side["urls"]) < 2:
        return []
    sent = measured_of(side)["sent"]
    told = [f"{url} {count / sum(sent):.0%}" for url, count in zip(side["urls"], sent, strict=True)]
    return [f"replicas of {side['name']}: {', '.join(told)}"]


def sides_of(run: Run) -> list[Side]:
    """The contestants, baseline first."""
    if run["alone"] is not None:
        return [run["alone"]]
    verdict = verdict_of(run)
    return [verdict["baseline"], verdict["candidate"]]


def verdict_of(run: Run) -> Verdict:
    """The verdict of a run that has one."""
    assert run["verdict"] is not None, "nothing was compared"
    return run["verdict"]


def measured_of(side: Side) -> Measured:
    """What was measured of a contestant that was measured."""
    assert side["measured"] is not None, "it was not measured"
    return side["measured"]


def rounds_of(run: Run) -> int:
    """How many rounds were measured."""
    return run["alone"]["rounds"] if run["alone"] is not None else verdict_of(run)["rounds"]


def head(content: Result) -> str:
    """The line above the table: what was measured, and where."""
    models = " and ".join(dict.fromkeys(side["model"] for run in content["runs"] for side in sides_of(run)))
    engine = f"{content['engine']} engine" if content["engine"] else "servers not started here"
    over = " · gRPC" if _protocol(content) == GRPC else ""
    return f"{models} · {engine}{over} · {content['machine']['summary']}"


def _protocol(content: Result) -> str:
    """What requests were sent over. Results do not say it that are from before there was a choice."""
    return str(content["plan"].get("protocol", REST))


def notes(content: Result) -> list[str]:
    """What is said below the table: what holds for one run with its name, and what holds for all."""
    common = common_notes(content)
    own = [(run_name(run, content), note) for run in content["runs"] for note in run["notes"]]
    return [f"{name}: {note}" for name, note in own if note not in common] + common


def common_notes(content: Result) -> list[str]:
    """What every run says, and what is said once for the whole benchmark."""
    runs = content["runs"]
    common = [note for note in runs[0]["notes"] if all(note in run["notes"] for run in runs)]
    shared = [content["pinning"]["summary"]] if content["pinning"] else []
    # Results from before contestants could be left out do not have the key.
    left_out = [left_out_note(contestant) for contestant in content.get("left_out", ())]
    return left_out + common + shared + _busy(content["machine"])


BUSY = 2.0
"""Programs for each CPU, in the last minute: more than building and loading models leave behind."""


def _busy(machine: Machine) -> list[str]:
    """What is said of a machine that had much else to do when the benchmark began."""
    load, cores = machine["load"], machine["cores"]
    if load is None or load[0] <= BUSY * cores:
        return []
    return [f"other programs kept the machine busy when this began (load {load[0]:.1f}, {cores} CPUs)"]


def run_name(run: Run, content: Result) -> str:
    """What a run is called among the others of its benchmark."""
    connections = run["connections"]
    how = f" over {connections} connection{'s' if connections > 1 else ''}" if is_swept(content) else ""
    return str(sides_of(run)[-1]["name"]) + how


def is_swept(content: Result) -> bool:
    """Whether the number of connections is worth a column. In open loop a single one is only a cap."""
    plan = content["plan"]
    return len(plan["connections"]) > 1 or (plan["rate"] is None and plan["connections"] != [1])


def rows(content: Result) -> list[dict[str, object]]:
    """The table: a row for each contestant, the baseline's once for each number of connections."""
    table: list[dict[str, object]] = []
    seen = set()
    for run in content["runs"]:
        connections = run["connections"]
        made = _rows(run, content)
        table += made if connections not in seen else made[-1:]
        seen.add(connections)
    return table


def _rows(run: Run, content: Result) -> list[dict[str, object]]:
    verdict = run["verdict"]
    table = [_row(side, run, content) for side in sides_of(run)]
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


def _difference_heading(content: Result) -> str:
    """What the largest difference of two answers is: of probabilities, or else in parts of a number."""
    numbers = [
        output["numbers"]
        for run in content["runs"]
        if run["verdict"]
        for output in run["verdict"]["agreement"]["outputs"]
    ]
    are_probabilities = [output_numbers["is_probability"] for output_numbers in numbers if output_numbers]
    return "max |dp|" if any(are_probabilities) or not are_probabilities else "max rel. diff"


def _row(side: Side, run: Run, content: Result) -> dict[str, object]:
    measured, rate = side["measured"], content["plan"]["rate"]
    percentiles: dict[int, float | None] = {50: None, 90: None, 99: None}
    if measured is not None:
        percentiles = {50: measured["p50"], 90: measured["p90"], 99: measured["p99"]}
    return {
        "variant": side["name"],
        "backend": side["backend"],
        "precision": side["precision"],
        **({"protocol": protocol_of(side["urls"][0])} if _protocol(content) == MIXED else {}),
        **({"connections": run["connections"]} if is_swept(content) else {}),
        **({} if rate is None else {"offered/s": f"{rate:g}"}),
        **{f"p{q} ms": milliseconds(percentiles[q]) for q in stats.MINIMUM_SAMPLES},
        "req/s": f"{measured['rate']:.1f}" if measured else "-",
    }


def _speedup(comparison: Comparison | None) -> str:
    return "-" if comparison is None else str(interval(comparison))


def interval(comparison: Comparison) -> stats.Interval:
    """That of one figure."""
    return stats.Interval(comparison["ratio"], comparison["low"], comparison["high"])


def milliseconds(seconds: float | None) -> str:
    """Seconds as a table shows them, to three digits or a tenth; "-" for what was not measured."""
    if seconds is None:
        return "-"
    shown = seconds * 1000
    return f"{shown:.{1 if shown >= 10 else 2 if shown >= 1 else 3}f}"
