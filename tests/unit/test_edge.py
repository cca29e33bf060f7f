"""tasks.edge: errors, Ctrl-C and SIGTERM at the border between Invoke and the suite."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from invoke import Collection, Context, Program
from invoke.config import Config

from tasks import edge
from tasks.lib.common import errors
from tasks.lib.common.errors import (
    GateFailed,
    NotComparable,
    RequestRefused,
    ServerError,
    SettingError,
    SuiteError,
)

ROOT = Path(__file__).resolve().parents[2]


def run(task: Any, *arguments: str) -> int:
    """What `inv TASK ARGUMENTS` exits with; what it prints goes where pytest's capsys finds it."""
    program = Program(namespace=Collection(task))
    try:
        program.run(["inv", task.name, *arguments])
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    return 0


@pytest.fixture(autouse=True)
def _the_handler_is_restored() -> Iterator[None]:
    """Whatever a test does with a task, SIGTERM means afterwards what it meant before."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) is before


# Errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SuiteError("This is wrong.", "Do that."), 1),
        (SettingError("This is wrong.", "Do that."), 1),
        (RequestRefused("This is wrong.", "Do that.", status=400, message="no"), 1),
        (GateFailed("This is wrong.", "Do that."), 2),
        (NotComparable("This is wrong.", "Do that."), 3),
    ],
)
def test_an_error_of_the_suite_is_two_sentences_and_a_code(
    error: SuiteError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    @edge.task()
    def failing(c: Context) -> None:
        raise error

    assert run(failing) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: This is wrong.\nDo that.\n"


def test_every_error_has_a_code_of_the_table_and_a_place_in_the_picture() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SuiteError)
    ]
    assert len(kinds) > 5
    assert {kind.exit_code for kind in kinds} == {1, 2, 3}
    assert errors.__doc__ is not None
    for kind in kinds:
        assert re.search(rf"\b{kind.__name__}\b", errors.__doc__)
        if kind.exit_code != 1:
            assert re.search(rf"{kind.__name__} +exit {kind.exit_code}:", errors.__doc__)


def test_an_error_says_both_sentences_anywhere_it_is_printed() -> None:
    assert str(ServerError("This is wrong.", "Do that.")) == "This is wrong.\nDo that."


def test_a_defect_stays_loud() -> None:
    @edge.task()
    def broken(c: Context) -> None:
        raise ZeroDivisionError("a defect of the suite")

    with pytest.raises(ZeroDivisionError):
        run(broken)


def test_a_failing_task_ends_the_chain(capsys: pytest.CaptureFixture[str]) -> None:
    done: list[str] = []

    @edge.task()
    def first(c: Context) -> None:
        done.append("first")
        raise SuiteError("This is wrong.", "Do that.")

    @edge.task()
    def second(c: Context) -> None:
        done.append("second")

    with pytest.raises(SystemExit) as ended:
        Program(namespace=Collection(first, second)).run(["inv", "first", "second"])
    assert ended.value.code == 1
    assert done == ["first"]


def test_what_goes_well_exits_with_0_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    @edge.task()
    def fine(c: Context, name: str = "") -> None:
        print(f"hello {name}")

    assert run(fine, "--name", "you") == 0
    assert capsys.readouterr() == ("hello you\n", "")


# Interruption


def interrupted_by(raiser: Callable[[], None], **options: Any) -> tuple[int, list[str]]:
    steps: list[str] = []

    @edge.task(**options)
    def long(c: Context) -> None:
        try:
            steps.append("begun")
            raiser()
            steps.append("not reached")
        finally:
            steps.append("undone")

    return run(long), steps


def press_ctrl_c() -> None:
    raise KeyboardInterrupt


def send_sigterm() -> None:
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("raiser", [press_ctrl_c, send_sigterm])
def test_an_interrupted_task_undoes_its_work_and_exits_with_130(
    raiser: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert interrupted_by(raiser) == (130, ["begun", "undone"])
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("interrupted: ")
    assert "invoke teardown" in err
    assert err.count("\n") == 1


def test_what_is_ignored_stays_ignored() -> None:
    """As under nohup: a closed terminal does not end a compilation of hours."""
    reached = []

    @edge.task()
    def long(c: Context) -> None:
        signal.raise_signal(signal.SIGHUP)
        reached.append(True)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run(long) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert reached


def test_a_task_can_have_its_own_word_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert interrupted_by(press_ctrl_c, interruption="interrupted: nothing is left.")[0] == 130
    assert capsys.readouterr().err == "interrupted: nothing is left.\n"


SCRIPT = """
import signal, sys, time
from invoke import Collection, Program
from tasks import edge

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

@edge.task()
def long(c):
    try:
        print("begun", flush=True)
        time.sleep(60)
    finally:
        print("undone", flush=True)

@edge.task()
def later(c):
    print("not reached", flush=True)

Program(namespace=Collection(long, later)).run(["inv", "long", "later"])
"""


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_gets_a_signal_undoes_its_work(sent: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(sent)
        out, err = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert (process.returncode, out) == (130, "undone\n")
    assert err.startswith("interrupted: ")
    assert "Traceback" not in err


@pytest.mark.parametrize("raiser", [press_ctrl_c, send_sigterm, lambda: None])
def test_the_handler_of_before_is_back_afterwards(raiser: Callable[[], None]) -> None:
    got: list[int] = []

    def own(signum: int, frame: object) -> None:
        got.append(signum)

    outer = signal.signal(signal.SIGTERM, own)
    try:
        interrupted_by(raiser)
        assert signal.getsignal(signal.SIGTERM) is own
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, outer)
    assert got == [signal.SIGTERM]


def test_a_task_outside_the_main_thread_runs_without_a_handler() -> None:
    @edge.task()
    def quiet(c: Context) -> None:
        done.append(threading.current_thread().name)

    done: list[str] = []
    thread = threading.Thread(target=quiet.body, args=(Context(),), name="other")
    thread.start()
    thread.join()
    assert done == ["other"]


# The decorator


def test_flags_have_no_short_form_that_could_change(capsys: pytest.CaptureFixture[str]) -> None:
    @edge.task(help={"model": "which one"})
    def serve(c: Context, model: str = "") -> None:
        """Serve a model."""

    with pytest.raises(SystemExit):
        Program(namespace=Collection(serve)).run(["inv", "--help", "serve"])
    out = capsys.readouterr().out
    assert "--model=STRING" in out
    assert "which one" in out
    assert "Serve a model." in out
    assert " -m" not in out


def test_settings_are_those_of_the_call() -> None:
    config = Config(project_location=str(ROOT), overrides={"model": "mine", "run": {"dry": True}})
    config.load_project()
    its = edge.read_settings(Context(config))
    assert (its.model, its.dry, its.paths.root) == ("mine", True, ROOT)


# Flags in the place of a positional argument


@pytest.mark.parametrize(
    ("words", "code", "seen"),
    [
        (["place"], 0, ("place", "", False)),
        (["--file", "f"], 0, ("", "f", False)),
        (["--all"], 0, ("", "", True)),
        (["place", "--file", "f"], 0, ("place", "f", False)),
        ([], 1, None),
        (["--file", "f", "place"], 1, None),
    ],
)
def test_a_flag_is_given_in_the_place_of_an_argument(
    words: list[str], code: int, seen: tuple[str, str, bool] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    @edge.task(instead=["file", "all"])
    def taking(c: Context, place: str, file: str = "", all: bool = False) -> None:
        calls.append((place, file, all))

    assert run(taking, *words) == code
    assert calls == ([seen] if seen else [])
    if not words:
        assert "did not receive required positional arguments: 'place'" in capsys.readouterr().err
