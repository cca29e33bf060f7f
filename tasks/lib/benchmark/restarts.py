"""Restarts servers that were given by address with a person's own commands, between parts of a comparison."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tasks.lib.benchmark.contestants import served
from tasks.lib.common import console, processes
from tasks.lib.common.errors import NotComparable, ServerError
from tasks.lib.common.settings import Settings
from tasks.lib.engines import listening
from tasks.lib.measure.agreement import Agreement
from tasks.lib.measure.verdict import Contestant

PAUSE = 0.05
"""Seconds between two looks whether a server answers."""


class Restarts:
    """The commands of a comparison: `commands` by verdict.BASELINE and verdict.CANDIDATE, as `contestants`.

    `answers` is what a comparison of both servers' answers came to, and `compare` compares them again.
    """

    def __init__(
        self,
        settings: Settings,
        commands: Mapping[str, str],
        contestants: Mapping[str, Contestant],
        answers: Agreement,
        compare: Callable[[], Agreement],
        seed: int,
    ) -> None:
        self._settings, self._commands, self._contestants = settings, commands, contestants
        self._compare, self._was_equal = compare, answers.holds
        self._shuffle = random.Random(seed)

    @property
    def sides(self) -> tuple[str, ...]:
        """Those that have a command."""
        return tuple(self._commands)

    def restart(self) -> None:
        """Run the commands in an order drawn from the seed, and wait until all servers answer.

        Raises ServerError if one does not answer or is the same process as before, NotComparable if the
        answers were equal and are no longer.
        """
        for side in self._shuffle.sample(self.sides, len(self._commands)):
            _restart(self._settings, side, self._commands[side], self._contestants[side].urls)
        deadline = time.monotonic() + self._settings.serve.ready_timeout
        # Of both sides: a command may restart more than it was given for.
        for contestant in self._contestants.values():
            for url in contestant.urls:
                model = _answering(url, deadline)
                if model != contestant.model:
                    raise ServerError(
                        f"After a restart {url} serves {model} instead of {contestant.model}.",
                        "Let the command start the same model.",
                    )
        again = self._compare()
        if self._was_equal and not again.holds:
            names = " and ".join(self._contestants[side].name for side in self.sides)
            raise NotComparable(
                f"After a restart of {names} the answers differ: {again.problem}.",
                "Let the command start the server with the same model and the same settings as before.",
            )


def _restart(settings: Settings, side: str, command: str, urls: Sequence[str]) -> None:
    """Run a command, and return when the processes that listened at `urls` before have ended."""
    flag, limit = f"--restart-{side}", settings.serve.ready_timeout
    before = {url: set(listening.processes(url)) for url in urls}
    deadline = time.monotonic() + limit
    _run(flag, command, settings.paths.state / "logs" / f"restart-{side}.log", limit)
    for url in urls:
        # A command may return before the old process has ended, which still answers.
        while before[url] & set(listening.processes(url)):
            if time.monotonic() > deadline:
                raise ServerError(
                    f"The command of {flag} has ended, and the same process as before listens at {url}.",
                    "Give a command that ends the server and starts it again.",
                )
            time.sleep(PAUSE)


def _answering(url: str, deadline: float) -> str:
    """NAME@VERSION of what the server at `url` serves, as soon as it does."""
    while True:
        try:
            return served(url, max(0.1, deadline - time.monotonic()))
        except ServerError as error:
            if time.monotonic() > deadline:
                raise ServerError(
                    f"{url} does not answer after a restart: {error.problem}",
                    "Try the command by hand; serve.ready_timeout sets how long it is waited for.",
                ) from error
            time.sleep(PAUSE)


def _run(flag: str, command: str, log: Path, timeout: float) -> None:
    """Run a command as a shell does. What it started goes on, also after Ctrl-C: a session of its own."""
    log.parent.mkdir(parents=True, exist_ok=True)
    process = None
    try:
        # Ctrl-C has to wait while a process may exist that is not known here yet.
        with log.open("wb") as output, processes.uninterrupted():
            process = subprocess.Popen(
                command,
                shell=True,  # it is the person's own, and may be a pipeline
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        status = processes.wait(process, timeout)
    except BaseException:
        if process is not None:
            _end(process)
        raise
    if status is None:
        _end(process)
        raise ServerError(
            f"The command of {flag} has not ended after {timeout:g} s: {command}",
            "Let it start the server in the background, as `systemctl restart` and `docker restart` do.",
        )
    if status:
        console.note(processes.tail(log))
        raise ServerError(
            f"The command of {flag} has ended with status {status}: {command}",
            "Its output is above. Try the command by hand.",
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    with processes.uninterrupted():
        process.kill()
        process.wait()
