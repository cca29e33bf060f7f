"""The gRPC contract, by the published stubs against the real program."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import saved_models
import tensorflow as tf
from conditions import turns_of_a_second, wait_for
from embedded_server.common.errors import StartError
from embedded_server.common.limits import Limits, Memory
from embedded_server.common.metrics import Metrics
from embedded_server.config.flags import parse_flags
from embedded_server.execution.inference import Inference
from embedded_server.execution.servable import Models
from embedded_server.grpc.services import GrpcServer
from embedded_server.lifecycle.manager import Manager
from embedded_server.serving import reserve_port
from grpc_health.v1 import health_pb2, health_pb2_grpc
from running import PATIENCE, Server, free_port, run_to_end
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)
from test_metrics import page, values

LIMITS = Limits(request_bytes=1, total_request_bytes=1, queued_requests=1, connections=1, client_timeout=1)
X = np.array([[1, 2], [3, 4]], np.float32)


@pytest.fixture(scope="module")
def channel(module_server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{module_server.grpc_port}") as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> Any:
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def predict_request(inputs: dict[str, Any], signature: str = "", name: str = "module", **more: Any) -> Any:
    request = predict_pb2.PredictRequest(**more)
    request.model_spec.name, request.model_spec.signature_name = name, signature
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return request


def refused(call: Any, request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=PATIENCE)
    return caught.value.code(), caught.value.details()


def test_predict_says_who_answered(stub: Any) -> None:
    response = stub.Predict(predict_request({"x": X}))
    assert response.model_spec.name == "module"
    assert response.model_spec.version.value == 3
    assert response.model_spec.signature_name == "serving_default"
    expected = X @ np.array([[2, 0], [1, 0.5]], np.float32)
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs["y"]), expected)
    assert list(response.outputs["y"].float_val) == expected.reshape(-1).tolist(), (
        "as TensorFlow Serving writes"
    )


def test_a_version_by_its_number(stub: Any) -> None:
    request = predict_request({"x": X})
    request.model_spec.version.value = 3
    assert stub.Predict(request).model_spec.version.value == 3
    request.model_spec.version.value = 7
    code, message = refused(stub.Predict, request)
    assert (code, message) == (
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Specific(module, 7)",
    )


def test_only_the_outputs_asked_for(stub: Any) -> None:
    inputs = {"a": np.ones((2, 3), np.float32), "b": np.array([1, 2])}
    assert set(stub.Predict(predict_request(inputs, "several")).outputs) == {"scaled", "total"}
    response = stub.Predict(predict_request(inputs, "several", output_filter=["total"]))
    assert set(response.outputs) == {"total"}


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (predict_request({}, name=""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (predict_request({"x": X}, name="no"), "NOT_FOUND", "Servable not found for request: Latest(no)"),
        (predict_request({"x": X}, "no"), "FAILED_PRECONDITION", 'Serving signature key "no" not found.'),
        (
            predict_request({}),
            "INVALID_ARGUMENT",
            "input size does not match signature: 0!=1 len({}) != len({x}). "
            "Sent extra: {}. Missing but required: {x}.",
        ),
        (
            predict_request({"a": X, "b": [1], "c": 1}, "several"),
            "INVALID_ARGUMENT",
            "input size does not match signature: 3!=2 len({a,b,c}) != len({a,b}). "
            "Sent extra: {c}. Missing but required: {}.",
        ),
        (predict_request({"z": X}), "INVALID_ARGUMENT", "Signature input alias: x(feed name: "),
        (
            predict_request({"x": X}, output_filter=["y", "z"]),
            "INVALID_ARGUMENT",
            "output tensor alias not found in signature: z Outputs expected to be in the set {y}.",
        ),
        (
            predict_request({"x": X}, output_filter=["y", "y"]),
            "INVALID_ARGUMENT",
            "duplicate output tensor alias: y",
        ),
        (
            predict_request({"x": X.astype(np.int64)}),
            "INVALID_ARGUMENT",
            "Expects input x to be float but int64 is provided",
        ),
        (predict_request({"x": X[:, :1]}), "INVALID_ARGUMENT", "Matrix size-incompatible"),
    ],
)
def test_predict_requests_that_are_refused(stub: Any, request_: Any, code: str, message: str) -> None:
    actual, details = refused(stub.Predict, request_)
    assert (actual.name, details[: len(message)]) == (code, message)


def test_tensors_that_are_none(stub: Any) -> None:
    request = predict_request({"x": X})
    request.inputs["x"].tensor_content = b"123"
    code, message = refused(stub.Predict, request)
    assert (code.name, message) == ("INVALID_ARGUMENT", "tensor parsing error: x")


def test_a_version_label_that_is_not_known(stub: Any) -> None:
    request = predict_request({"x": X})
    request.model_spec.version_label = "canary"
    code, message = refused(stub.Predict, request)
    assert code.name == "INVALID_ARGUMENT"
    assert "Unrecognized servable version label: canary" in message


def test_messages_are_cut_as_tensorflow_serving_cuts_them(stub: Any) -> None:
    code, message = refused(stub.Predict, predict_request({"x": X}, "n" * 5000))
    assert code.name == "FAILED_PRECONDITION"
    assert len(message) == 1024 + len("...TRUNCATED")


def test_photos(photo_server: Server) -> None:
    photos = [saved_models.photo(seed) for seed in range(2)]
    request = predict_request({saved_models.PHOTO_INPUT: photos}, name="photos")
    with grpc.insecure_channel(f"127.0.0.1:{photo_server.grpc_port}") as channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request)
    assert list(response.outputs["given_bytes"].string_val) == photos


def test_messages_larger_than_grpc_itself_lets_pass(module_server: Server) -> None:
    large = (
        np.random.default_rng(0).normal(size=(1_500_000, 2)).astype(np.float32)
    )  # 12 MB; gRPC's limit is 4
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{module_server.grpc_port}", options) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        response = stub.Predict(predict_request({"x": large}, "echo_float32"))
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs["y"]), large)


def test_metadata(stub: Any, module_server: Server) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "module"
    response = stub.GetModelMetadata(request)
    assert (response.model_spec.name, response.model_spec.version.value) == ("module", 3)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    by_rest = module_server.call("GET", "/v1/models/module/metadata")[1]
    assert set(signatures.signature_def) == set(by_rest["metadata"]["signature_def"]["signature_def"])
    several = signatures.signature_def["several"]
    assert several.method_name == "tensorflow/serving/predict"
    assert [dim.size for dim in several.inputs["a"].tensor_shape.dim] == [-1, 3]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([], "GetModelMetadataRequest must specify at least one metadata_field"),
        (["signature_def", "other"], "Metadata field other is not supported"),
    ],
)
def test_metadata_that_is_refused(stub: Any, fields: list[str], message: str) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    assert refused(stub.GetModelMetadata, request) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "Missing ModelSpec",
    )
    request.model_spec.name = "module"
    assert refused(stub.GetModelMetadata, request) == (grpc.StatusCode.INVALID_ARGUMENT, message)


def test_status(channel: grpc.Channel) -> None:
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    request = get_model_status_pb2.GetModelStatusRequest()
    assert refused(stub.GetModelStatus, request)[1] == "Missing ModelSpec"
    request.model_spec.name = "module"
    (status,) = stub.GetModelStatus(request).model_version_status
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert (status.version, status.state, status.status.error_code) == (3, available, 0)
    request.model_spec.version.value = 4
    assert refused(stub.GetModelStatus, request) == (
        grpc.StatusCode.NOT_FOUND,
        "Could not find version 4 of model module",
    )


def test_what_cannot_classify_or_regress(stub: Any) -> None:
    classification = classification_pb2.ClassificationRequest()
    classification.model_spec.name = "module"
    classification.input.example_list.examples.add()
    code, message = refused(stub.Classify, classification)
    assert (code.name, message[:51]) == (
        "INVALID_ARGUMENT",
        "No classification inputs found in SignatureDef: inp",
    )
    classification.model_spec.signature_name = "several"
    assert refused(stub.Classify, classification)[1] == "Expected one input Tensor."
    regression = regression_pb2.RegressionRequest()
    regression.model_spec.name, regression.model_spec.signature_name = "module", "no"
    assert refused(stub.Regress, regression)[1] == "No signature was found with the name: no"
    assert refused(stub.MultiInference, inference_pb2.MultiInferenceRequest())[0].name == "INVALID_ARGUMENT"


def test_answers_are_not_mixed_up(stub: Any) -> None:
    def work(number: int) -> bool:
        response = stub.Predict(predict_request({"x": np.full((1, 2), number, np.float32)}))
        return bool(list(response.outputs["y"].float_val) == [number * 3.0, number * 0.5])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(300)))


def test_requests_are_counted(stub: Any, module_server: Server) -> None:
    name = ':tensorflow:serving:request_latency_count{model_name="module",API="Predict",entrypoint="GRPC"}'
    before = values(page(module_server)[2]).get(name, 0)
    stub.Predict(predict_request({"x": X}))
    assert values(page(module_server)[2])[name] == before + 1


def test_health_and_the_way_out(models: Path) -> None:
    flags = ("--model_name=module", f"--model_base_path={models / 'module'}", "--shutdown_grace_seconds=50")
    with Server(*flags) as server, grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        states = health.Watch(health_pb2.HealthCheckRequest())
        assert next(states).status == health_pb2.HealthCheckResponse.SERVING
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        turns = turns_of_a_second(server, "/v1/models/module:predict")  # the signal needs less to arrive
        spinning = stub.Predict.future(predict_request({"n": np.array([turns])}, "spin"), timeout=PATIENCE)
        # What was sent first is begun first.
        stub.Predict(predict_request({"x": X}), timeout=PATIENCE)
        server.process.terminate()
        assert next(states).status == health_pb2.HealthCheckResponse.NOT_SERVING
        states.cancel()
        assert spinning.result(PATIENCE).outputs["n"].int64_val[0] == turns
        assert server.process.wait(PATIENCE) == 0


def test_a_port_that_another_has(models: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, log = run_to_end(
            f"--model_base_path={models / 'keras'}", f"--rest_api_port={free_port()}", f"--port={port}"
        )
    assert code == 1
    assert log.endswith(f"embedded_server: cannot listen on 127.0.0.1:{port}: Address already in use\n")


def test_a_port_that_another_gets_while_the_model_is_loading(models: Path) -> None:
    reserved = reserve_port("127.0.0.1", 0)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(reserved.getsockname())
        other.listen()
        metrics = Metrics()
        flags = parse_flags([f"--model_base_path={models / 'keras'}"])
        manager = Manager(Models(), flags, (), metrics)
        server = GrpcServer(Models(), manager, Inference(metrics), metrics, 1, LIMITS, Memory(1))
        with pytest.raises(StartError, match="Address already in use"):
            server.start(reserved)
    reserved.close()


def test_other_models_by_a_request(models: Path) -> None:
    with Server(f"--model_base_path={models / 'keras'}", "--model_name=old") as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            request = model_management_pb2.ReloadConfigRequest()
            message = "Only ModelConfigList is currently supported"
            assert message in refused(stub.HandleReloadConfigRequest, request)[1]
            config = request.config.model_config_list.config.add(name="new", model_platform="tensorflow")
            config.base_path = "keras"
            assert "absolute path" in refused(stub.HandleReloadConfigRequest, request)[1]
            config.base_path = str(models / "keras")
            attempts = "/tensorflow/cc/saved_model/load_attempt_count"
            names = (
                attempts,
                attempts.replace("/", ":"),
                attempts,
                "/tensorflow/serving/request_count",
                "no",
            )
            request.metric_names.extend(names)
            response = stub.HandleReloadConfigRequest(request, timeout=PATIENCE)
            assert response.status.error_code == 0
            increases = {metric.name: metric.int64_value_increase for metric in response.metric}
            assert increases == {names[0]: 1, names[1]: 1, names[3]: 0, "no": 0}
            assert len(response.metric) == len(increases)
        body = {"instances": np.zeros((1, 8, 8, 3)).tolist()}
        assert server.call("POST", "/v1/models/new:predict", body)[0] == 200
        loaded = f'model_path="{models / "keras" / "1"}",status="success"'
        metrics = values(page(server)[2])
        assert metrics[f":tensorflow:cc:saved_model:load_attempt_count{{{loaded}}}"] == 2
        wait_for(lambda: server.call("POST", "/v1/models/old:predict", body)[0] == 404)
