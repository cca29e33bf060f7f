"""Starting, refusing to start, deadlines, and leaving."""

from __future__ import annotations

import errno
import itertools
import json
import shutil
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest
from conditions import turns_of_a_second
from embedded_server.common.errors import NotFound
from embedded_server.common.limits import Limits, Memory
from embedded_server.common.metrics import Metrics
from embedded_server.config.versions import list_versions
from embedded_server.execution.inference import Inference
from embedded_server.execution.servable import Models
from embedded_server.grpc.services import GrpcServer
from embedded_server.serving import drop_late_connections, reserve_port
from grpc_health.v1 import health_pb2, health_pb2_grpc
from raw import Raw, ask, request
from running import PATIENCE, Server, free_port, run_to_end, start
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

FOREVER = 10**12  # turns of the spin signature's loop
SPIN = "/v1/models/module:predict"


def refusal(*flags: str) -> str:
    code, log = run_to_end(*flags)
    assert code == 1, log
    assert "Traceback" not in log
    return next(line for line in log.splitlines() if line.startswith("embedded_server: "))


def spin_body(turns: int) -> dict[str, Any]:
    return {"signature_name": "spin", "instances": [turns]}


class InFlight:
    """A request that has reached the server and waits for its answer."""

    def __init__(self, server: Server, turns: int) -> None:
        body = json.dumps(spin_body(turns)).encode()
        head = f"POST {SPIN} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        self._socket = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        self._socket.sendall(head.encode() + body)
        # The event loop reads what came first first: with this answered, the other one has begun.
        assert server.call("GET", "/v1/models/module")[0] == 200

    def answer(self) -> bytes:
        """All that the server sends until it closes the connection."""
        received = b""
        while chunk := self._socket.recv(65536):
            received += chunk
        self._socket.close()
        return received


def is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    except ConnectionError:
        return False
    return True


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--model_base_path"),
        (("--model_config_file=/none",), "--model_config_file /none: No such file or directory"),
        (("--model_config_file=/none", "--model_version=1"), "--model_version goes with --model_base_path"),
        (("--model_base_path=.", "--enable_model_warmup=maybe"), "'maybe' is neither true nor false"),
        (("--model_base_path=/none",), "--model_base_path /none: No such file or directory"),
        (("--model_base_path=.", "--rest_api_port=abc"), "--rest_api_port: 'abc' is not a whole number"),
        (("--model_base_path=.", "--rest_api_port=0"), "--port and --rest_api_port are both 0"),
        (("--model_base_path=.", "--rest_api_port=65536"), "from 0 to 65535"),
        (("--model_base_path=.", "--backend=onnx"), "--backend: invalid choice: 'onnx'"),
        (("--model_base_path=.", "--precision=int4"), "--precision: invalid choice: 'int4'"),
        (("--model_base_path=.", "--model_name="), "--model_name: must not be empty"),
        (("--model_base_path=.", "--tensorflow_intra_op_parallelism=-1"), "is not a whole number"),
        (("--model_base_path=.", "--rest_api"), "unknown flag --rest_api; did you mean --rest_api_"),
    ],
)
def test_wrong_flags(flags: tuple[str, ...], message: str) -> None:
    assert message in refusal(*flags)


