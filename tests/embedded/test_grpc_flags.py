"""What flags change of the gRPC interface: Unix sockets, TLS, health, and the server's own settings."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from certificates import Identity, make_identity, write_ssl_config
from conditions import wait_for
from embedded_server.common.errors import StartError
from embedded_server.common.metrics import Metrics
from embedded_server.config.flags import parse_flags
from embedded_server.config.tls import read_tls
from embedded_server.execution.servable import Models
from embedded_server.execution.tensors import from_proto, to_proto
from embedded_server.serving import reserve_port, serve
from grpc_health.v1 import health_pb2, health_pb2_grpc
from running import PATIENCE, Server, run_to_end
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

NAME = "server.test"  # of the server, in its certificate


def predict(channel: grpc.Channel) -> predict_pb2.PredictResponse:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "module"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([[1, 2]], np.float32)))
    return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=PATIENCE)


def is_answered(channel: grpc.Channel) -> bool:
    return tf.make_ndarray(predict(channel).outputs["y"]).tolist() == [[4.0, 1.0]]


def code_of_refusal(channel: grpc.Channel) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as error:
        predict(channel)
    return error.value.code()


def serving(models: Path) -> tuple[str, str]:
    return ("--model_name=module", f"--model_base_path={models / 'module'}")


# -------------------------------------------------------------------------------------- Unix sockets


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "grpc.socket"


def test_a_unix_socket_beside_the_port_is_gone_at_the_end(models: Path, path: Path) -> None:
    with Server(*serving(models), f"--grpc_socket_path={path}") as server:
        for address in (f"unix:{path}", f"127.0.0.1:{server.grpc_port}"):
            with grpc.insecure_channel(address) as channel:
                assert is_answered(channel)
        code, log = run_to_end(*serving(models), "--rest_api_port=0", f"--grpc_socket_path={path}")
        assert code == 1
        assert log.endswith(f"embedded_server: cannot listen on {path}: another server is running there\n")
        with grpc.insecure_channel(f"unix:{path}") as channel:
            assert is_answered(channel), "the server that was refused left it alone"
        assert server.stop() == 0
    assert not path.exists()


def test_the_socket_alone_and_after_a_server_that_was_killed(models: Path, path: Path) -> None:
    flags = (*serving(models), f"--grpc_socket_path={path}", "--port=0", "--rest_api_port=0")
    for number in (signal.SIGKILL, signal.SIGTERM):
        with Server(*flags) as server:
            with grpc.insecure_channel(f"unix:{path}") as channel:
                assert is_answered(channel)
            assert "Exporting no HTTP/REST API" in "".join(server.log)
            server.process.send_signal(number)
            server.process.wait(PATIENCE)
            assert path.exists() == (number == signal.SIGKILL)


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch], ids=["folder", "file"])
def test_what_is_no_socket_is_left_alone(models: Path, path: Path, make: Callable[[Path], None]) -> None:
    make(path)
    code, log = run_to_end(*serving(models), "--rest_api_port=0", f"--grpc_socket_path={path}")
    assert code == 1
    assert log.endswith(f"embedded_server: --grpc_socket_path {path}: a file that is no socket is there\n")
    assert path.exists()


def test_paths_that_cannot_be(models: Path, tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / ("a" * 108), "a socket's path may have 107 bytes"),
        (tmp_path / "none" / "s", f"there is no folder {tmp_path / 'none'}"),
    ):
        code, log = run_to_end(*serving(models), "--rest_api_port=0", f"--grpc_socket_path={path}")
        assert code == 1
        assert log.endswith(f"embedded_server: --grpc_socket_path {path}: {message}\n")


def test_a_server_listens_somewhere() -> None:
    with pytest.raises(StartError, match="are both 0, and there is no --grpc_socket_path"):
        parse_flags(["--model_base_path=/m", "--port=0", "--rest_api_port=0"])
    assert parse_flags(["--model_base_path=/m", "--port=0", "--rest_api_port=0", "--grpc_socket_path=s"])


def test_a_start_that_fails_late_leaves_no_socket(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers
    reserved = reserve_port("127.0.0.1", 0)
    manager: Any = None  # no one asks for other models
    flags = parse_flags(["--model_base_path=/m", "--port=0", f"--grpc_socket_path={path}"])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(reserved.getsockname())
        other.listen()
        with pytest.raises(StartError, match="Address already in use"):
            serve(Models(), manager, Metrics(), flags, reserved, None)
    reserved.close()
    wait_for(lambda: not path.exists())


# -------------------------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def authority() -> Identity:
    return make_identity("authority.test")


@pytest.fixture(scope="module")
def identity(authority: Identity) -> Identity:
    return make_identity(NAME, authority)


def secure_channel(address: str, authority: Identity, client: Identity | None = None) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(
        authority.certificate.encode(),
        client.key.encode() if client else None,
        client.certificate.encode() if client else None,
    )
    options = [("grpc.ssl_target_name_override", NAME)]
    return grpc.secure_channel(address, credentials, options)


@pytest.fixture(scope="module")
def verifying_server(
    models: Path, authority: Identity, identity: Identity, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Path]]:
    """One that asks clients for a certificate, at a port and at a Unix socket."""
    folder = tmp_path_factory.mktemp("tls")
    config = write_ssl_config(
        folder / "ssl.config",
        server_key=identity.key,
        server_cert=identity.certificate,
        custom_ca=authority.certificate,
        client_verify=True,
    )
    path = folder / "s"
    with Server(*serving(models), f"--ssl_config_file={config}", f"--grpc_socket_path={path}") as server:
        yield server, path


def test_clients_that_prove_themselves_are_answered(
    verifying_server: tuple[Server, Path], authority: Identity
) -> None:
    server, path = verifying_server
    client = make_identity("client.test", authority)
    for address in (f"127.0.0.1:{server.grpc_port}", f"unix:{path}"):
        with secure_channel(address, authority, client) as channel:
            assert is_answered(channel)
        for unknown in (None, make_identity("client.test", make_identity("authority.test"))):
            with secure_channel(address, authority, unknown) as channel:
                assert code_of_refusal(channel) == grpc.StatusCode.UNAVAILABLE
        with grpc.insecure_channel(address) as channel:
            assert code_of_refusal(channel) == grpc.StatusCode.UNAVAILABLE


def test_a_server_that_proves_itself_only(
    models: Path, authority: Identity, identity: Identity, tmp_path: Path
) -> None:
    config = write_ssl_config(
        tmp_path / "ssl.config", server_key=identity.key, server_cert=identity.certificate
    )
    with Server(*serving(models), f"--ssl_config_file={config}") as server:
        address = f"127.0.0.1:{server.grpc_port}"
        with secure_channel(address, authority) as channel:
            assert is_answered(channel)
        with secure_channel(address, make_identity("authority.test")) as channel:
            assert code_of_refusal(channel) == grpc.StatusCode.UNAVAILABLE
        assert server.call("GET", "/v1/models/module")[0] == 200, "REST stays in the clear"


def test_an_ssl_config_that_cannot_be(authority: Identity, identity: Identity, tmp_path: Path) -> None:
    good = {"server_key": identity.key, "server_cert": identity.certificate}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"server_cert": identity.certificate}, "server_key is missing"),
        ({"server_key": identity.key}, "server_cert is missing"),
        (good | {"client_verify": True}, "client_verify needs custom_ca, to check clients' certificates"),
        (good | {"server_cert": "server.pem"}, "server_cert is no certificate in PEM form"),
        (good | {"custom_ca": identity.key}, "custom_ca is no certificate in PEM form"),
        (good | {"server_key": "key"}, "server_key must be in PEM form, without a password"),
        (
            good | {"server_key": identity.locked_key},
            "server_key must be in PEM form, without a password",
        ),
        (good | {"server_key": authority.key}, "server_key does not belong to server_cert"),
    ]
    for fields, message in wrong:
        file = write_ssl_config(tmp_path / "ssl.config", **fields)
        with pytest.raises(StartError) as error:
            read_tls(file)
        assert str(error.value) == f"--ssl_config_file {file}: {message}"


def test_an_ssl_config_file_that_is_none(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "ssl.config"
    for text, message in ((None, ": No such file or directory\n"), ("x: 1", " is no SSLConfig: 1:1 : ")):
        if text is not None:
            file.write_text(text)
        code, log = run_to_end(*serving(models), f"--ssl_config_file={file}")
        assert code == 1
        assert f"embedded_server: --ssl_config_file {file}{message}" in log


def test_a_key_is_not_shown(identity: Identity, tmp_path: Path) -> None:
    file = write_ssl_config(
        tmp_path / "ssl.config", server_key=identity.key, server_cert=identity.certificate
    )
    assert "PRIVATE" not in repr(read_tls(file))


def test_alts_is_refused() -> None:
    with pytest.raises(StartError, match="--use_alts_credentials is not supported"):
        parse_flags(["--model_base_path=/m", "--use_alts_credentials"])
    assert parse_flags(["--model_base_path=/m", "--use_alts_credentials=false"])


# -------------------------------------------------------------------------------------- the rest


def test_without_health_with_settings_of_grpc_and_raw_tensors(models: Path) -> None:
    settings = "grpc.max_receive_message_length=1000,grpc.primary_user_agent=x"
    with (
        Server(
            *serving(models),
            "--enable_grpc_healthcheck_service=false",
            "--enable_serialization_as_tensor_content",
            f"--grpc_channel_arguments={settings}",
        ) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        assert is_answered(channel)
        assert not predict(channel).outputs["y"].float_val
        with pytest.raises(grpc.RpcError) as error:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
        large = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        with pytest.raises(grpc.RpcError) as error:
            large(b" " * 1001, timeout=PATIENCE)
        assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_settings_of_grpc() -> None:
    read = parse_flags(["--model_base_path=/m", "--grpc_channel_arguments=a.b=1,c=x=y,d=,e=-2,f=4294967296"])
    assert read.grpc.channel_arguments == {"a.b": 1, "c": "x=y", "d": "", "e": -2, "f": "4294967296"}
    for wrong in ("a", "=1", "a=1,b"):
        with pytest.raises(StartError, match="is not KEY=VALUE"):
            parse_flags(["--model_base_path=/m", f"--grpc_channel_arguments={wrong}"])


@pytest.mark.parametrize(
    "values",
    [
        np.array([[1.5, -2]], np.float32),
        np.array([True, False]),
        np.array([1, 2], np.uint16).reshape(2, 1),
        np.array([1 + 2j], np.complex64),
        np.array([0.5], np.float16),
        np.array([b"", b"\xff" * 200], object),
        np.zeros((0, 3), np.int64),
        np.array([[1, 2], [3, 4]], np.int32).T,
    ],
)
def test_tensors_as_raw_bytes(values: Any) -> None:
    proto = tf.make_tensor_proto(0)
    proto.Clear()
    to_proto(values, proto, as_content=True)
    if values.dtype != object:  # make_ndarray reads no strings from tensor_content
        np.testing.assert_array_equal(tf.make_ndarray(proto), values)
    np.testing.assert_array_equal(from_proto("x", proto), values)
