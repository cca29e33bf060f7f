"""How a build is shown while it runs: a line that changes on a terminal, lines in a log."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tasks.lib.images import build_progress
from tasks.lib.images.build_progress import Progress, duration


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "build.log"
    path.write_text("of an earlier command\n")
    return path


def write(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def test_in_a_log_each_step_is_a_line(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("build.devel", log) as progress:
        write(log, "Step 1/3 : ARG X\nStep 2/3 : FROM x\nStep 3/3 : RUN ba")
        progress.tick()
        write(log, "zel build\n[1 / 2] Compiling\n")
        progress.tick()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "build.devel: step 2/3: FROM x\nbuild.devel: step 3/3: RUN bazel build\n"


def test_in_a_log_a_long_step_is_told_again(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_progress, "EVERY", 0.0)
    with Progress("build.devel", log) as progress:
        write(log, "Step 3/3 : RUN bazel build\n[1 / 2] Compiling one.cc\n")
        progress.tick()
    assert "build.devel 3/3 [0 s]: [1 / 2] Compiling one.cc\n" in capsys.readouterr().err


def test_on_a_terminal_one_line_changes(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(build_progress, "REDRAW", 0.0)
    monkeypatch.setenv("COLUMNS", "40")
    with Progress("build.devel", log) as progress:
        write(log, "Step 3/3 : RUN bazel build\n[1 / 2] Compiling one.cc with a long name\n")
        progress.tick()
        write(log, "[2 / 2] Compiling two.cc\n")
        progress.tick()
    err = capsys.readouterr().err
    drawn = re.findall(r"\r\x1b\[2K([^\r\n]*)", err)
    assert drawn[0] == "build.devel 3/3 [0 s]: [1 / 2] Compilin"
    assert len(drawn[0]) == 39
    assert drawn[-1] == ""  # nothing of it is left behind


def test_a_last_line_without_its_end_is_read(log: Path) -> None:
    with Progress("build.devel", log) as progress:
        write(log, "Step 1/1 : RUN x\nerror: cut short")
    assert progress.reader.step is not None
    assert progress.reader.step.lines == ["error: cut short"]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min 00 s"), (185, "3 min 05 s"), (7625, "2 h 07 min")],
)
def test_durations(seconds: float, told: str) -> None:
    assert duration(seconds) == told
