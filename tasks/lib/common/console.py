"""What a person sees. Results go to stdout; commands, notes and progress go to stderr."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol


def result(text: str) -> None:
    """Print a result: the only thing that ever reaches stdout."""
    print(text, flush=True)


def note(text: str) -> None:
    """Say what is being done, or why."""
    print(text, file=sys.stderr, flush=True)


def command(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Show an external command as one would type it."""
    words = [f"{name}={shlex.quote(value)}" for name, value in (environment or {}).items()]
    note("$ " + " ".join([*words, shlex.join(argv)]))


LEFT_OUT = " [...]"


def shortened(text: str, length: int = 300) -> str:
    """`text` on one line of at most `length` characters: whole words, then "[...]" if any are left out."""
    line = " ".join(text.split())
    if len(line) <= length:
        return line
    room = length - len(LEFT_OUT)
    # A single word may be longer than all the room there is.
    start = line[: room + 1].rpartition(" ")[0] or line[:room]
    return start + LEFT_OUT


class Bar(Protocol):
    """What `progress` hands out: something that can be told of progress."""

    total: float | None
    """Can be set once it is known."""

    def update(self, n: float) -> object: ...


REPORT_EVERY = 10.0
"""Seconds between two lines in a log."""


@contextmanager
def progress(label: str, total: float | None, unit: str = "B", initial: float = 0) -> Iterator[Bar]:
    """A progress bar on a terminal; in a log, a plain line every few seconds.

    `total` is None where it is not known. Bytes (`unit="B"`) are printed with k, M and G, of 1024 each.
    """
    from tqdm import tqdm

    if not sys.stderr.isatty():
        lines = _Lines(label, total, unit, initial)
        try:
            yield lines
        finally:
            lines.end()
        return
    with tqdm(
        desc=label,
        total=total,
        initial=initial,
        unit=unit,
        unit_scale=unit == "B",
        unit_divisor=1024,
        file=sys.stderr,
    ) as bar:
        yield bar


class _Lines:
    """Progress for a log, which has no cursor to send back: a line each time."""

    def __init__(self, label: str, total: float | None, unit: str, initial: float) -> None:
        self._label = label
        self.total = total
        self._unit = unit
        self._initial = self._done = initial
        self._start = time.monotonic()
        self.report()

    def update(self, n: float) -> None:
        self._done += n
        if time.monotonic() - self._reported >= REPORT_EVERY:
            self.report()

    def end(self) -> None:
        if self._told != self._done:
            self.report()

    def report(self) -> None:
        self._told = self._done
        self._reported = time.monotonic()
        elapsed = self._reported - self._start
        total = "?" if self.total is None else self._amount(self.total)
        rate = ""
        if self._unit == "B" and elapsed >= 1:
            rate = f", {self._amount((self._done - self._initial) / elapsed)}B/s"
        note(f"{self._label}: {self._amount(self._done)}/{total} {self._unit} [{elapsed:.0f} s{rate}]")

    def _amount(self, n: float) -> str:
        from tqdm import tqdm

        if self._unit == "B":
            return str(tqdm.format_sizeof(n, divisor=1024))
        return f"{n:.3g}" if n < 1000 else f"{n:.0f}"


@contextmanager
def waiting(label: str, every: float = 10) -> Iterator[Waiting]:
    """For work without a known end: a line that counts seconds on a terminal, or one every `every`
    seconds in a log. Call `tick()` while waiting."""
    line = Waiting(label, every)
    try:
        yield line
    finally:
        line.close()


class Waiting:
    """See `waiting`."""

    def __init__(self, label: str, every: float) -> None:
        self._label = label
        self._every = every
        self._start = self._last = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._drawn = False
        if not self._terminal:
            note(f"{label} ...")

    def tick(self) -> None:
        now = time.monotonic()
        if self._terminal:
            print(f"\r{self._label} ... {now - self._start:.0f} s ", end="", file=sys.stderr, flush=True)
            self._drawn = True
        elif now - self._last >= self._every:
            note(f"{self._label} ... {now - self._start:.0f} s")
            self._last = now

    def close(self) -> None:
        if self._drawn:
            print(file=sys.stderr, flush=True)


def size(n: float) -> str:
    """`n` bytes as a person reads them: "94.8 MiB"."""
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} GiB"