def test_no_version_folder(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    (tmp_path / "2").write_text("a file")
    assert "no version of the model in" in refusal(f"--model_base_path={tmp_path}")
    (tmp_path / "saved_model.pb").write_bytes(b"")
    assert "it is itself a SavedModel" in refusal(f"--model_base_path={tmp_path}")


def test_of_two_folders_of_one_version_the_plain_name_counts(tmp_path: Path) -> None:
    names = [str(number) for number in range(1, 20)]
    for name in names:  # many, for the file system lists them in an order of its own
        (tmp_path / name).mkdir()
        (tmp_path / f"00{name}").mkdir()
    (tmp_path / "020").mkdir()
    expected = {**{int(name): tmp_path / name for name in names}, 20: tmp_path / "020"}
    assert list_versions(tmp_path) == expected


def test_version_that_is_not_there(models: Path) -> None:
    line = refusal(
        f"--model_base_path={models / 'module'}", "--model_version=4", f"--rest_api_port={free_port()}"
    )
    assert line.endswith("it has 3")


def test_port_taken(models: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        line = refusal(f"--model_base_path={models / 'module'}", f"--rest_api_port={port}")
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in line


def test_damaged_model(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "keras" / "1", tmp_path / "1")
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"damaged")
    line = refusal(f"--model_base_path={tmp_path}", f"--rest_api_port={free_port()}")
    assert f"cannot load the SavedModel in {tmp_path / '1'}" in line


def test_newest_version_deadline_and_a_clean_end(models: Path, tmp_path: Path) -> None:
    for version in ("2", "10"):
        (tmp_path / version).symlink_to(models / "module" / "3")
    (tmp_path / "11").write_text("a file, not a version")
    flags = ("--model_name=module", f"--model_base_path={tmp_path}", "--rest_api_timeout_in_ms=500")
    with Server(*flags, "--port=0") as server:
        log = "".join(server.log)
        assert "gRPC" not in log
        assert not is_listening(server.grpc_port)
        assert f"Exporting HTTP/REST API at:127.0.0.1:{server.port}" in log
        assert "loaded servable version {name: module version: 10}" in log
        status, answer = server.call("GET", "/v1/models/module")
        assert (status, answer["model_version_status"][0]["version"]) == (200, "10")
        status, answer = server.call("POST", SPIN, spin_body(FOREVER))
        assert (status, list(answer)) == (504, ["error"])
        idle = socket.create_connection(("127.0.0.1", server.port))  # must not hold up the end
        assert server.stop() == 0
        idle.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_wait_for_a_model_can_be_ended(tmp_path: Path, number: int) -> None:
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{tmp_path}" model_platform: "tensorflow" }} }}'
    )
    process = start(f"--model_config_file={config}", f"--rest_api_port={free_port()}")
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "No versions of servable m found under base path" in line:
                break
        process.send_signal(number)
        _, log = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Stopped before there was a model to serve" in log
    assert "Traceback" not in log


def test_sigterm_finishes_what_is_in_flight(models: Path) -> None:
    flags = ("--model_name=module", f"--model_base_path={models / 'module'}", "--shutdown_grace_seconds=50")
    with Server(*flags) as server:
        turns = turns_of_a_second(server, SPIN)
        request = InFlight(server, turns)
        codes: list[int] = []
        stopper = threading.Thread(target=lambda: codes.append(server.stop()))
        stopper.start()
        answer = request.answer()
        stopper.join()
        assert codes == [0]
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(f'{{"predictions":[{turns}]}}'.encode())
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_comes_within_the_grace_time(models: Path, number: int) -> None:
    flags = ("--model_name=module", f"--model_base_path={models / 'module'}", "--shutdown_grace_seconds=1")
    with Server(*flags) as server:
        request = InFlight(server, FOREVER)
        began = time.monotonic()
        server.process.send_signal(number)
        assert server.process.wait(PATIENCE) == 1, "a request was cut off"
        assert time.monotonic() - began < 15, "the default; it is 1 s here, on a machine that may be busy"
        answer = request.answer()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.endswith(b'{"error":"the server was shut down before it had the answer"}')
        server._reader.join(PATIENCE)
        assert "Traceback" not in "".join(server.log)
        assert "1 request(s) still running were cut off" in "".join(server.log)


MODULE_STATUS = b"\x0a\x08\x0a\x06module"  # a GetModelStatusRequest
GOOD = request("POST", SPIN, b'{"instances": [[1, 2]]}')
GOOD_ANSWER = {"predictions": [[4.0, 1.0]]}


def test_while_draining_it_serves_but_is_not_ready(models: Path) -> None:
    flags = ("--model_name=module", f"--model_base_path={models / 'module'}", "--shutdown_drain_seconds=600")
    with (
        Server(*flags) as server,
        Raw(server.port) as kept,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(health).status == health_pb2.HealthCheckResponse.SERVING
        kept.send(GOOD)
        response = kept.response()
        assert response
        assert "connection" not in response.headers
        server.process.terminate()
        deadline = time.monotonic() + PATIENCE
        while (status := ask(server.port, request("GET", "/v1/models/module"))).status == 200:
            assert time.monotonic() < deadline
        assert status.status == 503
        assert status.headers["retry-after"] == "1"
        assert "shutting down" in status.error
        assert next(health).status == health_pb2.HealthCheckResponse.NOT_SERVING
        channel.unary_unary("/tensorflow.serving.ModelService/GetModelStatus")(
            MODULE_STATUS, timeout=PATIENCE
        )
        kept.send(GOOD)
        for client in (kept, Raw(server.port)):
            with client:
                if client is not kept:
                    client.send(GOOD)
                response = client.response()
                assert response
                assert (response.status, response.document) == (200, GOOD_ANSWER)
                assert response.headers["connection"] == "close"
                assert client.is_closed()
        assert server.process.poll() is None
        server.process.terminate()
        assert server.process.wait(PATIENCE) == 0, "a second signal ends it at once"


def test_a_second_signal_cuts_off_what_is_in_flight(models: Path) -> None:
    flags = ("--model_name=module", f"--model_base_path={models / 'module'}", "--shutdown_grace_seconds=600")
    with Server(*flags) as server:
        request = InFlight(server, FOREVER)
        server.process.terminate()
        while is_listening(server.port):  # until the first signal has been noticed: both at once are one
            pass
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE) == 1
        assert request.answer().startswith(b"HTTP/1.1 503 ")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system's filter is Linux's")
