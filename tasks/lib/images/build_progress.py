"""Shows how far an image's build has come, from its log: a line that changes, or lines in a log."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from types import TracebackType

from tasks.lib.common import console
from tasks.lib.images.build_log import Reader

EVERY = 30.0
"""Seconds between two lines about the same step in a log."""
REDRAW = 0.5
TELLING = ("FROM", "RUN", "COPY", "ADD")
"""The instructions that take time; a Dockerfile's many ARG and LABEL take none."""


class Progress:
    """Follows the log of a build while `tick` is called. `reader` knows what it has read."""

    def __init__(self, label: str, log: Path) -> None:
        self.reader = Reader()
        self._label = label
        self._log = log
        self._read = 0
        self._rest = b""
        self._start = self._told = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._drawn = False

    def __enter__(self) -> Progress:
        self._read = self._log.stat().st_size if self._log.exists() else 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._catch_up()
        if self._rest:
            self.reader.feed(self._rest.decode(errors="replace"))
            self._rest = b""
        self._clear()

    def tick(self) -> None:
        """Read what is new, and show where the build is."""
        self._catch_up()
        now = time.monotonic()
        if now - self._told < (REDRAW if self._terminal else EVERY):
            return
        self._told = now
        line = self._line(now)
        if not self._terminal:
            console.note(line)
            return
        width = shutil.get_terminal_size().columns - 1
        print(f"\r\x1b[2K{line[:width]}", end="", file=sys.stderr, flush=True)
        self._drawn = True

    def _catch_up(self) -> None:
        try:
            with self._log.open("rb") as log:
                log.seek(self._read)
                new = log.read()
        except FileNotFoundError:
            return
        self._read += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        for line in lines:
            begun = self.reader.feed(line.decode(errors="replace"))
            if begun is not None and begun.instruction.startswith(TELLING):
                self._clear()
                console.note(f"{self._label}: {begun}")

    def _line(self, now: float) -> str:
        step = "" if self.reader.step is None else f" {self.reader.step.number}"
        activity = f": {console.shortened(self.reader.activity, 200)}" if self.reader.activity else ""
        return f"{self._label}{step} [{duration(now - self._start)}]{activity}"

    def _clear(self) -> None:
        if self._drawn:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
            self._drawn = False


def duration(seconds: float) -> str:
    """ "12 s", "3 min 05 s", "2 h 07 min": what a person reads of a wait."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
