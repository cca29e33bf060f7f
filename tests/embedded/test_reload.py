"""Versions and configurations that change under load: REST and gRPC clients of the real program."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import saved_models
from conditions import wait_for
from running import PATIENCE, Server
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

WEIGHT = 64 * 2**20  # bytes of the variable that is never read
LONG = 10**12  # turns of the slow signature's loop


@pytest.fixture(scope="module")
def adders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 and 2 of a heavy model that adds its version."""
    folder = tmp_path_factory.mktemp("adders")
    for number in (1, 2):
        saved_models.write_adder(folder / str(number), number, WEIGHT)
    return folder


class Fleet:
    """Two models on disk, and the file that configures them."""

    def __init__(self, folder: Path, adders: Path) -> None:
        self.folder = folder
        self.config = folder / "models.config"
        self._adders = adders
        for name in ("changing", "steady"):
            (folder / name).mkdir()
            self.add(name, 1)
        self.configure({"stable": 1})

    def add(self, name: str, number: int) -> None:
        shutil.copytree(self._adders / str(number), self.folder / name / f".{number}")
        (self.folder / name / f".{number}").rename(self.folder / name / str(number))

    def configure(self, labels: dict[str, int], policy: str = "latest {}") -> None:
        """Labels and policy of the model that changes."""
        written = [f'version_labels {{ key: "{key}" value: {value} }}' for key, value in labels.items()]
        changes = f"model_version_policy {{ {policy} }} {' '.join(written)}"
        models = "".join(
            f'config {{ name: "{name}" base_path: "{self.folder / name}" model_platform: "tensorflow" '
            f"{changes if name == 'changing' else ''} }}"
            for name in ("changing", "steady")
        )
        scratch = self.config.with_suffix(".new")
        scratch.write_text(f"model_config_list {{ {models} }}")
        scratch.rename(self.config)


@pytest.fixture
def fleet(tmp_path: Path, adders: Path) -> Fleet:
    return Fleet(tmp_path, adders)


@pytest.fixture
def server(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    # oneDNN's allocator keeps what was freed for the next model, so that it could not be measured.
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    flags = ("--allow_version_labels_for_unavailable_models", "--model_config_file_poll_wait_seconds=1")
    with Server(f"--model_config_file={fleet.config}", *flags, "--rest_api_timeout_in_ms=8000") as server:
        yield server


def states(server: Server, name: str) -> dict[str, str]:
    status, answer = server.call("GET", f"/v1/models/{name}")
    assert status == 200
    return {version["version"]: version["state"] for version in answer["model_version_status"]}


def memory(server: Server) -> int:
    """Bytes that the program has in memory."""
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class RestClient(threading.Thread):
    """Asks the changing model over one connection, again and again."""

    def __init__(self, server: Server, over: threading.Event) -> None:
        super().__init__()
        self.answers: list[float] = []
        self.failures: list[Any] = []
        self._server, self._over = server, over

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=PATIENCE)
        try:
            while not self._over.is_set() and not self.failures:
                connection.request("POST", "/v1/models/changing:predict", b'{"instances": [[0.0]]}')
                response = connection.getresponse()
                answer = json.loads(response.read())
                if response.status == 200:
                    self.answers.append(answer["predictions"][0][0])
                else:
                    self.failures.append((response.status, answer))
        except Exception as error:
            self.failures.append(error)
        finally:
            connection.close()


class GrpcClient(RestClient):
    """The same over gRPC."""

    def run(self) -> None:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "changing"
        request.inputs["x"].dtype = 1
        for size in (1, 1):
            request.inputs["x"].tensor_shape.dim.add(size=size)
        with grpc.insecure_channel(f"127.0.0.1:{self._server.grpc_port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while not self._over.is_set() and not self.failures:
                try:
                    answer = stub.Predict(request, timeout=PATIENCE)
                    self.answers.append(answer.outputs["y"].float_val[0])
                except grpc.RpcError as error:
                    self.failures.append(error)


def test_a_new_version_takes_over_under_load_and_the_old_one_is_freed(fleet: Fleet, server: Server) -> None:
    assert states(server, "changing") == states(server, "steady") == {"1": "AVAILABLE"}
    over = threading.Event()
    clients = [RestClient(server, over), GrpcClient(server, over)]
    for client in clients:
        client.start()
    wait_for(lambda: all(len(client.answers) > 100 for client in clients))
    held: list[Any] = []
    body = {"signature_name": "slow", "instances": [LONG]}
    holder = threading.Thread(
        target=lambda: held.append(server.call("POST", "/v1/models/changing:predict", body)),
    )
    holder.start()
    fleet.add("changing", 2)
    wait_for(lambda: states(server, "changing")["1"] == "UNLOADING")
    both = memory(server)
    wait_for(lambda: states(server, "changing") == {"2": "AVAILABLE", "1": "END"})
    holder.join()
    assert held[0][0] == 504, "the request was held to the end on the version that it began on"
    over.set()
    for client in clients:
        client.join()
        assert not client.failures
        assert client.answers == sorted(client.answers)
        assert set(client.answers) == {1.0, 2.0}
    assert both - memory(server) > 0.8 * WEIGHT
    assert states(server, "steady") == {"1": "AVAILABLE"}
    assert server.stop() == 0


def test_labels_and_policies_change_with_the_file(fleet: Fleet, server: Server) -> None:
    def predict(which: str) -> tuple[int, Any]:
        return server.call("POST", f"/v1/models/changing{which}:predict", {"instances": [[0.0]]})

    assert predict("/labels/stable") == (200, {"predictions": [[1.0]]})
    assert predict("/labels/canary") == (400, {"error": "Unrecognized servable version label: canary"})
    fleet.add("changing", 2)
    fleet.configure({"stable": 1}, "all {}")
    wait_for(lambda: states(server, "changing") == {"2": "AVAILABLE", "1": "AVAILABLE"})
    fleet.configure({"stable": 2, "previous": 1}, "all {}")
    wait_for(lambda: predict("/labels/stable") == (200, {"predictions": [[2.0]]}))
    assert predict("/labels/previous") == predict("/versions/1") == (200, {"predictions": [[1.0]]})
    status, metadata = server.call("GET", "/v1/models/changing/labels/previous/metadata")
    assert (status, metadata["model_spec"]["version"]) == (200, "1")
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.version_label = "changing", "previous"
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=0)
    request.inputs["x"].tensor_shape.dim.add(size=1)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert stub.Predict(request, timeout=PATIENCE).model_spec.version.value == 1
