"""tasks.lib.common.console: results on stdout, everything else on stderr, in a log and on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.lib.common import console

ROOT = Path(__file__).resolve().parents[3]
Captured = pytest.CaptureFixture[str]


def test_results_go_to_stdout_and_nothing_else_does(capsys: Captured) -> None:
    console.result("the result")
    console.note("a note")
    console.command(["ls"])
    with console.progress("measuring", 2, unit="round") as bar:
        bar.update(1)
    with console.waiting("starting") as line:
        line.tick()
    out, err = capsys.readouterr()
    assert out == "the result\n"
    assert "a note" in err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("exactly twenty chars", "exactly twenty chars"),
        ("two\n  lines", "two lines"),
        ("this sentence is longer", "this sentence [...]"),
        ("fourteen chars then more", "fourteen chars [...]"),
        ("onlyonewordthatislongerthanthat", "onlyonewordtha [...]"),
    ],
)
def test_long_text_is_cut_between_words(text: str, shown: str) -> None:
    assert console.shortened(text, 20) == shown


def test_commands_are_shown_as_one_would_type_them(capsys: Captured) -> None:
    console.command(["docker", "run", "--name", "my server", "a$b"], {"MODEL": "two words", "N": "1"})
    assert capsys.readouterr().err == "$ MODEL='two words' N=1 docker run --name 'my server' 'a$b'\n"


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5), min_size=1
    )
)
def test_a_shown_command_means_the_same_to_a_shell(words: list[str]) -> None:
    shown: list[str] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(console, "note", shown.append)
        console.command(words)
    assert shlex.split(shown[0].removeprefix("$ ")) == words


# In a log


def test_progress_in_a_log_is_plain_lines(capsys: Captured) -> None:
    with console.progress("measuring", 14, unit="round") as bar:
        for _ in range(14):
            bar.update(1)
    assert capsys.readouterr().err == "measuring: 0/14 round [0 s]\nmeasuring: 14/14 round [0 s]\n"


def test_bytes_are_scaled(capsys: Captured) -> None:
    with console.progress("resnet", 3 << 20) as bar:
        bar.update(1 << 20)
        bar.update(2 << 20)
    first, last = capsys.readouterr().err.splitlines()
    assert first == "resnet: 0.00/3.00M B [0 s]"
    assert last == "resnet: 3.00M/3.00M B [0 s]"


def test_a_total_that_is_not_known_is_a_question(capsys: Captured) -> None:
    with console.progress("archive", None) as bar:
        bar.update(2048)
    assert "archive: 2.00k/? B" in capsys.readouterr().err


def test_a_log_gets_a_line_from_time_to_time(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with console.progress("resnet", 1000, unit="file", initial=200) as bar:
        for _ in range(8):
            now += 4
            bar.update(100)
    assert capsys.readouterr().err.splitlines() == [
        "resnet: 200/1000 file [0 s]",
        "resnet: 500/1000 file [12 s]",
        "resnet: 800/1000 file [24 s]",
        "resnet: 1000/1000 file [32 s]",
    ]


def test_progress_that_fails_says_how_far_it_came(capsys: Captured) -> None:
    with pytest.raises(RuntimeError), console.progress("measuring", 14, unit="round") as bar:  # noqa: PT012
        bar.update(3)
        raise RuntimeError
    assert capsys.readouterr().err.splitlines()[-1] == "measuring: 3/14 round [0 s]"


def test_waiting_in_a_log_is_a_line_from_time_to_time(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with console.waiting("starting", every=10) as line:
        for _ in range(9):
            now += 3
            line.tick()
    assert capsys.readouterr().err.splitlines() == ["starting ...", "starting ... 12 s", "starting ... 24 s"]


# On a terminal


def on_a_terminal(code: str) -> tuple[str, str]:
    """What a program writes to stdout, and to a stderr that is a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", f"from tasks.lib.common import console\n{code}"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
        )
    finally:
        os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:
        pass  # how Linux says that the other end is closed
    finally:
        os.close(ours)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 0, shown
    return out.decode(), shown.decode()


def test_progress_on_a_terminal_is_a_bar_in_one_line() -> None:
    out, shown = on_a_terminal(
        "with console.progress('measuring', 3, unit='round') as bar:\n    for _ in range(3): bar.update(1)\n"
    )
    assert out == ""
    assert "\r" in shown.strip()
    assert shown.count("\n") == 1
    last = shown.rstrip().rpartition("\r")[2]
    assert re.match(r"measuring: 100%\|.+\| 3/3 \[", last)


def test_waiting_on_a_terminal_counts_in_one_line() -> None:
    out, shown = on_a_terminal(
        "console.time.monotonic = lambda: 100.0  # no time goes by\n"
        "with console.waiting('starting') as line:\n    line.tick()\n    line.tick()\nconsole.note('up')\n"
    )
    assert out == ""
    assert shown == "\rstarting ... 0 s \rstarting ... 0 s \r\nup\r\n"


# Sizes


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (99_405_004, "94.8 MiB"),
        (1 << 30, "1.0 GiB"),
        (5 << 40, "5120.0 GiB"),
    ],
)
def test_sizes_as_a_person_reads_them(n: int, text: str) -> None:
    assert console.size(n) == text
