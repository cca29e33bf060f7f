"""Where Invoke ends and the suite begins.

`task` wraps Invoke's decorator: the suite's errors become a quiet exit with their code, Ctrl-C and
SIGTERM become exit 130 after every `finally` has run, and `read_settings` reads the configuration once.
"""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import invoke

from tasks.lib.common.errors import SuiteError

if TYPE_CHECKING:
    from tasks.lib.common.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
INTERRUPTED = 130


def read_settings(c: invoke.Context, format: str = "text") -> Settings:
    """The checked settings of this call, which prints in `format`. Raises SettingError."""
    from tasks.lib.common.settings import read
    from tasks.lib.common.tables import check_format

    check_format(format)
    return read(c.config, ROOT)


INTERRUPTION = "interrupted: this step is undone. Other servers stay up; `invoke teardown` stops them."


class _Instead(invoke.Argument):
    """A flag that is given in the place of a positional argument, which then is an empty text."""

    def __init__(self, flag: invoke.Argument, place: invoke.Argument) -> None:
        super().__init__(
            names=flag.names, kind=flag.kind, default=flag.default, help=flag.help, attr_name=flag.attr_name
        )
        self._place = place

    def set_value(self, value: Any, cast: bool = True) -> None:
        super().set_value(value, cast)
        if self._place.value is None:
            self._place.set_value("")


class _Task(invoke.Task[Any]):
    """A task whose first positional argument may be left out where one of the flags `instead` is given.

    Invoke requires what is positional, and takes no positional argument that has a default.
    """

    instead: Sequence[str] = ()

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[invoke.Argument]:
        place, *others = super().get_arguments(ignore_unknown_help)
        return [place, *(_Instead(one, place) if one.name in self.instead else one for one in others)]


def task(
    interruption: str = INTERRUPTION, instead: Sequence[str] = (), **options: Any
) -> Callable[[Callable[..., None]], invoke.Task[Any]]:
    """Invoke's `task`, for functions that raise SuiteError. `options` are Invoke's own.

    `interruption` is what is said after Ctrl-C or SIGTERM; `instead`: see _Task.

    Short flags are switched off: Invoke derives them from whatever letters are free, so that a new
    flag could silently change what an old one means.
    """

    def decorate(body: Callable[..., None]) -> invoke.Task[Any]:
        @functools.wraps(body)
        def at_the_edge(c: invoke.Context, *args: Any, **kwargs: Any) -> None:
            try:
                with _sigterm_as_interrupt():
                    body(c, *args, **kwargs)
            except SuiteError as error:
                raise invoke.Exit(f"error: {error.problem}\n{error.remedy}", code=error.exit_code) from error
            except KeyboardInterrupt:
                raise invoke.Exit(interruption, code=INTERRUPTED) from None

        if not instead:
            made: invoke.Task[Any] = invoke.task(auto_shortflags=False, **options)(at_the_edge)
            return made
        own: _Task = invoke.task(auto_shortflags=False, klass=_Task, **options)(at_the_edge)
        own.instead = instead
        return own

    return decorate


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that closes, would skip every `finally`: here they act as Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as under nohup, where a closed terminal must end nothing
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
