"""Processes of this suite: started detached, recognised with certainty, ended with their children.

A process id alone identifies nothing, because the system gives it out again. Every process started
here therefore carries a marker in its environment, which its children inherit; a process is ours
only if its id, its start time and its marker all agree with what is known of it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from tasks.lib.common import console, pinning
from tasks.lib.common.pinning import CPUs

MARKER = "SERVING_SUITE_PROCESS"
"""The environment variable that carries the marker: OWNER:KIND:NAME, see `marker`."""

START_TIME_TOLERANCE = 1.0
"""Seconds. psutil works the start time out from the boot time, which follows the system clock."""

JOB_GRACE = 5.0
"""Seconds that an interrupted program gets between SIGTERM and SIGKILL: it has nothing to finish."""


class Ticker(Protocol):
    """What shows that a program runs."""

    def tick(self) -> None: ...


@dataclass(frozen=True)
class Identity:
    """One process of ours, and no other that may get its id later."""

    pid: int
    created: float
    """Seconds since the epoch."""
    marker: str


def marker(state: Path, kind: str, name: str) -> str:
    """What a process of the suite with this state folder carries.

    The folder is part of it, so that two clones on one machine never touch each other's processes.
    """
    owner = sha256(str(state.resolve()).encode()).hexdigest()[:16]
    return f"{owner}:{kind}:{name}"


def spawn(
    argv: Sequence[str],
    *,
    marker: str,
    log: Path,
    cwd: Path,
    environment: Mapping[str, str],
    stdout: int | None = None,
    cpus: CPUs = (),
) -> subprocess.Popen[bytes]:
    """Start `argv` in a session of its own: the terminal's Ctrl-C does not reach it, and it outlives us.

    Its stderr goes to `log` (appended), and so does stdout unless a file descriptor is given for it. All
    its threads run on `cpus` if any are given. Raises OSError if it cannot be started, SettingError if
    those CPUs are not there.
    """
    # A program inherits the CPUs of the thread that starts it.
    with log.open("ab") as output, pinning.confined(cpus):
        return subprocess.Popen(
            list(argv),
            cwd=cwd,
            env={**environment, MARKER: marker},
            stdin=subprocess.DEVNULL,
            stdout=output if stdout is None else stdout,
            stderr=output,
            start_new_session=True,
        )


def wait(process: subprocess.Popen[bytes], timeout: float) -> int | None:
    """Wait up to `timeout` seconds for a process that `spawn` has started; its exit status, None if it runs.

    Popen.wait(timeout) and Popen.poll are not for a process that an interruption must end: one that
    arrives just after they took their lock leaves it taken, and the next wait never returns (CPython
    3.11 on a busy machine: about once in 100 interruptions).
    """
    deadline = time.monotonic() + timeout
    pause = 0.005
    while True:
        with uninterrupted():
            status = process.poll()
        left = deadline - time.monotonic()
        if status is not None or left <= 0:
            return status
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, 0.05)


def let_go(process: subprocess.Popen[bytes]) -> None:
    """Detach a running child, so that Popen neither waits for it nor warns."""
    if process.poll() is None:
        process.returncode = 0


def identify(pid: int, marker: str) -> Identity | None:
    """The identity of process `pid` if it runs and carries `marker`."""
    running = _look(pid)
    return running if running is not None and running.marker == marker else None


def child(process: subprocess.Popen[bytes], marker: str) -> Identity:
    """The identity of a process that `spawn` has just started and no one has waited for.

    Known without looking at its environment, which Linux shows as empty until exec is done.
    """
    import psutil

    try:
        return Identity(process.pid, psutil.Process(process.pid).create_time(), marker)
    except psutil.NoSuchProcess:
        return Identity(process.pid, time.time(), marker)


def myself() -> Identity:
    """The identity of the process that runs this code; it carries no marker of its own."""
    import psutil

    return Identity(os.getpid(), psutil.Process().create_time(), os.environ.get(MARKER, ""))


def alive(identity: Identity) -> bool:
    """Whether this very process still runs; one that ended and was not collected does not."""
    running = _look(identity.pid)
    return (
        running is not None
        and running.marker == identity.marker
        and abs(running.created - identity.created) <= START_TIME_TOLERANCE
    )


def runs(identity: Identity) -> bool:
    """Whether the process with this id and start time has not ended yet, whatever its marker.

    For calls of the suite, which carry none, and for a process on its way out: Linux shows its
    environment as empty while it still holds its port.
    """
    import psutil

    try:
        process = psutil.Process(identity.pid)
        if abs(process.create_time() - identity.created) > START_TIME_TOLERANCE:
            return False
        # The first thread of a process can be a zombie while others have its files still open.
        return not (process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1)
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False


def carriers(prefix: str) -> list[Identity]:
    """The running processes of this user whose marker starts with `prefix`, oldest first."""
    import psutil

    identities = (_look(pid) for pid in psutil.pids())
    return sorted(
        (p for p in identities if p is not None and p.marker.startswith(prefix)), key=lambda p: p.created
    )


def listens(identity: Identity, port: int) -> bool:
    """Whether the process accepts connections on TCP `port`. True where the system does not tell."""
    import psutil

    try:
        connections = psutil.Process(identity.pid).net_connections("tcp")
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in connections)


def listener(port: int) -> str | None:
    """Who listens on TCP `port`, as "NAME (process ID)"; None where the system does not tell."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    except (psutil.Error, OSError):
        pass
    return None


