"""What else the machine does while servers are measured: other programs, the hypervisor, waits for a CPU.

Linux alone tells (/proc/stat, and schedstat and sched of each thread:
https://docs.kernel.org/scheduler/sched-stats.html; a kernel without CONFIG_SCHED_DEBUG has no sched).
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROC = Path("/proc")
PAUSE = 0.1
"""Seconds between two looks at least: the counters of the whole machine advance in steps of 0.01 s."""
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
CLIENT = "client"
BUSY = 0.1
"""A share of the CPUs, or of a program's time, from which on what else the machine does is told."""


@dataclass(frozen=True)
class Usage:
    """What programs have used since they began, in seconds."""

    clock: float
    """That of time.perf_counter."""
    busy: float
    """Of all CPUs, by all programs."""
    stolen: float
    """Of all CPUs, by other virtual machines."""
    used: Mapping[str, float]
    """By each watched program: CPU time."""
    waited: Mapping[str, float]
    """By each watched program: time in which a thread could run and had no CPU."""
    migrations: Mapping[str, int | None]
    """By each watched program: how often a thread changed to another CPU; None if it is not known."""


@dataclass(frozen=True)
class Span:
    """What happened between two looks."""

    began: float
    """On the clock of time.perf_counter, as the blocks of a load."""
    seconds: float
    others: float | None
    """Share of all CPUs that programs used which are neither client nor servers; None if one is not known."""
    stolen: float
    """Share of all CPUs."""
    waited: Mapping[str, float]
    """Of the time in which each program's threads could run, the share in which they had no CPU."""
    migrations: Mapping[str, int] = field(default_factory=dict)
    """How often a thread of each program changed to another CPU; of those of which it is known."""

    def disturbs(self, program: str) -> bool:
        """Whether other programs or machines used much of the CPUs, or the program waited much for one."""
        shares = (self.others, self.stolen, self.waited.get(program))
        return any(share is not None and share >= BUSY for share in shares)


@dataclass(frozen=True)
class Disturbance:
    """What else the machine did while two servers were measured."""

    others: float | None
    """Share of all CPUs that programs used which are neither client nor servers; None if it is not known."""
    stolen: float
    """Share of all CPUs that other virtual machines used."""
    waited: Mapping[str, float]
    """Of the time in which the threads of a program could run, the share in which they had no CPU; of those
    programs that were found."""
    spans: tuple[Span, ...] = ()
    """The same over time."""
    migrations: Mapping[str, int] = field(default_factory=dict)
    """How often a thread of each program changed to another CPU; of those of which it is known."""

    def explains(self, baseline: str, candidate: str) -> float:
        """How much slower one of two equal servers would have been by waiting more: 0.02 is 2 %.

        Threads that have no CPU for a share w of the time take 1 / (1 - w) times as long. 0 if a server was
        not found.
        """
        if not {baseline, candidate} <= self.waited.keys():
            return 0.0
        ready = sorted(max(1 - self.waited[name], 1e-3) for name in (baseline, candidate))
        return ready[1] / ready[0] - 1


class Watch:
    """Looks at the machine and at `programs`: by name the ids of their processes, none if not known."""

    def __init__(self, programs: Mapping[str, Sequence[int]]) -> None:
        self._programs = {**programs, CLIENT: (os.getpid(),)}
        self._cpus = os.cpu_count() or 1
        self._last = self._look()
        self.spans: list[Span] = []

    def note(self) -> None:
        """Look again, unless that was done just now."""
        if self._last is not None and time.perf_counter() - self._last.clock >= PAUSE:
            self._add()

    def finished(self) -> Disturbance | None:
        """All that was seen until now; None on a system that does not tell."""
        self._add()
        return summary(self.spans)

    def _add(self) -> None:
        now = self._look()
        if self._last is not None and now is not None:
            self.spans.append(self._between(self._last, now))
        self._last = now

    def _between(self, before: Usage, now: Usage) -> Span:
        seconds = now.clock - before.clock
        used = {name: now.used[name] - before.used[name] for name in self._programs}
        waited = {name: now.waited[name] - before.waited[name] for name in self._programs}
        moves = {name: (before.migrations[name], now.migrations[name]) for name in self._programs}
        others = (now.busy - before.busy - sum(used.values())) / (seconds * self._cpus)
        return Span(
            before.clock,
            seconds,
            min(1.0, max(0.0, others)) if all(self._programs.values()) else None,
            max(0.0, now.stolen - before.stolen) / (seconds * self._cpus),
            {
                name: waited[name] / max(waited[name] + used[name], 1e-9)
                for name, ids in self._programs.items()
                if ids
            },
            # Those of a thread that has ended are no longer counted.
            {name: max(0, b - a) for name, (a, b) in moves.items() if a is not None and b is not None},
        )

    def _look(self) -> Usage | None:
        try:
            words = (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]
        except OSError:
            return None
        user, nice, system, _, _, irq, soft, stolen = (int(word) / TICKS for word in words)
        used, waited, moves = {}, {}, {}
        for name, ids in self._programs.items():
            used[name], waited[name], moves[name] = _of(ids)
        return Usage(time.perf_counter(), user + nice + system + irq + soft, stolen, used, waited, moves)


def summary(spans: Sequence[Span]) -> Disturbance | None:
    """What all spans together say; None if there is none. What one does not know, it does not know."""
    seconds = sum(span.seconds for span in spans)
    if not seconds:
        return None
    others = [span.others * span.seconds for span in spans if span.others is not None]
    names = [name for name in spans[0].waited if all(name in span.waited for span in spans)]
    moved = [name for name in spans[0].migrations if all(name in span.migrations for span in spans)]
    return Disturbance(
        sum(others) / seconds if len(others) == len(spans) else None,
        sum(span.stolen * span.seconds for span in spans) / seconds,
        {name: sum(span.waited[name] * span.seconds for span in spans) / seconds for name in names},
        tuple(spans),
        {name: sum(span.migrations[name] for span in spans) for name in moved},
    )


def _of(ids: Collection[int]) -> tuple[float, float, int | None]:
    """CPU time, waiting time and migrations of all threads of some processes."""
    used = waited = 0.0
    moves: int | None = 0 if ids else None
    for pid in ids:
        try:
            threads = os.listdir(PROC / str(pid) / "task")
        except OSError:
            continue
        for thread in threads:
            folder = PROC / str(pid) / "task" / thread
            try:
                running, waiting, _ = (folder / "schedstat").read_bytes().split()
            except OSError:  # it ended just now
                continue
            used += int(running) / 1e9
            waited += int(waiting) / 1e9
            moved = _migrations(folder)
            moves = None if moves is None or moved is None else moves + moved
    return used, waited, moves


def _migrations(folder: Path) -> int | None:
    """How often a thread changed to another CPU; None if the system does not tell."""
    try:
        lines = (folder / "sched").read_bytes().splitlines()
    except OSError:
        return None
    counts = (line.rpartition(b":")[2] for line in lines if line.startswith(b"se.nr_migrations "))
    return next(map(int, counts), None)
