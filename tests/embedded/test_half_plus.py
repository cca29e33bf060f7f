"""TensorFlow Serving's half_plus_two and half_plus_three, and its guide's requests to them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from running import PATIENCE, Server
from tensorflow_serving.apis import inference_pb2, input_pb2, prediction_service_pb2_grpc

v1 = tf.compat.v1
PREDICT, CLASSIFY, REGRESS = (f"tensorflow/serving/{name}" for name in ("predict", "classify", "regress"))


def write(folder: Path, plus: float) -> None:
    """As testdata/half_plus_two and half_plus_three are: the inputs of the latter's Examples say float."""
    with tf.Graph().as_default(), v1.Session() as session:
        serialized = v1.placeholder(tf.string, name="tf_example")
        parsed = v1.parse_example(serialized, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        x = tf.identity(parsed["x"], "x")
        a, b = v1.get_variable("a", initializer=0.5), v1.get_variable("b", initializer=plus)
        y = tf.add(a * x, b, "y")
        session.run(v1.global_variables_initializer())
        info = v1.saved_model.build_tensor_info
        examples = info(serialized)
        if plus == 3.0:
            examples.dtype = tf.float32.as_datatype_enum
        signature = v1.saved_model.build_signature_def
        signatures = {
            "serving_default": signature({"x": info(x)}, {"y": info(y)}, PREDICT),
            "regress_x_to_y": signature({"inputs": examples}, {"outputs": info(y)}, REGRESS),
            "classify_x_to_y": signature({"inputs": examples}, {"scores": info(y)}, CLASSIFY),
        }
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("half")
    configs = ""
    for name, plus in (("half_plus_two", 2.0), ("half_plus_three", 3.0)):
        write(folder / name / "123", plus)
        configs += f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" }}\n'
    (folder / "models.config").write_text(f"model_config_list {{\n{configs}}}\n")
    with Server(f"--model_config_file={folder / 'models.config'}") as server:
        yield server


def test_predict(server: Server) -> None:
    body = {"instances": [1.0, 2.0, 5.0]}
    assert server.call("POST", "/v1/models/half_plus_two:predict", body) == (
        200,
        {"predictions": [2.5, 3.0, 4.5]},
    )
    column = {"inputs": [20000000, 16777216]}
    assert server.call("POST", "/v1/models/half_plus_three/versions/123:predict", column) == (
        200,
        {"outputs": [10000003.0, 8388611.0]},
    )


@pytest.mark.parametrize(("model", "first"), [("half_plus_two", [2.5, 3.0]), ("half_plus_three", [3.5, 4.0])])
def test_regress_and_classify(server: Server, model: str, first: list[float]) -> None:
    """The inputs of half_plus_three are declared as floats, and fed with serialized Examples all the same."""
    body: dict[str, Any] = {"signature_name": "regress_x_to_y", "examples": [{"x": 1.0}, {"x": 2.0}]}
    assert server.call("POST", f"/v1/models/{model}:regress", body) == (200, {"results": first})
    body["signature_name"] = "classify_x_to_y"
    assert server.call("POST", f"/v1/models/{model}:classify", body) == (
        200,
        {"results": [[["", value]] for value in first]},
    )


# Bodies and answers of the guide to the REST API (g3doc/api_rest.md), sent by curl as it shows.
GUIDE = (
    ("half_plus_three:predict", {"instances": [1.0, 2.0, 5.0]}, {"predictions": [3.5, 4.0, 5.5]}),
    (
        "half_plus_three:regress",
        {"signature_name": "regress_x_to_y", "examples": [{"x": 1.0}, {"x": 2.0}]},
        {"results": [3.5, 4.0]},
    ),
    (
        "half_plus_three:classify",
        {"signature_name": "classify_x_to_y", "examples": [{"x": 1.0}, {"x": 2.0}]},
        {"results": [[["", 3.5]], [["", 4.0]]]},
    ),
    ("half_plus_two:predict", {"instances": [1.0, 2.0, 5.0]}, {"predictions": [2.5, 3.0, 4.5]}),
)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(("path", "body", "answer"), GUIDE, ids=[path for path, *_ in GUIDE])
def test_the_lines_of_the_guide(
    server: Server, path: str, body: dict[str, Any], answer: dict[str, Any]
) -> None:
    url = f"http://127.0.0.1:{server.port}/v1/models/{path}"
    command = ["curl", "-s", "--noproxy", "*", "-d", json.dumps(body), "-X", "POST", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert json.loads(done.stdout) == answer


def test_the_status_that_the_guide_shows(server: Server) -> None:
    status = {"version": "123", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert server.call("GET", "/v1/models/half_plus_three") == (200, {"model_version_status": [status]})


def test_several_tasks_at_once(server: Server) -> None:
    request = inference_pb2.MultiInferenceRequest(input=input_pb2.Input())
    example = request.input.example_list.examples.add()
    example.features.feature["x"].float_list.value.append(3.0)
    for method, signature in ((CLASSIFY, "classify_x_to_y"), (REGRESS, "regress_x_to_y")):
        task = request.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = "half_plus_three", signature
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        classified, regressed = stub.MultiInference(request, timeout=PATIENCE).results
    assert classified.classification_result.classifications[0].classes[0].score == 4.5
    assert regressed.regression_result.regressions[0].value == 4.5
