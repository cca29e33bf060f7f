"""The local engine, with real processes: a stand-in for the embedded server is what it starts."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.lib.client.rest import Client
from tasks.lib.common import disk, pinning, processes
from tasks.lib.common.errors import ServerError, SettingError
from tasks.lib.common.settings import Settings
from tasks.lib.common.variants import Variant
from tasks.lib.engines.base import Conditions
from tasks.lib.engines.local.engine import LocalEngine
from tests.helpers import standin
from tests.helpers.cpus import NEEDS_TWO
from tests.helpers.standin import wait_for

STOCK = Variant("stock", "tensorflow", "f32")
OPTIMIZED = Variant("optimized", "openvino", "bf16")


class Workspace:
    """One state folder, and the engine that works in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings: Settings = standin.settings(folder)
        self.model = standin.model(folder)

    def engine(self, *behaviour: str, **serve: Any) -> LocalEngine:
        settings = replace(self.settings, serve=replace(self.settings.serve, **serve))
        return LocalEngine(settings, command=standin.command(*behaviour))

    @property
    def records(self) -> Path:
        return self.settings.paths.state / "servers"

    def processes(self) -> list[processes.Identity]:
        return processes.carriers(processes.marker(self.settings.paths.state, "server", ""))

    def kill_server(self) -> None:
        """End the only server's process behind the suite's back."""
        [process] = self.processes()
        os.kill(process.pid, signal.SIGKILL)
        wait_for(lambda: not self.processes())

    def left(self) -> list[str]:
        """What is left in the folder of records: nothing, where all is in order."""
        return sorted(path.name for path in self.records.glob("*")) if self.records.is_dir() else []


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    one = Workspace(tmp_path)
    yield one
    for process in one.processes():
        processes.terminate(process, 0)


@contextmanager
def nothing_left(workspace: Workspace) -> Iterator[None]:
    yield
    assert workspace.processes() == []
    assert workspace.left() == []


