"""Programs that run in the embedded environment: what they print, and how they end."""

from __future__ import annotations

import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tasks.lib.common.errors import OptimizeError
from tasks.lib.embedded import environment
from tests.helpers.environments import Project


def test_dry_prints_and_does_nothing(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    environment.ensure(replace(project.settings, dry=True))
    assert capsys.readouterr().err.count("$ ") == 2
    assert not project.settings.paths.environment.exists()
    assert not project.settings.paths.state.exists()


def test_run_returns_stdout(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.program(
        "hello", "import sys, tiny; print(tiny.VERSION, *sys.argv[1:]); print('note', file=sys.stderr)"
    )
    assert environment.run(project.settings, "hello", ["--a=1", "b c"], "greeting") == "1.0 --a=1 b c\n"
    assert (
        "$ PYTHONPATH=docker/embedded environment/bin/python -m hello --a=1 'b c'" in capsys.readouterr().err
    )
    assert (project.settings.paths.state / "logs" / "hello.log").read_text() == "note\n"


def test_runs_about_different_things_have_their_own_logs(project: Project) -> None:
    program = """\
        import pathlib, sys, time
        print(sys.argv[1], file=sys.stderr, flush=True)
        pathlib.Path(sys.argv[1]).touch()
        while not pathlib.Path(sys.argv[2]).exists():
            time.sleep(0.01)
        print(sys.argv[1], file=sys.stderr)
        """
    project.program("pair", textwrap.dedent(program))

    def run(name: str, other: str) -> None:
        environment.run(project.settings, "pair", [name, other], "waiting", about=name)

    environment.ensure(project.settings)
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(run, "one", "two"), pool.submit(run, "two", "one")]:
            done.result(30)
    logs = project.settings.paths.state / "logs"
    assert {log.name: log.read_text() for log in logs.glob("pair*")} == {
        "pair.one.log": "one\none\n",
        "pair.two.log": "two\ntwo\n",
    }


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (
            "import sys; print('one', file=sys.stderr); sys.exit('the model is too odd.')",
            "the model is too odd.",
        ),
        (
            "import os; os.kill(os.getpid(), 9)",
            "it was ended by SIGKILL (the system kills with it when memory",
        ),
        ("raise SystemExit(4)", "it ended with status 4 and said nothing"),
    ],
)
def test_run_raises_what_it_is_told_to(
    project: Project, capsys: pytest.CaptureFixture[str], code: str, problem: str
) -> None:
    project.program("fails", code)
    with pytest.raises(OptimizeError) as caught:
        environment.run(project.settings, "fails", [], "converting", OptimizeError)
    assert caught.value.problem.startswith(f"converting failed: {problem}")
    assert "state/logs/fails.log" in caught.value.remedy


def test_execute_tells_how_it_ended(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.program("refuses", "import sys; print('first\\n the reason \\n', file=sys.stderr); sys.exit(3)")
    ended = environment.execute(project.settings, "refuses", [], "converting", about="net")
    assert (ended.status, ended.output, ended.last_line) == (3, "", "the reason")
    assert ended.log.name == "refuses.net.log"
    assert "the reason" not in capsys.readouterr().err


def test_a_long_reason_is_told_in_full() -> None:
    line = "missing: " + ", ".join(f"variables/part-{n:03}" for n in range(80))
    assert environment.ending(1, f"notes\n{line}.\n") == line


def test_an_endless_reason_ends_with_a_word() -> None:
    told = environment.ending(1, "words " * 1000)
    assert len(told) <= environment.LONGEST_REASON
    assert told.endswith("words [...]")
