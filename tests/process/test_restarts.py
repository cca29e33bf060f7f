"""tasks.lib.benchmark.restarts: a comparison of two servers that shell commands restart between its parts."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.lib.benchmark import contest
from tasks.lib.benchmark.contest import Contest
from tasks.lib.client.rest import Client
from tasks.lib.common.errors import NotComparable, ServerError, SuiteError
from tasks.lib.common.settings import Settings
from tasks.lib.measure.verdict import BASELINE, CANDIDATE
from tasks.lib.results import record
from tests.helpers.contestants import HURRY
from tests.helpers.scripted import free_port, until
from tests.integration import synthetic


@dataclass(frozen=True)
class Service:
    """A server that a shell command ends and starts again at the same address; `pids` lists its processes."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/models/net"

    @property
    def pids(self) -> list[int]:
        return [int(line) for line in (self.folder / "pids").read_text().split()]

    def stopping(self) -> str:
        return f"kill $(tail -n 1 {shlex.quote(str(self.folder / 'pids'))})"

    def starting(self, *options: str) -> str:
        words = [sys.executable, synthetic.__file__, f"--port={self.port}", "--milliseconds=0.1", *options]
        pids = shlex.quote(str(self.folder / "pids"))
        # A pause: the old process may hold the port for a moment, and the command returns before it answers.
        return f"(sleep 0.2; exec {shlex.join(words)}) >/dev/null 2>&1 & echo $! >> {pids}"

    def restarting(self, *options: str) -> str:
        return f"{self.stopping()}; {self.starting(*options)}"


@pytest.fixture
def services(tmp_path: Path) -> Iterator[list[Service]]:
    """Two that run."""
    both = [Service(tmp_path / name, free_port()) for name in ("first", "second")]
    try:
        for service in both:
            service.folder.mkdir()
            os.system(service.starting())
        for service in both:
            until(lambda service=service: answers(service))  # type: ignore[misc]
        yield both
    finally:
        for service in both:
            for pid in service.pids:
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(pid)
                    if f"--port={service.port}" in process.cmdline() or process.name() in ("sh", "dash"):
                        process.kill()


def answers(service: Service) -> bool:
    try:
        return bool(Client(service.url, 1).metadata())
    except SuiteError:
        return False


def run(settings: Settings, services: list[Service], restart: dict[str, str], **more: Any) -> record.Record:
    plan = replace(HURRY, instances=3, max_seconds=0.3)
    first, second = services
    [done] = contest.run(
        settings, Contest("net", first.url, [second.url], None, plan, restart=restart, **more)
    )
    return done


def hurried(settings: Settings, seconds: float) -> Settings:
    return replace(settings, serve=replace(settings.serve, ready_timeout=seconds))


def test_both_are_restarted_between_the_parts(services: list[Service], settings: Settings) -> None:
    first, second = services
    done = run(settings, services, {BASELINE: first.restarting(), CANDIDATE: second.restarting()}).verdict
    assert done is not None
    assert [len(set(service.pids)) for service in services] == [3, 3]
    assert (done.instances, done.restarted) == (3, (BASELINE, CANDIDATE))
    assert len(done.round_ratios) % 3 == 0
    assert done.p50 is not None
    assert (done.p50.instances, done.p50.effective, done.p50.stray) == (3, 3.0, None)
    assert done.timeline is not None
    assert list(done.timeline.start) == sorted(done.timeline.start)
    assert "a restart can change it" not in done.sentence


def test_the_result_says_what_was_restarted(services: list[Service], settings: Settings) -> None:
    done = run(settings, services, {CANDIDATE: services[1].restarting()})
    assert [len(service.pids) for service in services] == [1, 3]
    assert done.verdict is not None
    name = done.verdict.baseline.name
    assert f"This holds for this process of {name}; a restart can change it." in done.verdict.sentence or (
        done.verdict.p50 is not None and done.verdict.p50.outcome == 0
    )
    [content] = record.content([done])["runs"]
    assert content["verdict"] is not None
    assert content["verdict"]["restarted"] == [CANDIDATE]
    rounds = content["verdict"]["rounds"]
    told = f"{rounds} rounds of 3 processes of {done.verdict.candidate.name}, {rounds // 3} of each pair"
    assert told in "".join(content["notes"])


def test_the_watched_processes_are_those_of_each_part(services: list[Service], settings: Settings) -> None:
    done = run(settings, services, {BASELINE: services[0].restarting()}).verdict
    assert done is not None
    if done.disturbance is None:
        pytest.skip("this system does not tell what programs use")
    assert {BASELINE, CANDIDATE} <= done.disturbance.waited.keys()
    assert done.disturbance.others is not None


@pytest.mark.parametrize(
    ("command", "seconds", "problem"),
    [
        ("echo that went wrong; exit 3", 60, "has ended with status 3: echo that went wrong; exit 3"),
        ("true", 0.3, "the same process as before listens at http"),
        ("sleep 60", 0.3, "has not ended after 0.3 s: sleep 60"),
    ],
)
def test_a_command_that_restarts_nothing(
    command: str,
    seconds: float,
    problem: str,
    services: list[Service],
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ServerError) as raised:
        run(hurried(settings, seconds), services, {CANDIDATE: command})
    assert problem in raised.value.problem
    assert "--restart-candidate" in raised.value.problem
    assert ("that went wrong" in capsys.readouterr().err) == ("exit 3" in command)


def test_a_server_that_is_not_started_again(services: list[Service], settings: Settings) -> None:
    with pytest.raises(ServerError, match="does not answer after a restart: "):
        run(hurried(settings, 1), services, {BASELINE: services[0].stopping()})


def test_a_command_may_restart_both(services: list[Service], settings: Settings) -> None:
    first, second = services
    command = f"{first.restarting()}; {second.stopping()}; sleep 0.3; {second.starting()}"
    done = run(settings, services, {BASELINE: command}).verdict
    assert done is not None
    assert [len(set(service.pids)) for service in services] == [3, 3]
    assert done.restarted == (BASELINE,)


def test_other_answers_after_a_restart_end_the_comparison(
    services: list[Service], settings: Settings
) -> None:
    command = services[1].restarting("--other")
    with pytest.raises(NotComparable, match=r"After a restart of \S+ the answers differ: "):
        run(settings, services, {CANDIDATE: command})
    assert len(services[1].pids) == 2


def test_other_answers_are_expected_where_they_are_allowed(
    services: list[Service], settings: Settings
) -> None:
    os.system(services[1].restarting("--other"))
    until(lambda: answers(services[1]))
    done = run(settings, services, {CANDIDATE: services[1].restarting("--other")}, allow_different=True)
    assert done.verdict is not None
    assert done.verdict.restarted == (CANDIDATE,)


def test_an_interruption_ends_the_command(
    services: list[Service], settings: Settings, tmp_path: Path
) -> None:
    mark = tmp_path / "started"

    def interrupt() -> None:
        until(mark.exists)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(settings, services, {CANDIDATE: f"echo $$ > {mark}; exec sleep 60"})
    thread.join()
    assert time.monotonic() - before < 50, "it has not waited for the command"
    assert not psutil.pid_exists(int(mark.read_text()))


def test_what_would_be_run(
    services: list[Service], settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = replace(HURRY, instances=3)
    asked = Contest("net", services[0].url, [services[1].url], None, plan, restart={CANDIDATE: "restart it"})
    assert list(contest.run(replace(settings, dry=True), asked)) == []
    assert "would run 2 times between measuring: restart it" in capsys.readouterr().err
