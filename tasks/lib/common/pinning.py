"""Which CPUs the servers and the client of a benchmark run on.

A client on the servers' CPUs takes time away from them, and not from both alike: the faster one answers
more often. With cores enough it gets one of its own, and both servers share the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tasks.lib.common.errors import SettingError

CPUs = tuple[int, ...]
"""Numbers of CPUs, in ascending order."""

FEWEST_CORES = 4
"""From so many on a core is given to the client: of fewer it would take more than a quarter."""


@dataclass(frozen=True)
class Pinning:
    """Who runs where, and why."""

    servers: CPUs
    """Those of every server that is started for the benchmark; empty where that is not known."""
    client: CPUs
    """The same of the client."""
    why: str = ""
    """Why they are not apart; empty where they are."""

    @property
    def is_apart(self) -> bool:
        """Whether the client has CPUs of its own."""
        return not self.why

    def __str__(self) -> str:
        if self.is_apart:
            return f"servers run on {_named(self.servers)}, the client on {_named(self.client)}"
        where = f" {_named(self.servers)}" if self.servers else ""
        return f"client and servers share{where}: {self.why}"


def plan(setting: CPUs, cores: Sequence[CPUs] | None) -> Pinning:
    """Servers on the CPUs `setting` (empty: whatever is best), the client on others if it can be.

    `cores` are the CPUs that this process may use, those of one core together; None if the system does
    not tell.
    """
    if cores is None:
        return Pinning(setting, (), "this system cannot pin programs to CPUs")
    usable = joined(cores)
    if not setting:
        if len(cores) < FEWEST_CORES:
            number = f"{len(cores)} core{'' if len(cores) == 1 else 's'}"
            return Pinning(usable, usable, f"{number}, and {FEWEST_CORES} are needed to keep them apart")
        return Pinning(joined(cores[:-1]), cores[-1])
    apart = joined([core for core in cores if not set(core) & set(setting)])
    # A core's other thread is not one's own, but better than the very same.
    client = apart or tuple(cpu for cpu in usable if cpu not in setting)
    if client:
        return Pinning(setting, client)
    return Pinning(setting, usable, "the setting serve.cpus leaves none to the client")


def joined(cores: Sequence[CPUs]) -> CPUs:
    """The CPUs of several cores."""
    return tuple(sorted(cpu for core in cores for cpu in core))


def usable() -> CPUs | None:
    """The CPUs that this thread may use; None if the system does not tell."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None


def parse(text: str) -> CPUs:
    """Linux's way to write CPUs, "0-3,6". Raises ValueError."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(numbers))


def listed(cpus: CPUs) -> str:
    """The same the other way round."""
    runs: list[list[int]] = []
    for cpu in cpus:
        if runs and cpu == runs[-1][-1] + 1:
            runs[-1].append(cpu)
        else:
            runs.append([cpu])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _named(cpus: CPUs) -> str:
    return f"CPU{'' if len(cpus) == 1 else 's'} {listed(cpus)}"


@contextmanager
def confined(cpus: CPUs) -> Iterator[None]:
    """This thread, and the programs it starts meanwhile, on `cpus` only; not moved if there are none.

    Raises SettingError if they are not there.
    """
    if not cpus:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise SettingError("This system cannot pin programs to CPUs.", "Set serve.cpus to auto.")
    before = os.sched_getaffinity(0)
    try:
        try:
            os.sched_setaffinity(0, cpus)
            missing = set(cpus) - os.sched_getaffinity(0)  # Linux takes those that are there
        except OSError:
            missing = set(cpus)
        if missing:
            raise SettingError(
                f"This machine has not all of the CPUs {listed(cpus)}, or keeps them from this program.",
                "Change the setting serve.cpus.",
            )
        yield
    finally:
        os.sched_setaffinity(0, before)
