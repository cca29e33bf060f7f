"""The local engine: ports that are taken, asked for, or given to another call."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.lib.common import processes
from tasks.lib.common.errors import ServerError
from tasks.lib.common.variants import Variant
from tasks.lib.engines.local.engine import LocalEngine
from tests.helpers import standin
from tests.helpers.local_servers import STOCK, Workspace, nothing_left
from tests.helpers.standin import wait_for

OPTIMIZED = Variant("optimized", "openvino", "bf16")


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
