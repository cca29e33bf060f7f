"""Processes of ours are recognised with certainty, and ended with their children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.lib.common import processes
from tasks.lib.common.processes import Identity, marker
from tests.helpers.standin import ROOT, wait_for

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
IGNORE_SIGTERM = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
STUBBORN = [sys.executable, "-c", f"{IGNORE_SIGTERM}; print('up', flush=True); time.sleep(600)"]


class Starter:
    """Starts processes that carry a marker, and leaves none behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []

    def __call__(self, argv: list[str], mark: str | None = None) -> Identity:
        mark = mark or marker(self.folder, "server", "a")
        log = self.folder / f"{len(self.started)}.log"
        process = processes.spawn(argv, marker=mark, log=log, cwd=self.folder, environment=dict(os.environ))
        self.started.append(process)
        wait_for(lambda: "up" in processes.tail(log))
        identity = processes.identify(process.pid, mark)
        assert identity is not None
        return identity


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    yield starter
    for process in starter.started:
        process.kill()
        process.wait()


def test_a_process_is_in_a_session_of_its_own_and_writes_to_its_log(start: Starter) -> None:
    identity = start(SLEEP)
    assert os.getsid(identity.pid) == identity.pid
    assert processes.alive(identity)
    assert processes.carriers(identity.marker) == [identity]
    assert start.folder.joinpath("0.log").read_text() == "up\n"


def test_terminate_asks_first(start: Starter) -> None:
    identity = start(SLEEP)
    assert processes.terminate(identity, 10) is False
    assert not processes.alive(identity)
    assert processes.carriers(identity.marker) == []


def test_terminate_kills_what_does_not_listen(start: Starter) -> None:
    identity = start(STUBBORN)
    assert processes.terminate(identity, 0.2) is True
    assert not processes.alive(identity)


def test_terminate_ends_children_too(start: Starter) -> None:
    parent = f"import subprocess; subprocess.Popen({STUBBORN!r}); import time; time.sleep(600)"
    identity = start([sys.executable, "-c", parent])
    assert len(processes.carriers(identity.marker)) == 2
    processes.terminate(identity, 10)
    assert processes.carriers(identity.marker) == []


def test_another_server_that_got_the_id_is_never_signalled(start: Starter) -> None:
    identity = start(SLEEP)
    gone = replace(identity, created=identity.created - 100, marker=marker(start.folder, "server", "b"))
    processes.terminate(gone, 0)
    assert processes.alive(identity)


def test_start_time_and_marker_are_part_of_the_identity(start: Starter) -> None:
    identity = start(SLEEP)
    assert not processes.alive(replace(identity, marker=marker(start.folder, "server", "b")))
    assert not processes.alive(replace(identity, created=identity.created - 100))


def test_an_id_given_to_a_process_without_marker_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        created = psutil.Process(stranger.pid).create_time()
        processes.terminate(Identity(stranger.pid, created, marker(tmp_path, "server", "a")), 0)
        assert stranger.poll() is None
        stranger.kill()


def test_markers_of_two_state_folders_differ(tmp_path: Path) -> None:
    assert marker(tmp_path / "a", "server", "x") != marker(tmp_path / "b", "server", "x")


def test_a_zombie_is_not_alive(start: Starter) -> None:
    identity = start(SLEEP)
    os.kill(identity.pid, signal.SIGKILL)
    wait_for(lambda: psutil.Process(identity.pid).status() == psutil.STATUS_ZOMBIE)
    assert not processes.alive(identity)


def test_memory_is_that_of_the_process(start: Starter) -> None:
    identity = start(SLEEP)
    taken = processes.memory(identity)
    assert taken is not None
    assert 1 << 20 < taken < 1 << 30
    assert processes.memory(replace(identity, marker="another's")) is None


def test_listens_and_listener_name_the_process(start: Starter) -> None:
    serve = (
        "import socket, time; s = socket.create_server(('127.0.0.1', 0));"
        "print('up', s.getsockname()[1], flush=True); time.sleep(600)"
    )
    identity = start([sys.executable, "-c", serve])
    port = int(start.folder.joinpath("0.log").read_text().split()[1])
    assert processes.listens(identity, port)
    assert not processes.listens(identity, port + 1)
    assert str(identity.pid) in str(processes.listener(port))