def test_who_was_let_in_is_served_and_no_one_else_is_let_in() -> None:
    """Or clients that connect between the last accept() and close() would be reset."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as late:
        address = listener.getsockname()
        with socket.create_connection(address) as early:
            drop_late_connections(listener)
            late.setblocking(False)
            assert late.connect_ex(address) == errno.EINPROGRESS
            early.sendall(b"x")
            served, _ = listener.accept()
            with served:
                assert served.recv(1) == b"x"
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()


def test_the_end_under_load_loses_no_request(models: Path) -> None:
    """Clients in a closed loop, half of them on kept connections: each request sent is answered in full."""
    lost: list[str] = []
    refused = threading.Semaphore(0)

    def ask_on(keep: bool) -> None:
        while True:
            try:
                client = Raw(server.port)
            except ConnectionRefusedError:
                refused.release()
                return
            with client:
                while True:
                    client.send(GOOD)
                    response = client.response()
                    if response is None or response.document != GOOD_ANSWER:
                        lost.append(repr(response))
                        return
                    if not keep or response.headers.get("connection") == "close":
                        break
                    time.sleep(0.01)  # so that most are between two requests when the end comes

    with Server("--model_name=module", f"--model_base_path={models / 'module'}") as server:
        threads = [threading.Thread(target=ask_on, args=(number % 2 == 0,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            assert ask(server.port, GOOD).status == 200
        assert server.stop() == 0
        for thread in threads:
            thread.join(PATIENCE)
        assert not lost
        assert all(refused.acquire(blocking=False) for _ in threads)


class Asked(Models):
    """Serves nothing, and counts who was told so."""

    def __init__(self) -> None:
        super().__init__()
        self.times = itertools.count()

    def use(self, *_: object) -> NoReturn:
        next(self.times)
        raise NotFound("nothing is served")


def test_a_grpc_call_that_fails_at_the_end_was_not_executed() -> None:
    models, metrics = Asked(), Metrics()
    reserved = reserve_port("127.0.0.1", 0)
    port = reserved.getsockname()[1]
    limits = Limits(2**20, 2**22, 64, 64, PATIENCE)
    manager: Any = None  # no request is for another model
    server = GrpcServer(models, manager, Inference(metrics), metrics, 2, limits, Memory(2**22))
    server.start(reserved)
    outcomes: list[grpc.StatusCode] = []
    many = threading.Event()

    def ask_until_the_end() -> None:
        message = predict_pb2.PredictRequest()
        message.model_spec.name = "any"
        options = [("grpc.use_local_subchannel_pool", 1)]  # a connection for each client
        with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            predict = PredictionServiceStub(channel).Predict
            while True:
                with pytest.raises(grpc.RpcError) as failed:
                    predict(message, timeout=PATIENCE)
                outcomes.append(failed.value.code())
                if len(outcomes) > 200:
                    many.set()
                if outcomes[-1] is not grpc.StatusCode.NOT_FOUND:
                    return

    clients = [threading.Thread(target=ask_until_the_end, daemon=True) for _ in range(8)]
    for client in clients:
        client.start()
    assert many.wait(PATIENCE)
    server.stop(PATIENCE)
    for client in clients:
        client.join(PATIENCE)
        assert not client.is_alive()
    assert server.stopped() == 0
    assert set(outcomes) <= {
        grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED
    }  # fmt: skip
    assert next(models.times) == outcomes.count(grpc.StatusCode.NOT_FOUND)
