"""TensorFlow Serving's flags: all are taken, and those that open other ways to the server do."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
import trustme
from embedded_server.arguments import IGNORED, build_parser
from embedded_server.errors import StartError
from embedded_server.flags import NEVER, parse_flags
from embedded_server.session_options import SessionOptions
from grpc_health.v1 import health_pb2, health_pb2_grpc
from running import PACKAGE_FOLDER, PATIENCE, Server, run_to_end, start
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from upstream_flags import FLAGS

DOCS = Path(__file__).resolve().parents[2] / "docs" / "embedded.md"
MODEL = ("--model_base_path=/models",)


def ours() -> set[str]:
    """The flags that the program takes."""
    names = {option for action in build_parser()._actions for option in action.option_strings}
    return {name.removeprefix("--") for name in names if name.startswith("--")} - {"help"}


# Parsing


@pytest.mark.parametrize("name", sorted(FLAGS.keys() - {"version"}))
def test_every_flag_of_tensorflow_serving_is_taken(name: str, caplog: pytest.LogCaptureFixture) -> None:
    if not FLAGS[name]:
        assert name in ours()
        return
    others = ["--enable_batching"] if name == "enable_per_model_batching_parameters" else []
    parse_flags([*MODEL, *others, f"--{name}={FLAGS[name]}"])
    warned = f"--{name} has no meaning here: " in caplog.text
    assert warned is (name in IGNORED and FLAGS[name] != str(IGNORED[name].default).lower())


def test_what_is_ignored_is_taken_as_tensorflow_serving_has_it_without_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parse_flags([*MODEL, *(f"--{name}={str(one.default).lower()}" for name, one in IGNORED.items())])
    parse_flags([*MODEL, "--flush_filesystem_caches"])
    assert not caplog.text


def test_the_docs_list_every_flag() -> None:
    table = DOCS.read_text().partition("## Flags")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `--")]
    listed = [name for row in rows for name in re.findall(r"`--(\w+)`", row)]
    assert sorted(listed) == sorted(ours())
    assert not FLAGS.keys() - ours()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--enable_baching",), "unknown argument: --enable_baching; did you mean --enable_batching?"),
        (("--model_path=/x",), "did you mean --model_"),
        (("--zzzzzz",), "unknown argument: --zzzzzz; --help lists those that there are"),
        (("extra",), "unknown argument: extra"),
        (("--port=0", "--rest_api_port=0"), "both 0"),
        (("--use_alts_credentials=true",), "ALTS"),
        (("--grpc_channel_arguments=key",), "'key' is not KEY=VALUE"),
        (("--mixed_precision=float16",), "--mixed_precision: invalid choice: 'float16'"),
        (
            ("--backend=openvino", "--saved_model_tags=serve,gpu"),
            "--saved_model_tags goes with --backend=tensorflow",
        ),
        (
            ("--backend=openvino", "--mixed_precision=bfloat16"),
            "--mixed_precision goes with --backend=tensorflow",
        ),
        (("--enable_per_model_batching_parameters",), "without --enable_batching"),
        (
            (
                "--tensorflow_session_parallelism=1",
                "--tensorflow_intra_op_parallelism=1",
                "--tensorflow_inter_op_parallelism=1",
            ),
            "--tensorflow_session_parallelism says what",
        ),
        (("--tensorflow_session_config_file=/none",), "--tensorflow_session_config_file /none: No such file"),
        (("--ssl_config_file=/none",), "--ssl_config_file /none: No such file"),
    ],
)
def test_wrong_flags(flags: tuple[str, ...], message: str) -> None:
    with pytest.raises(StartError) as told:
        parse_flags([*MODEL, *flags])
    assert message in str(told.value)


def test_what_zero_and_less_mean() -> None:
    flags = parse_flags(
        [
            *MODEL,
            "--rest_api_timeout_in_ms=0",
            "--load_retry_interval_micros=-5",
            "--model_config_file_poll_wait_seconds=-1",
            "--num_request_iterations_for_warmup=0",
        ]
    )
    assert flags.rest_api_timeout == NEVER
    assert flags.load_retry_interval == flags.model_config_file_poll_wait == 0
    assert flags.num_request_iterations_for_warmup == 1


def test_session_parallelism_stands_for_both() -> None:
    both = parse_flags([*MODEL, "--tensorflow_session_parallelism=3"]).session
    assert (both.within, both.between) == (3, 3)
    one = parse_flags(
        [*MODEL, "--tensorflow_session_parallelism=3", "--tensorflow_intra_op_parallelism=2"]
    ).session
    assert (one.within, one.between) == (2, 0)


def test_a_session_config_is_read_and_threads_go_before_it(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(
        "intra_op_parallelism_threads: 7 inter_op_parallelism_threads: 5 allow_soft_placement: true"
    )
    config = SessionOptions(within=2, bfloat16=True, config_file=str(file)).config()
    assert config.intra_op_parallelism_threads == 2
    assert config.inter_op_parallelism_threads == 5
    assert config.allow_soft_placement
    assert config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16
    file.write_text("nonsense")
    with pytest.raises(StartError, match="is no ConfigProto"):
        parse_flags([*MODEL, f"--tensorflow_session_config_file={file}"])


def test_versions_are_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "embedded_server", "--version"],
        env={"PYTHONPATH": str(PACKAGE_FOLDER)},
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert f"TensorFlow Library: {tf.__version__}" in done.stdout
    assert "TensorFlow ModelServer: " in done.stdout


# Other ways to the server


def predict(channel: grpc.Channel, name: str = "keras") -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.inputs["pixels"].CopyFrom(tf.make_tensor_proto(np.zeros((1, 8, 8, 3), np.float32)))
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    return stub.Predict(request, timeout=PATIENCE)


def code_of(channel: grpc.Channel) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as refused:
        predict(channel)
    code: grpc.StatusCode = refused.value.code()
    return code


@pytest.fixture
def keras(models: Path) -> tuple[str, ...]:
    return ("--model_name=keras", f"--model_base_path={models / 'keras'}")


def test_grpc_alone_at_a_unix_socket(keras: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "grpc.sock"
    process = start("--rest_api_port=0", f"--grpc_socket_path={path}", *keras)
    try:
        assert process.stderr is not None
        log: list[str] = []
        for line in process.stderr:
            log.append(line)
            if f"Running gRPC ModelServer at UNIX socket {path} ..." in line:
                break
        else:
            raise AssertionError("".join(log))
        with grpc.insecure_channel(f"unix:{path}") as channel:
            assert "output_0" in predict(channel).outputs
            code, told = run_to_end(f"--grpc_socket_path={path}", "--rest_api_port=0", *keras)
            assert code == 1
            assert f"--grpc_socket_path {path}: another server listens there" in told
            assert "output_0" in predict(channel).outputs
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert not path.exists()
    finally:
        process.kill()
        process.communicate()


def test_a_socket_that_a_dead_server_left_is_replaced(keras: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "grpc.sock"
    for _ in range(2):
        with (
            Server(f"--grpc_socket_path={path}", *keras) as server,
            grpc.insecure_channel(f"unix:{path}") as channel,
        ):
            assert "output_0" in predict(channel).outputs
            server.process.kill()
            server.process.wait(PATIENCE)
        assert path.is_socket()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("file", "is there already, and is no socket"),
        ("none/socket", "no such folder"),
        ("x" * 200, "too long"),
    ],
)
def test_a_path_that_can_be_no_socket(
    keras: tuple[str, ...], tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "file").write_text("")
    code, told = run_to_end(f"--grpc_socket_path={tmp_path / name}", "--rest_api_port=0", *keras)
    assert code == 1
    assert message in told


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert("localhost")


def ssl_config(folder: Path, certificate: trustme.LeafCert, **more: str) -> Path:
    key, chain = certificate.private_key_pem.bytes(), b"".join(c.bytes() for c in certificate.cert_chain_pems)
    fields = {"server_key": json.dumps(key.decode()), "server_cert": json.dumps(chain.decode()), **more}
    file = folder / "ssl.config"
    file.write_text("\n".join(f"{name}: {value}" for name, value in fields.items() if value))
    return file


def pem(authority: trustme.CA) -> bytes:
    return bytes(authority.cert_pem.bytes())


def secured(server: Server, credentials: grpc.ChannelCredentials) -> grpc.Channel:
    options = [("grpc.ssl_target_name_override", "localhost")]
    return grpc.secure_channel(f"127.0.0.1:{server.grpc_port}", credentials, options)


def test_grpc_with_tls(
    keras: tuple[str, ...], tmp_path: Path, authority: trustme.CA, certificate: trustme.LeafCert
) -> None:
    file = ssl_config(tmp_path, certificate)
    with Server(f"--ssl_config_file={file}", *keras) as server:
        with secured(server, grpc.ssl_channel_credentials(pem(authority))) as channel:
            assert "output_0" in predict(channel).outputs
        with secured(server, grpc.ssl_channel_credentials(pem(trustme.CA()))) as channel:
            assert code_of(channel) is grpc.StatusCode.UNAVAILABLE
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            assert code_of(channel) is grpc.StatusCode.UNAVAILABLE


def test_clients_are_verified(
    keras: tuple[str, ...], tmp_path: Path, authority: trustme.CA, certificate: trustme.LeafCert
) -> None:
    more = {"custom_ca": json.dumps(pem(authority).decode()), "client_verify": "true"}
    file = ssl_config(tmp_path, certificate, **more)
    own, other = authority.issue_cert("client"), trustme.CA().issue_cert("client")
    with Server(f"--ssl_config_file={file}", *keras) as server:
        for client, is_known in ((own, True), (other, False), (None, False)):
            pair = (client.private_key_pem.bytes(), client.cert_chain_pems[0].bytes()) if client else ()
            with secured(server, grpc.ssl_channel_credentials(pem(authority), *pair)) as channel:
                if is_known:
                    assert "output_0" in predict(channel).outputs
                else:
                    assert code_of(channel) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"server_key": ""}, "needs a server_key and a server_cert"),
        ({"client_verify": "true"}, "no custom_ca to verify clients by"),
        ({"server_key": '"no key"'}, "key and certificates do not work"),
        ({"custom_ca": '"no certificate"'}, "key and certificates do not work"),
        ({"unknown": "1"}, "is no SSLConfig"),
    ],
)
def test_a_bad_ssl_config(
    tmp_path: Path, certificate: trustme.LeafCert, more: dict[str, str], message: str
) -> None:
    with pytest.raises(StartError, match=message):
        parse_flags([*MODEL, f"--ssl_config_file={ssl_config(tmp_path, certificate, **more)}"])


def test_a_key_of_another_certificate(
    tmp_path: Path, authority: trustme.CA, certificate: trustme.LeafCert
) -> None:
    other = authority.issue_cert("other").private_key_pem.bytes().decode()
    file = ssl_config(tmp_path, certificate, server_key=json.dumps(other))
    with pytest.raises(StartError, match="key and certificates do not work: KEY_VALUES_MISMATCH"):
        parse_flags([*MODEL, f"--ssl_config_file={file}"])


def asked(server: Server, method: str, path: str, body: bytes | None = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, {"Origin": "http://example.org"})
        response = connection.getresponse()
        response.read()
        return response
    finally:
        connection.close()


@pytest.fixture(scope="module")
def open_server(models: Path) -> Iterator[Server]:
    with Server(
        "--model_name=keras",
        f"--model_base_path={models / 'keras'}",
        "--rest_api_enable_cors_support",
        "--enable_grpc_healthcheck_service=false",
        "--enable_serialization_as_tensor_content",
        "--grpc_channel_arguments=grpc.max_connection_idle_ms=600000",
    ) as server:
        yield server


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("OPTIONS", "/v1/models/keras:predict", 200),
        ("GET", "/v1/models/keras", 200),
        ("POST", "/v1/models/keras:predict", 400),
        ("GET", "/v1/models/none", 404),
    ],
)
def test_pages_of_any_origin_may_ask(open_server: Server, method: str, path: str, status: int) -> None:
    response = asked(open_server, method, path, b"" if method == "POST" else None)
    assert response.status == status
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.headers["Access-Control-Allow-Methods"] == "POST, GET"
    assert response.headers["Access-Control-Allow-Headers"] == "Content-Type"


def test_pages_may_not_ask_unless_the_flag_says_so(module_server: Server) -> None:
    response = asked(module_server, "OPTIONS", "/v1/models/module:predict")
    assert response.status == 400
    assert response.headers["Access-Control-Allow-Origin"] is None


def test_the_health_service_can_be_left_out(open_server: Server, module_server: Server) -> None:
    for server, is_there in ((open_server, False), (module_server, True)):
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            if is_there:
                assert check(health_pb2.HealthCheckRequest(), timeout=PATIENCE).status == 1
                continue
            with pytest.raises(grpc.RpcError) as refused:
                check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_numbers_in_tensor_content(open_server: Server, models: Path) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{open_server.grpc_port}") as channel:
        proto = predict(channel).outputs["output_0"]
    assert proto.tensor_content
    assert not proto.float_val
    with (
        Server("--model_name=keras", f"--model_base_path={models / 'keras'}") as other,
        grpc.insecure_channel(f"127.0.0.1:{other.grpc_port}") as channel,
    ):
        plain = predict(channel).outputs["output_0"]
    np.testing.assert_array_equal(tf.make_ndarray(proto), tf.make_ndarray(plain))


def test_a_reload_tells_how_much_metrics_have_grown(open_server: Server, models: Path) -> None:
    request = model_management_pb2.ReloadConfigRequest(
        metric_names=["/tensorflow/cc/saved_model/load_attempt_count", "/none"]
    )
    for name in ("keras", "again"):
        base_path = str(models / "keras")
        request.config.model_config_list.config.add(
            name=name, base_path=base_path, model_platform="tensorflow"
        )
    with grpc.insecure_channel(f"127.0.0.1:{open_server.grpc_port}") as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        response = stub.HandleReloadConfigRequest(request, timeout=PATIENCE)
    grown = [(one.name, one.int64_value_increase) for one in response.metric]
    assert grown == [("/tensorflow/cc/saved_model/load_attempt_count", 1), ("/none", 0)]


def test_a_graph_with_other_tags(tmp_path: Path) -> None:
    builder = tf.compat.v1.saved_model.Builder(str(tmp_path / "model" / "1"))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None], "x")
        signature = tf.compat.v1.saved_model.predict_signature_def({"x": x}, {"y": x * 2.0})
        builder.add_meta_graph_and_variables(session, ["serve", "gpu"], {"serving_default": signature})
        builder.save()
    base = f"--model_base_path={tmp_path / 'model'}"
    with Server(base, "--model_name=m", "--saved_model_tags=serve,gpu") as server:
        assert server.call("POST", "/v1/models/m:predict", {"instances": [1.5]}) == (
            200,
            {"predictions": [3.0]},
        )
    code, told = run_to_end(
        base, "--rest_api_port=0", f"--grpc_socket_path={tmp_path / 's'}", "--max_num_load_retries=0"
    )
    assert code == 1
    assert "cannot load the SavedModel" in told


def test_models_are_batched_as_their_own_files_say(models: Path, tmp_path: Path) -> None:
    version = tmp_path / "keras" / "1"
    version.parent.mkdir()
    version.mkdir()
    for path in (models / "keras" / "1").iterdir():
        (version / path.name).symlink_to(path)
    (version / "batching_params.pbtxt").write_text("max_batch_size { value: 2 }")
    flags = ("--enable_batching", "--enable_per_model_batching_parameters", "--model_name=keras")
    for base, is_batched in ((version.parent, True), (models / "keras", False)):
        with Server(f"--model_base_path={base}", *flags) as server:
            body = {"instances": np.zeros((3, 8, 8, 3)).tolist()}
            status, answer = server.call("POST", "/v1/models/keras:predict", body)
            assert status == (400 if is_batched else 200), answer
    (version / "batching_params.pbtxt").write_text("nonsense")
    code, told = run_to_end(
        f"--model_base_path={version.parent}",
        "--rest_api_port=0",
        f"--grpc_socket_path={tmp_path / 's'}",
        *flags,
    )
    assert code == 1
    assert "is no BatchingParameters message" in told