def run(folder: Path, code: str, **options: bool) -> tuple[int, str]:
    return processes.run(
        [sys.executable, "-c", code],
        state=folder,
        label="a program",
        log=folder / "run.log",
        cwd=folder,
        environment=dict(os.environ),
        **options,
    )


def test_run_returns_status_and_stdout_and_logs_stderr(tmp_path: Path) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"
    assert run(tmp_path, code) == (7, "out\n")
    assert processes.tail(tmp_path / "run.log") == "err\n"
    assert run(tmp_path, "print('more')", capture=False) == (0, "")
    assert processes.tail(tmp_path / "run.log", 1) == "more"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    jobs = marker(tmp_path, "job", "")

    def interrupt() -> None:
        wait_for(lambda: len(processes.carriers(jobs)) == 2)
        os.kill(os.getpid(), number)

    def as_interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, as_interrupt)
    other = threading.Thread(target=interrupt)
    other.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, f"import subprocess; subprocess.run({STUBBORN!r})")
    finally:
        signal.signal(signal.SIGTERM, before)
        other.join()
    assert processes.carriers(jobs) == []


def test_what_a_killed_call_was_running_is_found_and_ended(tmp_path: Path) -> None:
    jobs = marker(tmp_path, "job", "")
    code = (
        "import os, sys; from pathlib import Path; from tasks.lib.common import processes;"
        "processes.run([sys.executable, '-c', 'import time; time.sleep(600)'], state=Path(sys.argv[1]),"
        " label='x', log=Path(sys.argv[1], 'log'), cwd=Path('.'), environment=dict(os.environ))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL
    ) as call:
        wait_for(lambda: processes.carriers(jobs))
        processes.end_orphans(tmp_path)
        assert processes.carriers(jobs), "its call still runs"
        call.kill()
    assert processes.carriers(jobs)
    processes.end_orphans(tmp_path)
    assert processes.carriers(jobs) == []


def test_uninterrupted_delivers_the_signal_afterwards() -> None:
    reached = []

    def critical() -> None:
        with processes.uninterrupted():
            signal.raise_signal(signal.SIGINT)
            reached.append(True)

    with pytest.raises(KeyboardInterrupt):
        critical()
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_child_is_ended_whatever_point_it_has_come_to(start: Starter) -> None:
    mark = marker(start.folder, "server", "a")
    for _ in range(20):
        process = processes.spawn(
            SLEEP, marker=mark, log=start.folder / "x.log", cwd=start.folder, environment=dict(os.environ)
        )
        processes.end_child(process, mark)
        assert process.returncode is not None
        assert not psutil.pid_exists(process.pid)


class InterruptedAtTheLock:
    """Popen's own lock; an interruption comes just after it was taken for the third time."""

    def __init__(self, lock: Any) -> None:
        self._lock, self._taken = lock, 0

    def acquire(self, *args: Any) -> bool:
        got: bool = self._lock.acquire(*args)
        self._taken += 1
        if self._taken == 3:
            signal.raise_signal(signal.SIGINT)
        return got

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> None:
        assert self._lock.acquire(timeout=10), "the lock was left taken"

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_an_interruption_at_any_moment_does_not_keep_the_process_from_being_collected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = processes.spawn

    def spawn(*args: Any, **kwargs: Any) -> subprocess.Popen[bytes]:
        process = real(*args, **kwargs)
        process._waitpid_lock = InterruptedAtTheLock(process._waitpid_lock)  # type: ignore[attr-defined]
        return process

    monkeypatch.setattr(processes, "spawn", spawn)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "import time; time.sleep(60)")
    assert processes.carriers(marker(tmp_path, "job", "")) == []


def test_tail(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert processes.tail(log, 3) == ""
    log.write_text("a\nb\nc\n")
    assert processes.tail(log) == "a\nb\nc\n"
    assert processes.tail(log, 2) == "b\nc"
