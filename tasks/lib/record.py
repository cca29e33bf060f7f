"""What a benchmark leaves: results/TIME-MODEL/result.json, and what is printed of it.

What is printed is made from what is saved, so `benchmark.show` prints a run again as it was.
"""

from __future__ import annotations

import json
import platform
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tasks.lib import stats
from tasks.lib.errors import SettingError, SuiteError
from tasks.lib.hardware import Hardware
from tasks.lib.remote import public
from tasks.lib.settings import Paths, Plan
from tasks.lib.verdict import BASELINE, CANDIDATE, P50, Contestant, Measurement, Verdict

SCHEMA = 2
"""Raised whenever a key of result.json changes its name or meaning; docs/result.md tells what they are."""

Content = Mapping[str, Any]
"""What result.json holds. Times are in seconds, shares and ratios as fractions."""


@dataclass(frozen=True)
class Alone:
    """A contestant that was measured by itself."""

    contestant: Contestant
    measured: Measurement
    rounds: int
    """Those that were finished."""


@dataclass(frozen=True)
class Record:
    """One benchmark, with all that is needed to judge it later."""

    time: str
    """UTC, ISO 8601."""
    command: str
    engine: str | None
    """None where every server was somebody else's."""
    hardware: Hardware
    plan: Plan
    verdict: Verdict | None
    """None for a contestant that was measured alone."""
    alone: Alone | None = None


def now() -> str:
    """The time of a record."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def command_line() -> str:
    """What was typed, less the passwords of URLs: results are shown to others."""
    return shlex.join(["invoke", *map(public, sys.argv[1:])])


def content(record: Record) -> dict[str, Any]:
    """What result.json holds of a benchmark."""
    made = {
        "schema": SCHEMA,
        "time": record.time,
        "command": record.command,
        "engine": record.engine,
        "machine": asdict(record.hardware)
        | {"summary": str(record.hardware), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("invoke", "numpy", "httptools", "requests", "pillow")}
        | embedded_versions(),
        "plan": asdict(record.plan),
        "alone": _alone(record.alone) if record.alone else None,
        "verdict": _verdict(record.verdict) if record.verdict else None,
    }
    finite: dict[str, Any] = _finite(made)
    return finite | {"sentence": _sentence(record), "notes": _notes(finite)}


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "baseline": _side(verdict.baseline, verdict.measured.get(BASELINE)),
        "candidate": _side(verdict.candidate, verdict.measured.get(CANDIDATE)),
        "agreement": asdict(verdict.agreement)
        | {"holds": verdict.agreement.holds, "percent": verdict.agreement.percent},
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
    from tasks.lib import environment

    text = (Path(__file__).resolve().parents[2] / environment.LOCK).read_text()
    return dict(re.findall(r"^(tensorflow|tensorflow-cpu|openvino)==([^\s;]+)", text, re.MULTILINE))


def _sentence(record: Record) -> str:
    """The last line: the outcome in words."""
    if record.verdict is not None:
        return record.verdict.sentence
    assert record.alone is not None
    measured = record.alone.measured
    failed = f" {measured.errors} requests failed." if measured.errors else ""
    return (
        f"{record.alone.contestant.name} alone: {milliseconds(measured.p50)} ms at p50, "
        f"{measured.rate:.1f} requests/s. Without --alone it is compared.{failed}"
    )


def _notes(content: Content) -> list[str]:
    """What is said below the table."""
    sides, plan = sides_of(content), content["plan"]
    warnings = [one["warning"] for one in sides if one["warning"]]
    measured = [one["measured"] for one in sides if one["measured"]]
    if not measured:
        return list(dict.fromkeys(warnings))
    verdict = content["verdict"]
    rounds = (verdict or content["alone"])["rounds"]
    notes = []
    if verdict is not None:
        told = [
            f"{figure} {_speedup(one)}" for figure, one in verdict["comparisons"].items() if figure != P50
        ]
        notes.append(f"also: {', '.join(told)}")
        if verdict["is_narrow"]:
            ended = f"until the interval was narrower than {100 * plan['ci_width']:g}%"
        else:
            ended = f"until {plan['max_seconds']:g} s were over"
        notes.append(f"measured in {rounds} rounds, {ended}")
    requests = min(one["requests"] for one in measured)
    missing = {q: n for q, n in stats.MINIMUM_SAMPLES.items() if requests < n}
    for side in sides:
        notes += _shares(side)
    if missing:
        needs = " and ".join(f"p{q} needs {n} requests" for q, n in missing.items())
        notes.append(f"{needs}, this run has {requests}: give a larger --max-seconds or a smaller --ci-width")
    return [*notes, *dict.fromkeys(warnings)]


def _shares(side: Content) -> list[str]:
    """How the requests were shared among replicas, where there are several."""
    if len(side["urls"]) < 2:
        return []
    sent = side["measured"]["sent"]
    told = [f"{url} {count / sum(sent):.0%}" for url, count in zip(side["urls"], sent, strict=True)]
    return [f"replicas of {side['name']}: {', '.join(told)}"]


def sides_of(content: Content) -> list[Content]:
    """The contestants, baseline first."""
    if content["verdict"] is None:
        return [content["alone"]]
    return [content["verdict"]["baseline"], content["verdict"]["candidate"]]


def head(content: Content) -> str:
    """The line above the table: what was measured, and where."""
    models = " and ".join(dict.fromkeys(one["model"] for one in sides_of(content)))
    engine = f"{content['engine']} engine" if content["engine"] else "servers that were there"
    return f"{models} · {engine} · {content['machine']['summary']}"


def rows(contents: Sequence[Content]) -> list[dict[str, object]]:
    """The table: a row for each contestant, the baseline's once for each number of connections."""
    # In open loop their number is only a cap.
    swept = any(c["plan"]["connections"] != 1 for c in contents if c["plan"]["rate"] is None)
    table: list[dict[str, object]] = []
    seen = set()
    for content in contents:
        connections = content["plan"]["connections"]
        made = _rows(content, connections if swept else None)
        table += made if connections not in seen else made[-1:]
        seen.add(connections)
    return table