def memory(identity: Identity) -> int | None:
    """Bytes of main memory that the process takes; None if it has ended or the system does not tell."""
    import psutil

    if not alive(identity):
        return None
    try:
        return int(psutil.Process(identity.pid).memory_info().rss)
    except (psutil.Error, OSError):
        return None


def terminate(identity: Identity, grace: float) -> bool:
    """End the process and what it started: SIGTERM, and SIGKILL after `grace` seconds.

    A process that is not the one meant, because its id was given out again, is never signalled.
    Returns whether force was needed. Returns when it is gone.
    """
    forced = False
    if alive(identity):
        _signal(identity, signal.SIGTERM)
        forced = not _gone(identity, grace)
        if forced:
            _signal(identity, signal.SIGKILL)
            _gone(identity, JOB_GRACE)
    # Children inherit the marker. Without their parent they have no purpose.
    for child in carriers(identity.marker):
        if child.marker == identity.marker and child.pid != os.getpid():
            _signal(child, signal.SIGKILL)
            _gone(child, JOB_GRACE)
    return forced


def end_child(process: subprocess.Popen[bytes], marker: str) -> None:
    """End a process that `spawn` has started, whatever point it has come to, and collect it."""
    terminate(child(process, marker), JOB_GRACE)
    # Not recognised yet, as its exec was not done. It has not been collected, so its id is its own.
    process.kill()
    process.wait()


def run(
    argv: Sequence[str],
    *,
    state: Path,
    label: str,
    log: Path,
    cwd: Path,
    environment: Mapping[str, str],
    capture: bool = True,
    line: AbstractContextManager[Ticker] | None = None,
) -> tuple[int, str]:
    """Run a program to its end while `label` is shown, and return its exit status and stdout.

    `line` shows more than a label and the seconds: its `tick` is called while the program runs.

    stderr is appended to `log`; without `capture` stdout is too, and nothing of it is returned. However
    this is left, by Ctrl-C too, the program and its children are gone; if this process is killed
    itself, `end_orphans` finds them. Raises OSError if `argv` cannot be started.
    """
    me = myself()
    mark = marker(state, "job", f"{me.pid}-{me.created:.2f}-{time.monotonic_ns()}")
    with tempfile.TemporaryFile() as stdout, line or console.waiting(label) as shown:
        process = None
        try:
            with uninterrupted():
                process = spawn(
                    argv,
                    marker=mark,
                    log=log,
                    cwd=cwd,
                    environment=environment,
                    stdout=stdout.fileno() if capture else None,
                )
            while wait(process, 0.25) is None:
                shown.tick()
        finally:
            with uninterrupted():
                if process is not None and process.poll() is None:
                    end_child(process, mark)
        stdout.seek(0)
        return process.returncode, stdout.read().decode(errors="replace")


def end_orphans(state: Path) -> None:
    """End the programs of `run` that a killed call of this suite left running."""
    for job in carriers(marker(state, "job", "")):
        pid, created, _ = job.marker.rsplit(":", 1)[1].split("-")
        if not runs(Identity(int(pid), float(created), "")):
            terminate(job, JOB_GRACE)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C, SIGTERM and SIGHUP back until the block is done, then let them have their effect.

    For the moments in which a process exists that nothing has on record yet, and for cleaning up.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, lambda number, _: arrived.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])


def finish(call: Callable[..., object], *args: object) -> None:
    """`call` with interruptions held back: a second Ctrl-C must not stop what the first one asked for."""
    with uninterrupted():
        call(*args)


def tail(log: Path, lines: int | None = None) -> str:
    """The last `lines` lines of a text file; all of it if None, nothing if it is not there."""
    try:
        text = log.read_text(errors="replace")
    except FileNotFoundError:
        return ""
    return text if lines is None else "\n".join(text.splitlines()[-lines:] if lines else [])


def _look(pid: int) -> Identity | None:
    """Process `pid` as it is now; None if it does not run, is another user's, or carries no marker."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.uids().real != os.getuid():
            return None
        carried = process.environ().get(MARKER)
        if carried is None or process.status() == psutil.STATUS_ZOMBIE:
            return None
        return Identity(pid, process.create_time(), carried)
    except (psutil.Error, OSError):
        return None


def _signal(identity: Identity, number: signal.Signals) -> None:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        # Looks at the start time once more: psutil refuses to signal an id that was given out again.
        process = psutil.Process(identity.pid)
        if alive(identity):
            process.send_signal(number)


def _gone(identity: Identity, timeout: float) -> bool:
    """Wait up to `timeout` seconds for the end of the process. Returns whether it came."""
    deadline = time.monotonic() + timeout
    pause = 0.005
    while runs(identity):
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(identity.pid, os.WNOHANG)  # collects it, if it was a child of ours
    return True
