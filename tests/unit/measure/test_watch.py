"""tasks.lib.measure.watch: what the system tells of programs, and what follows from it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.lib.measure import watch
from tasks.lib.measure.watch import CLIENT, Disturbance, Span, Watch, summary
from tests.helpers.cpus import NEEDS_TWO

LINUX = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="only Linux tells this")
BUSY = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"


def compute(seconds: float) -> None:
    """Use the CPU for so long."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@LINUX
def test_programs_that_are_neither_client_nor_servers_are_others() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY]) as program:
        try:
            alone, known = Watch({}), Watch({"server": (program.pid,)})
            compute(0.5)
            unknown, both = alone.finished(), known.finished()
        finally:
            program.kill()
    assert unknown is not None
    assert both is not None
    assert unknown.others is not None
    assert both.others is not None
    assert unknown.others > both.others
    assert set(both.waited) == {"server", CLIENT}
    assert all(0 <= share <= 1 for share in both.waited.values())


@LINUX
def test_others_are_not_known_where_a_server_is_not() -> None:
    looking = Watch({"server": ()})
    compute(0.05)
    seen = looking.finished()
    assert seen is not None
    assert seen.others is None
    assert set(seen.waited) == {CLIENT}
    assert seen.explains("server", CLIENT) == 0


@LINUX
def test_looks_are_not_more_frequent_than_the_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    looking = Watch({})
    for _ in range(100):
        looking.note()
    assert len(looking.spans) <= 1
    monkeypatch.setattr(watch, "PAUSE", 0)
    looking.note()
    looking.note()
    assert len(looking.spans) >= 2
    assert [span.began for span in looking.spans] == sorted(span.began for span in looking.spans)


@pytest.mark.skipif(not Path("/proc/self/sched").exists(), reason="this kernel does not tell")
@NEEDS_TWO
def test_a_thread_that_changes_to_another_cpu_has_migrated() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    looking = Watch({})
    try:
        for cpu in (*cpus[:2], *cpus[:2]):
            os.sched_setaffinity(0, {cpu})
    finally:
        os.sched_setaffinity(0, cpus)
    seen = looking.finished()
    assert seen is not None
    assert seen.migrations[CLIENT] >= 3


def test_migrations_are_not_known_where_the_system_does_not_tell(tmp_path: Path) -> None:
    assert watch._migrations(tmp_path) is None
    (tmp_path / "sched").write_text("python (1, #threads: 1)\nse.nr_migrations      :     12\n")
    assert watch._migrations(tmp_path) == 12
    (tmp_path / "sched").write_text("python (1, #threads: 1)\n")
    assert watch._migrations(tmp_path) is None


@pytest.mark.parametrize(
    ("others", "stolen", "waited", "is_disturbed"),
    [
        (0.05, 0.0, 0.0, False),
        (None, 0.0, 0.0, False),
        (0.1, 0.0, 0.0, True),
        (None, 0.1, 0.0, True),
        (0.0, 0.0, 0.1, True),
    ],
)
def test_what_disturbs_a_server(
    others: float | None, stolen: float, waited: float, is_disturbed: bool
) -> None:
    span = Span(0.0, 1.0, others, stolen, {"server": waited})
    assert span.disturbs("server") == is_disturbed
    assert span.disturbs("one that is not known") == (is_disturbed and waited == 0)


def test_all_spans_together_know_what_each_of_them_knows() -> None:
    spans = [Span(0.0, 1.0, 0.2, 0.0, {"a": 0.1, "b": 0.3}, {"a": 1}), Span(5.0, 3.0, 0.4, 0.1, {"a": 0.5})]
    seen = summary(spans)
    assert seen is not None
    assert seen.others == pytest.approx(0.35)
    assert seen.stolen == pytest.approx(0.075)
    assert seen.waited == pytest.approx({"a": 0.4})
    assert seen.migrations == {}
    part = summary([spans[0], Span(1.0, 1.0, None, 0.0, {}, {"a": 4})])
    assert part is not None
    assert (part.others, part.waited, part.migrations) == (None, {}, {"a": 5})
    assert summary([]) is None


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(watch, "PROC", tmp_path)
    looking = Watch({"server": (1,)})
    looking.note()
    assert looking.finished() is None


@pytest.mark.parametrize(
    ("baseline", "candidate", "explained"),
    [(0.0, 0.0, 0.0), (0.5, 0.0, 1.0), (0.0, 0.5, 1.0), (0.25, 0.25, 0.0), (0.2, 0.1, 0.125)],
)
def test_waiting_longer_explains_a_difference(baseline: float, candidate: float, explained: float) -> None:
    seen = Disturbance(0.0, 0.0, {"a": baseline, "b": candidate})
    assert seen.explains("a", "b") == pytest.approx(explained)
