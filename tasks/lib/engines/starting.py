"""How every engine starts a server, and which of the servers that it finds are running.

The flow is the same everywhere; each engine has its own steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol, TypeVar

from tasks.lib.common import console, processes
from tasks.lib.common.settings import Settings
from tasks.lib.engines import ports
from tasks.lib.engines.base import READY, STARTING, STOPPING, Server
from tasks.lib.engines.ports import PortLost
from tasks.lib.engines.ready import Trial, too_late

FIRST_PAUSE, LONGEST_PAUSE, PAUSE_GROWTH = 0.05, 0.5, 1.3
"""Seconds between two looks at a server that is loading; each pause is longer than the one before."""

Handle = TypeVar("Handle")
"""What an engine started: a process, a container."""


@dataclass(frozen=True)
class Plan:
    """A server that is about to be started."""

    server: Server
    command: Sequence[str]
    """As a person would type it."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the command adds to its environment."""


class Steps(Protocol[Handle]):
    """What one engine does to start one server."""

    def locked(self) -> AbstractContextManager[None]:
        """Held from the choice of ports until the server is on record."""

    def port_holders(self) -> Sequence[Server]:
        """The servers of this suite, whose ports may not be open yet."""

    def plan(self, rest_port: int, grpc_port: int) -> Plan:
        """The server on these ports."""

    def launch(self, plan: Plan) -> Handle:
        """Start it. Raises ServerError or DockerError, and PortLost, with nothing left behind."""

    def is_listening(self, server: Server, handle: Handle) -> bool:
        """Whether it is this server that listens on its port, as far as the engine can tell."""

    def check_running(self, server: Server, handle: Handle, pause: float) -> None:
        """Wait for `pause` seconds. Raises ServerError, its log shown, if the server has ended by then."""

    def show_log(self, server: Server, handle: Handle) -> None:
        """Show the last lines that it wrote."""

    def settle(self, server: Server, handle: Handle) -> None:
        """Put on record that it is ready. Raises ServerError if it was stopped meanwhile."""

    def discard(self, server: Server, handle: Handle | None) -> None:
        """Undo the start, however far it has come."""


def start(settings: Settings, steps: Steps[Handle], port: int | None) -> Server:
    """Start a server and return once a real predict has answered. See Engine.start.

    A server that finds its port taken once it has loaded is started again on another one.
    """
    for _ in range(ports.STARTS_TRIED - 1):
        try:
            return _attempt(settings, steps, port)
        except PortLost as lost:
            if port == lost.port:
                raise
            console.note(f"{lost.problem} Starting it on another.")
    return _attempt(settings, steps, port)


def preview(settings: Settings, steps: Steps[Handle], port: int | None) -> None:
    """Print the command of the server that `start` would start."""
    plan = steps.plan(*ports.choose(settings, port, steps.port_holders()))
    console.command(plan.command, plan.environment)


def _attempt(settings: Settings, steps: Steps[Handle], port: int | None) -> Server:
    server: Server | None = None
    handle: Handle | None = None
    try:
        with steps.locked():
            # Listing the servers first also frees the ports of those that a killed call has left.
            plan = steps.plan(*ports.choose(settings, port, steps.port_holders()))
            console.command(plan.command, plan.environment)
            server = plan.server
            # Ctrl-C has to wait while a server may exist that is not on record yet.
            with processes.uninterrupted():
                handle = steps.launch(plan)
        _wait_until_it_answers(settings, steps, server, handle)
        with processes.uninterrupted():
            steps.settle(server, handle)
    except BaseException:
        if server is not None:
            with processes.uninterrupted():
                steps.discard(server, handle)
        raise
    return server


def _wait_until_it_answers(settings: Settings, steps: Steps[Handle], server: Server, handle: Handle) -> None:
    """Return once a predict was answered. Raises ServerError, its log shown, if that does not come."""
    limit = settings.serve.ready_timeout
    deadline = time.monotonic() + limit
    trial = Trial(settings, server)
    pause = FIRST_PAUSE
    with console.waiting(f"starting {server}") as line:
        while True:
            if steps.is_listening(server, handle) and trial.passed(max(1.0, deadline - time.monotonic())):
                return
            if time.monotonic() >= deadline:
                steps.show_log(server, handle)
                raise too_late(server, limit)
            line.tick()
            steps.check_running(server, handle, pause)
            pause = min(pause * PAUSE_GROWTH, LONGEST_PAUSE)


class Fate(Enum):
    """What has happened to a server that was found on record."""

    RUNNING = "it is up, or loading for a call that waits for it"
    LEFT_BEHIND = "it is up, but the call that it was started for was killed"
    ENDED = "it was up, and has ended by itself"
    GONE = "it is not up, and no call waits for it"
    DIED_LOADING = "it is not up, and a call waits for it and will deal with it"


def fate(server: Server, state: str, starter: processes.Identity, *, is_up: bool) -> Fate:
    """What has happened to a server whose record says `state`. `starter` is the call that started it."""
    needs_starter = state == STARTING or server.temporary
    is_wanted = not needs_starter or processes.runs(starter)
    if is_up:
        return Fate.RUNNING if is_wanted else Fate.LEFT_BEHIND
    if state == READY:
        return Fate.ENDED
    return Fate.GONE if state == STOPPING or not is_wanted else Fate.DIED_LOADING


def put_right(
    server: Server,
    its_fate: Fate,
    *,
    end: Callable[[], None],
    forget: Callable[[], None],
    keep_log: Callable[[], Path],
    shown: Callable[[Path], str],
) -> None:
    """Deal with a server that is not running as it should: `end` it, or `forget` what is left of it."""
    if its_fate is Fate.LEFT_BEHIND:
        console.note(f"{server} was left behind by a call that was killed; ending it")
        end()
    elif its_fate is Fate.ENDED:
        kept = keep_log()
        console.note(f"{server} has ended by itself; what it wrote is kept in {shown(kept)}")
        forget()
    elif its_fate is Fate.GONE:
        forget()
