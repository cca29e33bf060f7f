"""What a benchmark leaves: its table, and results/TIME-MODEL/result.json."""

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
from tasks.lib.errors import SuiteError
from tasks.lib.hardware import Hardware
from tasks.lib.remote import public
from tasks.lib.settings import Paths
from tasks.lib.store import Model
from tasks.lib.verdict import BASELINE, CANDIDATE, Contestant, Measurement, Plan, Verdict

SCHEMA = 1
"""Raised whenever a key of result.json changes its name or meaning."""


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
    engine: str
    model: Model
    hardware: Hardware
    plan: Plan
    verdict: Verdict | None
    """None for a contestant that was measured alone."""
    alone: Alone | None = None

    @property
    def head(self) -> str:
        """The line above the table: what was measured, and where."""
        return f"{self.model} · {self.engine} engine · {self.hardware}"

    @property
    def measured(self) -> list[Measurement]:
        """Of each contestant that was timed, baseline first."""
        if self.verdict is not None:
            return list(self.verdict.measured.values())
        return [self.alone.measured] if self.alone else []

    @property
    def rounds(self) -> int:
        """How many were finished; none where nothing was timed."""
        if self.verdict is not None:
            return len(self.verdict.round_ratios)
        return self.alone.rounds if self.alone else 0

    @property
    def note(self) -> str | None:
        """Why the table shows "-" for a percentile, and what it would take."""
        requests = min((one.requests for one in self.measured), default=None)
        missing = {q: n for q, n in stats.MINIMUM_SAMPLES.items() if requests is not None and requests < n}
        if not missing:
            return None
        needs = " and ".join(f"p{q} needs {n} requests" for q, n in missing.items())
        if self.rounds < self.plan.rounds:
            done, limit = f"{self.rounds} of {self.plan.rounds} rounds", f"{self.plan.max_seconds:g} s"
            cut = f"which ended after {done}, at {limit}"
            return f"{needs}; this run, {cut}, has {requests}: raise INVOKE_BENCHMARK_MAX_SECONDS."
        return f"{needs}, this run has {requests}: raise benchmark.rounds (INVOKE_BENCHMARK_ROUNDS)."

    @property
    def sentence(self) -> str:
        """The last line: the outcome in words."""
        if self.verdict is not None:
            return self.verdict.sentence
        assert self.alone is not None
        measurement = self.alone.measured
        failed = f" {measurement.errors} requests failed." if measurement.errors else ""
        return (
            f"{self.alone.contestant.name} alone: {milliseconds(measurement.p50)} ms at p50, "
            f"{measurement.rate:.1f} requests/s. Without --alone it is compared.{failed}"
        )


def now() -> str:
    """The time of a record."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def command_line() -> str:
    """What was typed, less the passwords of URLs: results are shown to others."""
    return shlex.join(["invoke", *map(public, sys.argv[1:])])


def rows(records: Sequence[Record]) -> list[dict[str, object]]:
    """The table: the baseline, as in the first of the records, and a row for each candidate."""
    first, *others = [_rows(record) for record in records]
    return first + [row for rows in others for row in rows[-1:]]


def _rows(record: Record) -> list[dict[str, object]]:
    if record.verdict is None:
        assert record.alone is not None
        return [_row(record.alone.contestant, record.alone.measured)]
    verdict = record.verdict
    speedup, same, difference = "-", verdict.agreement.percent, f"{verdict.agreement.difference:.2g}"
    noise = "-"
    if verdict.speedup is not None and verdict.noise is not None:
        speedup = f"{verdict.speedup.ratio:.2f} [{verdict.speedup.low:.2f}, {verdict.speedup.high:.2f}]"
        noise = f"1.00 (noise {verdict.noise:.1%})"
    comparison = ("speed-up [95% CI]", "same top-1", "max |dp|")
    return [
        _row(verdict.baseline, verdict.measured.get(BASELINE))
        | dict(zip(comparison, (noise, "-", "-"), strict=True)),
        _row(verdict.candidate, verdict.measured.get(CANDIDATE))
        | dict(zip(comparison, (speedup, same, difference), strict=True)),
    ]


def _row(contestant: Contestant, measured: Measurement | None) -> dict[str, object]:
    return {
        "variant": contestant.name,
        "backend": contestant.backend,
        "precision": contestant.precision,
        "p50 ms": milliseconds(measured.p50 if measured else None),
        "p90 ms": milliseconds(measured.p90 if measured else None),
        "p99 ms": milliseconds(measured.p99 if measured else None),
        "req/s": f"{measured.rate:.1f}" if measured else "-",
    }


def milliseconds(seconds: float | None) -> str:
    """Seconds as a table shows them; "-" for what was not measured."""
    return "-" if seconds is None else f"{seconds * 1000:.1f}"


def content(record: Record) -> dict[str, Any]:
    """What result.json holds. Times are in seconds."""
    verdict = record.verdict
    return {
        "schema": SCHEMA,
        "time": record.time,
        "command": record.command,
        "sentence": record.sentence,
        "note": record.note,
        "engine": record.engine,
        "model": {
            "name": record.model.name,
            "version": record.model.version,
            "origin": asdict(record.model.origin),
            "warning": record.model.origin.warning,
        },
        "machine": asdict(record.hardware) | {"python": platform.python_version()},
        "versions": {name: version(name) for name in ("invoke", "numpy", "httptools", "requests", "pillow")}
        | embedded_versions(),
        "plan": asdict(record.plan),
        "alone": _alone(record.alone) if record.alone else None,
        "verdict": None if verdict is None else _verdict(verdict),
    }


def embedded_versions() -> dict[str, str]:
    """The versions that docker/embedded/requirements.lock pins of what executes models."""
    from tasks.lib import environment

    text = (Path(__file__).resolve().parents[2] / environment.LOCK).read_text()
    return dict(re.findall(r"^(tensorflow|tensorflow-cpu|openvino)==([^\s;]+)", text, re.MULTILINE))


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "baseline": _side(verdict.baseline, verdict.measured.get(BASELINE)),
        "candidate": _side(verdict.candidate, verdict.measured.get(CANDIDATE)),
        "agreement": asdict(verdict.agreement) | {"holds": verdict.agreement.holds},
        "speedup": asdict(verdict.speedup) if verdict.speedup else None,
        "noise": verdict.noise,
        "round_ratios": verdict.round_ratios,
        "control_ratios": verdict.control_ratios,
    }


def _alone(alone: Alone) -> dict[str, Any]:
    return _side(alone.contestant, alone.measured) | {"rounds": alone.rounds}


def _side(contestant: Contestant, measured: Measurement | None) -> dict[str, Any]:
    return asdict(contestant) | {"measured": asdict(measured) if measured else None}


def write(paths: Paths, record: Record) -> Path:
    """Save the record and return its folder, results/TIME-MODEL.

    Raises SuiteError if it cannot be written.
    """
    stamp = record.time.partition("+")[0].replace(":", "-")
    text = as_json(content(record)) + "\n"
    try:
        folder = _new_folder(paths.results / f"{stamp}-{record.model.name}")
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
