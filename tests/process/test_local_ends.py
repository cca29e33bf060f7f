"""The local engine: servers that end, are killed, or were started by a killed call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.lib.client.rest import Client
from tasks.lib.common import pinning, processes
from tasks.lib.common.errors import ServerError, SettingError
from tasks.lib.engines.base import Conditions
from tasks.lib.engines.local.engine import LocalEngine
from tests.helpers import standin
from tests.helpers.cpus import NEEDS_TWO
from tests.helpers.local_servers import STOCK, Workspace, nothing_left
from tests.helpers.standin import wait_for


def test_one_that_ignores_sigterm_is_killed(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    server = workspace.engine("stubborn").start(workspace.model, STOCK)
    with nothing_left(workspace):
        workspace.engine().stop(server, 0.2)
    assert "did not end within 0.2 s" in capsys.readouterr().err


def test_children_go_with_it(workspace: Workspace) -> None:
    server = workspace.engine("parent").start(workspace.model, STOCK)
    child = int(workspace.engine().logs(server).split()[-1])
    assert psutil.pid_exists(child)
    with nothing_left(workspace):
        workspace.engine().stop(server, 10)
    wait_for(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie")


def test_one_that_ended_by_itself_leaves_its_log(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.engine().start(workspace.model, STOCK)
    workspace.kill_server()
    assert workspace.engine().servers() == []
    assert "stock net@1 on port" in (note := capsys.readouterr().err)
    assert "has ended by itself" in note
    [log] = (workspace.records / "ended").iterdir()
    assert log.read_text() == "stand-in: loading\n"
    assert workspace.left() == ["ended"]


def test_few_logs_of_ended_servers_are_kept(workspace: Workspace) -> None:
    ended = workspace.records / "ended"
    ended.mkdir(parents=True)
    for number in range(10):
        (ended / f"2020-01-0{number}.log").touch()
    workspace.engine().start(workspace.model, STOCK)
    workspace.kill_server()
    workspace.engine().servers()
    names = sorted(path.name for path in ended.iterdir())
    assert len(names) == 5
    assert names[0] == "2020-01-06.log"
    assert "stock-net@1" in names[-1]


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def edit(workspace: Workspace, change: Callable[[dict[str, Any]], None]) -> None:
    [path] = workspace.records.glob("*.json")
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_a_recycled_id_is_never_signalled(workspace: Workspace, bystander: subprocess.Popen[bytes]) -> None:
    server = workspace.engine().start(workspace.model, STOCK)
    workspace.kill_server()
    edit(workspace, lambda record: record["process"].update(pid=bystander.pid))
    workspace.engine().stop(server, 0)
    assert bystander.poll() is None
    assert workspace.left() == []


def test_a_recycled_id_is_not_listed_either(workspace: Workspace, bystander: subprocess.Popen[bytes]) -> None:
    workspace.engine().start(workspace.model, STOCK)
    workspace.kill_server()
    created = psutil.Process(bystander.pid).create_time()
    edit(workspace, lambda record: record["process"].update(pid=bystander.pid, created=created))
    assert workspace.engine().servers() == []
    assert bystander.poll() is None


def test_a_record_that_lost_its_process_is_adopted(workspace: Workspace) -> None:
    """The clock was set: the recorded start time no longer fits, but the marker does."""
    server = workspace.engine().start(workspace.model, STOCK)
    edit(workspace, lambda record: record["process"].update(created=1.0))
    assert workspace.engine().servers() == [server]
    with nothing_left(workspace):
        workspace.engine().stop(server, 10)


def killed_call(workspace: Workspace, behaviour: str) -> None:
    """A call of the suite that is killed while its server loads."""
    code = (
        "import sys; from pathlib import Path; from dataclasses import replace;"
        "from tests.helpers import standin; from tests.process.test_local import STOCK, Workspace;"
        f"Workspace(Path(sys.argv[1])).engine({behaviour!r}).start(standin.model(Path(sys.argv[1])), STOCK)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(workspace.folder)], cwd=standin.ROOT, stderr=subprocess.DEVNULL
    ) as call:
        wait_for(
            lambda: [p for p in workspace.records.glob("*.json") if json.loads(p.read_text())["process"]]
        )
        assert workspace.engine().servers(), "still being waited for, so it is let be"
        call.kill()


def test_what_a_killed_call_was_starting_is_found_and_ended(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    killed_call(workspace, "silent")
    assert len(workspace.processes()) == 1
    with nothing_left(workspace):
        assert workspace.engine().servers() == []
    assert "left behind by a call that was killed" in capsys.readouterr().err


def test_one_for_a_call_is_ended_when_that_was_killed(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = workspace.engine()
    mine, own = engine.start(workspace.model, STOCK, temporary=True), engine.start(workspace.model, STOCK)
    assert engine.servers() == [mine, own], "its call still runs"

    path = workspace.records / f"{mine.id}.json"
    record = json.loads(path.read_text())
    record["starter"]["created"] = 1.0
    path.write_text(json.dumps(record))
    assert engine.servers() == [own]
    assert "left behind by a call that was killed" in capsys.readouterr().err
    with nothing_left(workspace):
        engine.stop(own, 10)


def test_the_fingerprint_is_of_everything_that_makes_a_server(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = workspace.engine().fingerprint(workspace.model, STOCK)
    assert workspace.engine().start(workspace.model, STOCK, 0).fingerprint == before
    assert workspace.engine(rest_port=9000).fingerprint(workspace.model, STOCK) == before
    others = {
        workspace.engine(host="127.0.0.2").fingerprint(workspace.model, STOCK),
        workspace.engine("slow").fingerprint(workspace.model, STOCK),
        workspace.engine().fingerprint(workspace.model, replace(STOCK, backend="openvino")),
        workspace.engine().fingerprint(workspace.model, replace(STOCK, arguments=("--enable_batching",))),
    }
    (workspace.model.folder / "saved_model.pb").write_bytes(b"another")
    others.add(workspace.engine().fingerprint(workspace.model, STOCK))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    others.add(workspace.engine().fingerprint(workspace.model, STOCK))
    assert len(others | {before}) == 7


@NEEDS_TWO
def test_a_server_runs_on_its_cpus_with_all_its_threads(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = pinning.usable()
    assert mine is not None
    engine = workspace.engine(cpus=mine[1:2])
    server = engine.start(workspace.model, STOCK)
    [process] = workspace.processes()
    assert Client(server.url).predict(b'{"instances": ["abc"]}') == {"predictions": [3]}
    threads = [int(name) for name in os.listdir(f"/proc/{process.pid}/task")]
    assert {tuple(os.sched_getaffinity(thread)) for thread in threads} == {mine[1:2]}
    assert engine.conditions(server) == Conditions(mine[1:2])
    assert pinning.usable() == mine, "the caller stays where it is"
    assert f"$ taskset --cpu-list {mine[1]} " in capsys.readouterr().err
    with nothing_left(workspace):
        engine.stop(server, 10)
    assert engine.conditions(server) == Conditions(None)


@NEEDS_TWO
def test_cpus_that_are_not_there_leave_nothing(workspace: Workspace) -> None:
    with nothing_left(workspace), pytest.raises(SettingError, match="not all of the CPUs"):
        workspace.engine(cpus=(0, 4000)).start(workspace.model, STOCK)


def test_killed_between_record_and_process(workspace: Workspace) -> None:
    killed_call(workspace, "silent")
    for process in workspace.processes():
        processes.terminate(process, 0)
    edit(workspace, lambda record: record.update(process=None))
    with nothing_left(workspace):
        assert workspace.engine().servers() == []


def test_killed_between_process_and_record(workspace: Workspace) -> None:
    killed_call(workspace, "silent")
    edit(workspace, lambda record: record.update(process=None))
    with nothing_left(workspace):
        assert workspace.engine().servers() == []


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"server": {}}'])
def test_a_damaged_record_counts_as_none(workspace: Workspace, damage: str) -> None:
    workspace.engine().start(workspace.model, STOCK)
    [path] = workspace.records.glob("*.json")
    path.write_text(damage)
    with nothing_left(workspace):
        assert workspace.engine().servers() == []


def test_two_state_folders_do_not_see_each_other(workspace: Workspace, tmp_path: Path) -> None:
    server = workspace.engine().start(workspace.model, STOCK)
    other = Workspace(tmp_path / "other")
    other.records.mkdir(parents=True)
    for path in workspace.records.glob("*.json"):
        # Even a copied record is not theirs.
        (other.records / path.name).write_text(path.read_text())
    assert other.engine().servers() == []
    other.engine().stop(server, 0)
    assert workspace.engine().servers() == [server]
    workspace.engine().stop(server, 10)


def test_stopped_by_another_call_while_loading(workspace: Workspace) -> None:
    def stop() -> None:
        wait_for(workspace.processes)
        for server in workspace.engine().servers():
            workspace.engine().stop(server, 10)

    other = threading.Thread(target=stop)
    other.start()
    with nothing_left(workspace), pytest.raises(ServerError, match="was stopped by another call"):
        workspace.engine("silent").start(workspace.model, STOCK)
    other.join()


def test_dry_prints_and_does_nothing(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    engine = LocalEngine(replace(workspace.settings, dry=True))
    engine.preview(workspace.model, STOCK)
    assert f"--rest_api_port={workspace.settings.serve.rest_port} " in capsys.readouterr().err
    assert not workspace.settings.paths.state.exists()


def test_extra_flags_reach_the_server(workspace: Workspace) -> None:
    engine = LocalEngine(workspace.settings, extra_flags=["--takes=images"], command=standin.command())
    server = engine.start(workspace.model, STOCK)
    definitions = Client(server.url).metadata()["metadata"]["signature_def"]["signature_def"]
    assert "image_bytes" in definitions["serving_default"]["inputs"]
    engine.stop(server, 10)
