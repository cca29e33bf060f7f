"""The same requests to TensorFlow and to the server, on both backends and over both protocols."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gallery
import grpc
import numpy as np
import pytest
import tensorflow as tf
from embedded_server import convert
from embedded_server.common.errors import Internal, InvalidArgument
from embedded_server.common.metrics import Metrics
from embedded_server.execution.backend import Array
from embedded_server.execution.inference import Inference
from embedded_server.execution.servable import Servable
from embedded_server.execution.tensorflow_backend import TensorFlowBackend
from gallery import EXAMPLES, EXHIBITS, Exhibit
from running import PATIENCE, Server
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

STOCK, OPTIMIZED = "tensorflow", "openvino"
DEFAULT = "serving_default"
# Of the f32 artefact, as in test_convert.py; halves are rounded on both sides, at another digit.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
HALF_TOLERANCE = {"rtol": 1e-2, "atol": 1e-2}

REQUESTS = [
    pytest.param(backend, exhibit, signature, inputs, id=f"{backend}-{exhibit.name}-{signature}-{number}")
    for backend in (STOCK, OPTIMIZED)
    for exhibit in EXHIBITS
    if exhibit.optimizable or backend == STOCK
    for number, (signature, inputs) in enumerate(exhibit.requests)
]
JUDGED = [
    pytest.param(backend, name, id=f"{backend}-{name}")
    for backend in (STOCK, OPTIMIZED)
    for name in ("examples", "native_examples")
]


class Direct:
    """TensorFlow executing a SavedModel in this process, with nothing of the server's."""

    def __init__(self, folder: Path, session: bool) -> None:
        self._loaded = None if session else tf.saved_model.load(str(folder))
        if session:
            self._session = tf.compat.v1.Session(graph=tf.Graph())
            with self._session.graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], str(folder))
            self._signatures = meta_graph.signature_def

    def run(self, signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        name = signature or DEFAULT
        if self._loaded is not None:
            outputs = self._loaded.signatures[name](
                **{key: tf.constant(value) for key, value in inputs.items()}
            )
            return {key: value.numpy() for key, value in outputs.items()}
        proto = self._signatures[name]
        outputs = self._session.run(
            {key: info.name for key, info in proto.outputs.items()},
            {proto.inputs[key].name: value for key, value in inputs.items()},
        )
        types = {key: tf.dtypes.as_dtype(info.dtype) for key, info in proto.outputs.items()}
        return {
            key: np.asarray(value, object if types[key] == tf.string else types[key].as_numpy_dtype)
            for key, value in outputs.items()
        }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All models, with the artefacts of those that can be optimized, and a configuration for each backend."""
    folder = tmp_path_factory.mktemp("gallery")
    for exhibit in EXHIBITS:
        base = folder / exhibit.name
        exhibit.write(base / "1")
        if exhibit.optimizable:
            convert.convert(base / "1", base / ".optimized" / "1", "")
    for backend in (STOCK, OPTIMIZED):
        names = [exhibit.name for exhibit in EXHIBITS if exhibit.optimizable or backend == STOCK]
        configs = "\n".join(
            f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" }}'
            for name in names
        )
        (folder / f"{backend}.config").write_text(f"model_config_list {{ {configs} }}")
    return folder


@pytest.fixture(scope="module")
def direct(folder: Path) -> Callable[[str], Direct]:
    """Each model, executed by TensorFlow."""
    loaded: dict[str, Direct] = {}

    def load(name: str) -> Direct:
        if name not in loaded:
            session = next(exhibit.session for exhibit in EXHIBITS if exhibit.name == name)
            loaded[name] = Direct(folder / name / "1", session)
        return loaded[name]

    return load


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Callable[[str], Served]]:
    """A server of each backend, with all the models that it can serve."""
    running: dict[str, Served] = {}
    with contextlib.ExitStack() as stack:

        def start(backend: str) -> Served:
            if backend not in running:
                config = f"--model_config_file={folder / backend}.config"
                server = stack.enter_context(Server(config, f"--backend={backend}", "--precision=f32"))
                channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}"))
                running[backend] = Served(server, channel)
            return running[backend]

        yield start


class Served:
    """A server, asked over both protocols."""

    def __init__(self, server: Server, channel: grpc.Channel) -> None:
        self.server = server
        self.stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def by_grpc(self, model: str, signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = model, signature
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        response = self.stub.Predict(request, timeout=PATIENCE)
        return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}

    def by_rest(self, model: str, method: str, body: Any) -> Any:
        status, answer = self.server.call("POST", f"/v1/models/{model}:{method}", body)
        assert status == 200, answer
        return answer


def to_json(value: Any) -> Any:
    """Nested lists of what JSON has."""
    if isinstance(value, list):
        return [to_json(element) for element in value]
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def from_json(name: str, value: Any, like: Array) -> Array:
    """The array of an answer."""

    def element(leaf: Any) -> Any:
        if isinstance(leaf, list):
            return [element(inner) for inner in leaf]
        return base64.b64decode(leaf["b64"]) if name.endswith("_bytes") else leaf.encode()

    if like.dtype == object:
        array = np.empty(like.shape, object)
        array[...] = np.array(element(value), object)
        return array
    return np.array(value, like.dtype)


def check(actual: Mapping[str, Array], expected: Mapping[str, Array], backend: str) -> None:
    """The same names, types, shapes and values: to the last bit, but for the arithmetic of OpenVINO."""
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype, name
        assert actual[name].shape == array.shape, name
        if backend == OPTIMIZED and array.dtype.kind in "fV":
            tolerance = HALF_TOLERANCE if array.dtype.itemsize == 2 else TOLERANCE
            wide = [value.astype(np.float64) for value in (actual[name], array)]
            np.testing.assert_allclose(*wide, **tolerance, err_msg=name)
        else:
            assert actual[name].tolist() == array.tolist(), name


@pytest.mark.parametrize(("backend", "exhibit", "signature", "inputs"), REQUESTS)
def test_predict(
    served: Callable[[str], Served],
    direct: Callable[[str], Direct],
    backend: str,
    exhibit: Exhibit,
    signature: str,
    inputs: Mapping[str, Array],
) -> None:
    expected = direct(exhibit.name).run(signature, inputs)
    server = served(backend)
    check(server.by_grpc(exhibit.name, signature, inputs), expected, backend)
    if not exhibit.json or not all(array.size for array in inputs.values()):
        return  # JSON cannot carry the one, nor tell the shape of the other
    columns = {name: to_json(array.tolist()) for name, array in inputs.items()}
    body = {"signature_name": signature, "inputs": columns}
    outputs = server.by_rest(exhibit.name, "predict", body)["outputs"]
    named = outputs if len(expected) > 1 else dict.fromkeys(expected, outputs)
    check({name: from_json(name, named[name], array) for name, array in expected.items()}, expected, backend)
    arrays = [*inputs.values(), *expected.values()]
    rows = arrays[0].shape[:1]
    if not rows or not rows[0] or any(array.shape[:1] != rows for array in arrays):
        return
    instances = [{name: column[row] for name, column in columns.items()} for row in range(*rows)]
    body = {"signature_name": signature, "instances": instances}
    predictions = server.by_rest(exhibit.name, "predict", body)["predictions"]
    named = {name: [row[name] if len(expected) > 1 else row for row in predictions] for name in expected}
    check({name: from_json(name, named[name], array) for name, array in expected.items()}, expected, backend)


FEATURES = [
    {"x": [1.0, 2.0, 3.0], "n": 4, "word": "s"},
    {"x": [0.5, 0.0, -1.0]},
    {"x": [0.0, 0.0, 0.0], "n": [0]},
]
"""EXAMPLES, as JSON."""


@pytest.mark.parametrize("backend", [STOCK, OPTIMIZED])
@pytest.mark.parametrize("signature", ["", "labels", "scores"])
def test_classify(
    served: Callable[[str], Served], direct: Callable[[str], Direct], backend: str, signature: str
) -> None:
    expected = direct("examples").run(signature, {"inputs": EXAMPLES})
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "examples", signature
    for serialized in EXAMPLES:
        request.input.example_list.examples.append(tf.train.Example.FromString(serialized))
    response = served(backend).stub.Classify(request, timeout=PATIENCE)
    assert response.model_spec.version.value == 1
    body = {"signature_name": signature, "examples": FEATURES}
    by_rest = served(backend).by_rest("examples", "classify", body)["results"]
    by_grpc = [[[one.label, one.score] for one in row.classes] for row in response.result.classifications]
    labels = expected.get("classes", np.full((3, 3), b"", object))
    scores = expected.get("scores", np.zeros((3, 3), np.float32))
    for judged in (by_rest, by_grpc):
        got = {
            "classes": np.array([[label.encode() for label, _ in row] for row in judged], object),
            "scores": np.array([[score for _, score in row] for row in judged], np.float32),
        }
        check(got, {"classes": labels, "scores": scores}, backend)


@pytest.mark.parametrize(("backend", "model"), JUDGED)
def test_regress_with_a_context(
    served: Callable[[str], Served], direct: Callable[[str], Direct], backend: str, model: str
) -> None:
    size = 3 if model == "examples" else 4
    context, features = {"x": [0.5] * size}, [{}, {"x": [float(i) for i in range(size)]}, {"y": 1}]
    whole = np.array([gallery.example(**{**context, **own}) for own in ({}, features[1], {})], object)
    expected = {"outputs": direct(model).run("regress", {"inputs": whole})["outputs"].reshape(-1)}
    body = {"signature_name": "regress", "context": context, "examples": features}
    results = served(backend).by_rest(model, "regress", body)["results"]
    check({"outputs": np.array(results, np.float32)}, expected, backend)
    request = regression_pb2.RegressionRequest()
    request.model_spec.name, request.model_spec.signature_name = model, "regress"
    given = request.input.example_list_with_context
    given.context.CopyFrom(tf.train.Example.FromString(gallery.example(**context)))
    for own in ({}, features[1], {}):
        given.examples.append(tf.train.Example.FromString(gallery.example(**own)))
    response = served(backend).stub.Regress(request, timeout=PATIENCE)
    values = [regression.value for regression in response.result.regressions]
    check({"outputs": np.array(values, np.float32)}, expected, backend)


def test_native_signatures_can_classify(
    served: Callable[[str], Served], direct: Callable[[str], Direct]
) -> None:
    """As in TensorFlow Serving, where --enable_signature_method_name_check is off."""
    rows = [[0.5, 1.5, -1.0, 2.0]]
    examples = np.array([gallery.example(x=row) for row in rows], object)
    expected = direct("native_examples").run("", {"inputs": examples})["scores"].tolist()
    results = served(STOCK).by_rest("native_examples", "classify", {"examples": [{"x": row} for row in rows]})
    scores = np.array([[score for _, score in row] for row in results["results"]], np.float32)
    assert scores.tolist() == expected
    assert {label for row in results["results"] for label, _ in row} == {""}


def test_several_judgements_of_the_same_examples(
    served: Callable[[str], Served], direct: Callable[[str], Direct]
) -> None:
    stub = served(STOCK).stub
    request = inference_pb2.MultiInferenceRequest(input=input_pb2.Input())
    for method, signature in (("classify", "scores"), ("regress", "regress")):
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "examples", signature
    for serialized in EXAMPLES:
        request.input.example_list.examples.append(tf.train.Example.FromString(serialized))
    classified, regressed = stub.MultiInference(request, timeout=PATIENCE).results
    scores = direct("examples").run("scores", {"inputs": EXAMPLES})["scores"]
    assert classified.model_spec.signature_name == "scores"
    rows = classified.classification_result.classifications
    assert [[one.score for one in row.classes] for row in rows] == scores.tolist()
    assert [one.value for one in regressed.regression_result.regressions] == scores[:, 0].tolist()
    request.tasks[1].model_spec.signature_name = "scores"
    with pytest.raises(grpc.RpcError, match="Duplicate evaluation of signature: scores"):
        stub.MultiInference(request, timeout=PATIENCE)


@pytest.mark.parametrize(
    ("method", "signature", "message"),
    [
        ("classify", "no", "No signature was found with the name: no"),
        ("classify", "predict", "No classification inputs found in SignatureDef"),
        ("classify", "regress", "Expected classification signature outputs to contain at least one of"),
        ("classify", "narrow", "Expected Tensor shape: [batch_size num_classes] but got [1]"),
        ("regress", "", "Expected one output Tensor."),
        ("regress", "scores", "No regression outputs found in SignatureDef"),
        ("regress", "wide", "either [batch_size] or [batch_size, 1] but got [1,3]"),
        ("regress", "whole", "Expected output Tensor of DT_FLOAT.  Got: int64"),
    ],
)
def test_signatures_that_do_not_fit(
    served: Callable[[str], Served], method: str, signature: str, message: str
) -> None:
    body = {"signature_name": signature, "examples": FEATURES[:1]}
    status, answer = served(STOCK).server.call("POST", f"/v1/models/examples:{method}", body)
    assert status == 400
    assert message in answer["error"]


def test_method_names_count_where_they_are_asked_for(folder: Path) -> None:
    """--enable_signature_method_name_check."""
    strict = Inference(Metrics(), check_method_names=True)
    examples, native = (
        Servable(name, 1, TensorFlowBackend.load(folder / name / "1"))
        for name in ("examples", "native_examples")
    )
    assert strict.classify(examples, "scores", EXAMPLES).labels is None
    assert len(strict.regress(examples, "regress", EXAMPLES)) == len(EXAMPLES)
    for servable, signature, name in ((examples, "regress", "regress"), (native, "", "predict")):
        with pytest.raises(
            InvalidArgument, match=f"tensorflow/serving/classify. Was: tensorflow/serving/{name}"
        ):
            strict.classify(servable, signature, EXAMPLES)
    with pytest.raises(InvalidArgument, match="Expected regression signature method_name"):
        strict.regress(native, "regress", EXAMPLES)
    with pytest.raises(Internal, match="Expected prediction signature method_name to be one of"):
        strict.predict(native, "__saved_model_init_op", {})


def test_an_example_that_the_model_cannot_read(served: Callable[[str], Served]) -> None:
    for backend in (STOCK, OPTIMIZED):
        body = {"signature_name": "scores", "examples": [{"x": "three"}]}
        status, answer = served(backend).server.call("POST", "/v1/models/examples:classify", body)
        assert status == 400
        assert "Key: x" in answer["error"]


@pytest.mark.parametrize("backend", [STOCK, OPTIMIZED])
def test_inputs_with_a_default(
    served: Callable[[str], Served], direct: Callable[[str], Direct], backend: str
) -> None:
    x = np.ones((1, 4), np.float32)
    expected = direct("defaults").run("", {"x": x, "scale": np.float32(3)})
    check(served(backend).by_grpc("defaults", "", {"x": x}), expected, backend)
    with pytest.raises(grpc.RpcError, match="Signature input alias: x"):
        served(backend).by_grpc("defaults", "", {"scale": np.float32(3)})


@pytest.mark.parametrize("value", [[[1, 2], [3]], [[1, 2], 3], [[1, [2]], [3, 4]]])
def test_ragged_inputs_are_refused(served: Callable[[str], Served], value: Any) -> None:
    for form in ("inputs", "instances"):
        status, answer = served(STOCK).server.call("POST", "/v1/models/unranked:predict", {form: value})
        assert status == 400
        words = ("at unexpected size", "at unexpected level", "at incorrect level", "Expecting")
        assert any(word in answer["error"] for word in words), answer
