"""Several processes of each server of a comparison: longer runs do not average out what differs between them.

They are all started before anything is measured, the two contestants' in turn, and are idle until theirs is.
"""

from __future__ import annotations

import contextlib
import io
import random
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Protocol

from tasks.lib.benchmark.contestants import Asked
from tasks.lib.common import console
from tasks.lib.measure.verdict import NEW, OLD, Contestant

MOST_CONNECTIONS = 4096
"""That a benchmark holds open at the most: each takes one of the files that a process may have open."""
LABELS = (*OLD, *NEW)
ROOM = 1.5
"""Times the memory that the last pair took must be available for another pair: requests take some too."""


class Up(Protocol):
    """Brings a contestant up, or another process of it."""

    def __call__(self, asked: Asked, *, another: bool = False) -> AbstractContextManager[Contestant]: ...


class Started:
    """A contestant and those of its processes that are up; `stack` ends the ones that were started here."""

    def __init__(self, asked: Asked, up: Up, stack: ExitStack) -> None:
        self._asked, self._up, self._stack = asked, up, stack
        self._contestants: list[Contestant] = []

    @property
    def number(self) -> int:
        """Of its processes that are up."""
        return len(self._contestants)

    @property
    def is_ours(self) -> bool:
        """Whether this suite can start it."""
        return not self._asked.urls

    @property
    def contestant(self) -> Contestant:
        """With the addresses of all its processes."""
        first, *others = self._contestants
        return replace(first, further=tuple(other.urls for other in others))

    def start(self) -> None:
        """Bring up one more process."""
        up = self._up(self._asked, another=self.number > 0)
        self._contestants.append(self._stack.enter_context(up))


def number_for(asked: int, connections: int) -> int:
    """How many processes of each server the connections allow: the client holds those to all of them open."""
    number = max(1, min(asked, MOST_CONNECTIONS // (len(LABELS) * connections)))
    if number < asked:
        console.note(f"{connections} connections to each server allow {number} of {asked} processes of each")
    return number


def start(sides: tuple[Started, Started], number: int, seed: int) -> None:
    """Bring up `number` processes of each side that this suite can start, fewer if the memory is too small.

    Which side's is started first, the seed draws for each pair.
    """
    shuffle = random.Random(seed)
    before = _available()
    for side in sides:
        if side.number == 0:
            side.start()
    taken = before - _available()
    ours = [side for side in sides if side.is_ours]
    if number == 1 or not ours:
        return
    with console.progress("starting further processes of each server", number - 1, "") as bar:
        for pair in range(1, number):
            before = _available()
            if ROOM * taken > before:
                console.note(f"the memory suffices for {pair} of {number} processes of each server")
                return
            missing = [side for side in ours if side.number <= pair]
            # Their commands differ from the first ones in ports alone. What fails is raised, not printed.
            with contextlib.redirect_stderr(io.StringIO()):
                for side in shuffle.sample(missing, len(missing)):
                    side.start()
            taken = max(taken, before - _available())
            bar.update(1)


def _available() -> int:
    """Bytes that programs can still take."""
    import psutil

    return int(psutil.virtual_memory().available)
