"""The local engine, with real processes: a stand-in for the embedded server is what it starts."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from pathlib import Path

import pytest

from tasks.lib.client.rest import Client
from tasks.lib.common import disk
from tasks.lib.common.errors import ServerError
from tasks.lib.engines.local.engine import LocalEngine
from tests.helpers.local_servers import STOCK, Workspace, nothing_left
from tests.helpers.standin import wait_for


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