def _rows(content: Content, connections: int | None) -> list[dict[str, object]]:
    verdict = content["verdict"]
    table = [_row(one, connections) for one in sides_of(content)]
    if verdict is None:
        return table
    p50 = verdict["comparisons"].get(P50)
    noise = f"1.00 (noise {p50['noise']:.1%})" if p50 else "-"
    difference = verdict["agreement"]["difference"]
    compared = (
        {"speed-up [95% CI]": noise, "same top-1": "-", "max |dp|": "-"},
        {
            "speed-up [95% CI]": _speedup(p50),
            "same top-1": verdict["agreement"]["percent"],
            "max |dp|": "inf" if difference is None else f"{difference:.2g}",
        },
    )
    return [row | more for row, more in zip(table, compared, strict=True)]


def _row(side: Content, connections: int | None) -> dict[str, object]:
    measured = side["measured"] or {}
    return {
        "variant": side["name"],
        "backend": side["backend"],
        "precision": side["precision"],
        **({} if connections is None else {"connections": connections}),
        **{f"p{q} ms": milliseconds(measured.get(f"p{q}")) for q in stats.MINIMUM_SAMPLES},
        "req/s": f"{measured['rate']:.1f}" if measured else "-",
    }


def _speedup(comparison: Content | None) -> str:
    if comparison is None:
        return "-"
    return f"{comparison['ratio']:.2f} [{comparison['low']:.2f}, {comparison['high']:.2f}]"


def milliseconds(seconds: float | None) -> str:
    """Seconds as a table shows them; "-" for what was not measured."""
    return "-" if seconds is None else f"{seconds * 1000:.1f}"


def write(paths: Paths, content: Content) -> Path:
    """Save a result and return its folder, results/TIME-MODEL.

    Raises SuiteError if it cannot be written.
    """
    stamp = content["time"].partition("+")[0].replace(":", "-")
    text = as_json(content) + "\n"
    model = sides_of(content)[-1]["model"].partition("@")[0]
    try:
        folder = _new_folder(paths.results / f"{stamp}-{model}")
        try:
            partial = folder / "result.json.partial"
            partial.write_text(text, encoding="utf-8")
            partial.replace(folder / "result.json")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    except OSError as error:
        raise SuiteError(
            f"The result cannot be saved in {paths.shown(paths.results)} ({error.strerror}).",
            "Make room there, or choose another folder with INVOKE_PATHS_RESULTS.",
        ) from error
    return folder


def _new_folder(wanted: Path) -> Path:
    """Make `wanted`, or the first of NAME-2, NAME-3, ... that is not there. Raises OSError."""
    wanted.parent.mkdir(parents=True, exist_ok=True)
    folder, number = wanted, 1
    while True:
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            folder = wanted.with_name(f"{wanted.name}-{number}")
        else:
            return folder


def read(place: Path) -> dict[str, Any]:
    """A saved result: result.json, or the folder that holds it. Raises SettingError."""
    file = place / "result.json" if place.is_dir() else place
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        schema = content["schema"]
    except OSError as error:
        raise SettingError(
            f"{str(file)!r} cannot be read ({error.strerror}).", "Name a folder below results/."
        ) from None
    except (ValueError, KeyError, TypeError):
        raise SettingError(f"{str(file)!r} is not a result.", "Name a folder below results/.") from None
    if schema != SCHEMA:
        raise SettingError(
            f"{str(file)!r} has schema {schema}, and this suite reads {SCHEMA}.",
            "Print it with the version of the suite that has written it.",
        )
    assert isinstance(content, dict)
    return content


DIFFERENCES = {
    "machine.cpu": "the CPUs differ",
    "machine.cores": "the numbers of cores differ",
    "machine.instruction_sets": "the instruction sets differ",
    "machine.system": "the systems differ",
    "engine": "the engines differ",
    "plan": "the plans differ (what was sent, and for how long)",
    "versions": "the versions of what was measured with, or of what executes the models, differ",
}
"""What makes two results hard to compare, by where it stands in them."""


def warnings(a: Content, b: Content) -> list[str]:
    """What must be said where two results are set side by side, in plain words."""
    found = []
    for place, words in DIFFERENCES.items():
        one, other = (_at(content, place) for content in (a, b))
        if one != other:
            found.append(f"{words}: {_short(one, other)} and {_short(other, one)}")
    models = [{(side["model"], _weights(side)) for side in sides_of(content)} for content in (a, b)]
    if models[0] != models[1]:
        names = [", ".join(sorted({name for name, _ in one})) for one in models]
        same = " (by the same name, with other weights)" if names[0] == names[1] else ""
        found.append(f"the models differ: {names[0]} and {names[1]}{same}")
    return found


def _weights(side: Content) -> str | None:
    return side["origin"]["content_sha256"] if side["origin"] else None


def _at(content: Content, place: str) -> Any:
    value: Any = content
    for key in place.split("."):
        value = value[key]
    return value


def _short(value: Any, other: Any) -> str:
    """A value as a person reads it; of a table only what differs."""
    if isinstance(value, Mapping):
        different = {key: one for key, one in value.items() if one != other.get(key)}
        return ", ".join(f"{key} {one}" for key, one in different.items()) or "none"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def as_json(value: object) -> str:
    """JSON that every reader takes: infinities, which JSON has not, become null."""
    return json.dumps(_finite(value), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
