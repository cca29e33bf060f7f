"""tasks.lib.measure.watch: what the system tells of programs, and what follows from it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.lib.measure import watch
from tasks.lib.measure.watch import CLIENT, Disturbance, Watch, listening

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


def test_the_process_behind_an_address_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listening(f"http://127.0.0.1:{port}/v1/models/m") == (os.getpid(),)
        assert listening(f"http://192.0.2.1:{port}/v1/models/m") == ()
    assert listening(f"http://127.0.0.1:{port}/v1/models/m") == ()