def test_start_answers_stop(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    engine = workspace.engine()
    server = engine.start(workspace.model, STOCK)
    assert Client(server.url).predict(b'{"instances": ["abc"]}') == {"predictions": [3]}
    assert engine.servers() == [server]
    assert (server.rest_port, server.host) == (workspace.settings.serve.rest_port, "127.0.0.1")
    assert engine.logs(server) == "stand-in: loading\n"
    [record] = workspace.records.glob("*.json")
    [process] = workspace.processes()
    saved = json.loads(record.read_text())["process"]
    assert (saved["pid"], saved["created"]) == (process.pid, process.created)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"--rest_api_port={server.rest_port}" in shown.err
    with nothing_left(workspace):
        engine.stop(server, 10)
        assert engine.servers() == []


def test_another_call_finds_and_stops_it(workspace: Workspace) -> None:
    server = workspace.engine().start(workspace.model, STOCK)
    assert workspace.engine().servers() == [server]
    with nothing_left(workspace):
        workspace.engine().stop(server, 10)


def test_one_that_dies_while_loading_shows_its_last_lines(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with nothing_left(workspace), pytest.raises(ServerError, match="died while loading: stand-in: giving up"):
        workspace.engine("die").start(workspace.model, STOCK)
    assert "stand-in: cannot read the model\nstand-in: giving up" in capsys.readouterr().err


def test_one_that_never_answers_is_stopped(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    with nothing_left(workspace), pytest.raises(ServerError, match="has not answered a predict within 3 s"):
        workspace.engine("silent", ready_timeout=3.0).start(workspace.model, STOCK)
    assert "stand-in: loading" in capsys.readouterr().err


def test_one_that_refuses_a_good_predict_is_not_up(workspace: Workspace) -> None:
    with nothing_left(workspace), pytest.raises(ServerError, match="HTTP 500, the stand-in refuses"):
        workspace.engine("refuse-500").start(workspace.model, STOCK)


def test_one_that_objects_to_made_up_values_is_up(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    server = workspace.engine("refuse-400").start(workspace.model, STOCK)
    assert "not to a made-up request: the stand-in refuses" in capsys.readouterr().err
    workspace.engine().stop(server, 10)


def test_a_program_that_does_not_exist(workspace: Workspace) -> None:
    engine = LocalEngine(workspace.settings, command=lambda flags: (["/nonexistent/python"], {}))
    with nothing_left(workspace), pytest.raises(ServerError, match="cannot be started: No such file"):
        engine.start(workspace.model, STOCK)


@pytest.mark.parametrize("fitting", [0, 1])
def test_a_record_that_does_not_fit_on_the_disk(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, fitting: int
) -> None:
    """Of the records, before and after the process is started, this many fit."""
    real, written = disk.write_text, []

    def write_text(path: Path, text: str) -> None:
        if len(written) == fitting:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        real(path, text)

    monkeypatch.setattr(disk, "write_text", write_text)
    with nothing_left(workspace), pytest.raises(ServerError, match="No space left on device"):
        workspace.engine().start(workspace.model, STOCK)


def test_ctrl_c_while_loading_leaves_nothing(workspace: Workspace) -> None:
    def interrupt() -> None:
        wait_for(workspace.processes)
        os.kill(os.getpid(), signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()
    with nothing_left(workspace), pytest.raises(KeyboardInterrupt):
        workspace.engine("silent").start(workspace.model, STOCK)
    other.join()


def test_a_port_that_was_asked_for_and_is_taken(workspace: Workspace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        with (
            nothing_left(workspace),
            pytest.raises(ServerError, match=f"Port {port} is taken by .*{os.getpid()}"),
        ):
            workspace.engine().start(workspace.model, STOCK, port)


def test_a_port_that_our_own_server_has(workspace: Workspace) -> None:
    server = workspace.engine().start(workspace.model, STOCK)
    with pytest.raises(ServerError, match=f"Port {server.rest_port} is taken by stock net@1") as caught:
        workspace.engine().start(workspace.model, OPTIMIZED, server.rest_port)
    assert "invoke serve.stop --variant stock" in caught.value.remedy
    workspace.engine().stop(server, 10)


def test_the_default_port_gives_way(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    first = workspace.engine().start(workspace.model, STOCK)
    second = workspace.engine().start(workspace.model, OPTIMIZED)
    assert second.rest_port == first.rest_port + 2
    assert (
        f"port {first.rest_port} is taken, so this server gets {second.rest_port}" in capsys.readouterr().err
    )
    assert workspace.engine().servers() == [first, second]
    with nothing_left(workspace):
        for server in (first, second):
            workspace.engine().stop(server, 10)


def test_each_server_has_a_grpc_port_of_its_own(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = workspace.settings.serve.grpc_port
    with socket.create_server(("127.0.0.1", wanted)):
        first = workspace.engine().start(workspace.model, STOCK)
    second = workspace.engine().start(workspace.model, OPTIMIZED)
    assert (first.rest_port, first.grpc_port) == (workspace.settings.serve.rest_port, wanted + 2)
    assert (second.rest_port, second.grpc_port) == (first.rest_port + 2, wanted)
    shown = capsys.readouterr().err
    assert f"port {wanted} is taken, so this server gets {wanted + 2}" in shown
    assert f"--port={wanted}" in shown
    assert second.grpc_url == f"grpc://127.0.0.1:{wanted}/v1/models/net"
    for server in (first, second):
        workspace.engine().stop(server, 10)


def test_a_record_from_before_there_was_grpc_can_be_read(workspace: Workspace) -> None:
    server = workspace.engine().start(workspace.model, STOCK)
    path = workspace.settings.paths.state / "servers" / f"{server.id}.json"
    record = json.loads(path.read_text())
    del record["server"]["grpc_port"]
    path.write_text(json.dumps(record))
    assert workspace.engine().servers() == [replace(server, grpc_port=0)]
    workspace.engine().stop(server, 10)


def test_an_address_that_this_machine_does_not_have(workspace: Workspace) -> None:
    with nothing_left(workspace), pytest.raises(ServerError, match=r"No server can listen on 192\.0\.2\.1"):
        workspace.engine(host="192.0.2.1").start(workspace.model, STOCK)


def test_two_calls_at_once_get_two_ports(workspace: Workspace) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(
            lambda variant: workspace.engine().start(workspace.model, variant), (STOCK, OPTIMIZED)
        )
    assert first.rest_port != second.rest_port
    with nothing_left(workspace):
        for server in (first, second):
            workspace.engine().stop(server, 10)


def test_an_answer_of_a_stranger_does_not_count(workspace: Workspace, tmp_path: Path) -> None:
    """Something else takes the port while the server loads, and speaks the same contract."""
    stranger: list[subprocess.Popen[bytes]] = []
    theirs = standin.command()

    def command(flags: Any) -> Any:
        argv, _ = theirs(flags)
        if "--rest_api_port=0" in flags:  # asked for a fingerprint, not to be started
            return argv, {}
        with (tmp_path / "stranger.log").open("wb") as log:
            stranger.append(subprocess.Popen(argv, stderr=log))
        port = int(next(flag for flag in flags if "rest_api_port" in flag).partition("=")[2])
        wait_for(lambda: processes.listener(port))
        return standin.command("silent")(flags)

    engine = LocalEngine(
        replace(workspace.settings, serve=replace(workspace.settings.serve, ready_timeout=1.0)),
        command=command,
    )
    try:
        with nothing_left(workspace), pytest.raises(ServerError, match="has not answered"):
            engine.start(workspace.model, STOCK)
    finally:
        for process in stranger:
            process.kill()
            process.wait()


def taken_while_loading(workspace: Workspace, stack: ExitStack, flag: str = "--rest_api_port") -> LocalEngine:
    """An engine whose first server finds its port taken when it wants to listen."""

    def command(flags: Any) -> Any:
        port = next(int(each.partition("=")[2]) for each in flags if each.startswith(f"{flag}="))
        if port not in (workspace.settings.serve.rest_port, workspace.settings.serve.grpc_port):
            return standin.command()(flags)
        stack.enter_context(socket.create_server(("127.0.0.1", port)))
        return standin.command("die")(flags)

    return LocalEngine(workspace.settings, command=command)


def test_a_port_that_is_taken_while_it_loads_gives_way(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as stack:
        server = taken_while_loading(workspace, stack).start(workspace.model, STOCK)
    first = workspace.settings.serve.rest_port
    assert server.rest_port == first + 2
    assert f"Port {first} was taken by" in capsys.readouterr().err
    with nothing_left(workspace):
        workspace.engine().stop(server, 10)


def test_a_port_that_was_asked_for_and_is_taken_while_it_loads(workspace: Workspace) -> None:
    first = workspace.settings.serve.rest_port
    with ExitStack() as stack, nothing_left(workspace):
        engine = taken_while_loading(workspace, stack)
        with pytest.raises(ServerError, match=f"Port {first} was taken by .* while stock net@1"):
            engine.start(workspace.model, STOCK, first)


def test_a_grpc_port_that_is_taken_while_it_loads_gives_way(workspace: Workspace) -> None:
    first = workspace.settings.serve.rest_port
    with ExitStack() as stack:
        server = taken_while_loading(workspace, stack, "--port").start(workspace.model, STOCK, first)
    assert (server.rest_port, server.grpc_port) == (first, workspace.settings.serve.grpc_port + 2)
    workspace.engine().stop(server, 10)


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
